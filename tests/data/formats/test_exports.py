"""What labelling tools export, converted: the same images, classes and masks as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import exports
from protomask.data.coco.dataset import CocoDataset
from protomask.data.doctor.check import check_dataset
from protomask.data.formats.convert import Conversion, convert_dataset
from protomask.data.synthetic.write import write_dataset
from protomask.masks.rle import decode_rle
from protomask.masks.segmentations import segmentation_of_mask

Objects = dict[str, list[tuple[str, np.ndarray]]]
WRITERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "roboflow": ("coco", exports.write_roboflow),
    "cvat": ("cvat", exports.write_cvat),
    "via project": ("via", exports.write_via),
    "via json": ("via", partial(exports.write_via, kind="json")),
    "via csv": ("via", partial(exports.write_via, kind="csv")),
    "label studio": ("label-studio", exports.write_label_studio),
    "label studio min": ("label-studio", partial(exports.write_label_studio, is_min=True)),
    "supervisely": ("supervisely", exports.write_supervisely),
    "panoptic": ("panoptic", exports.write_panoptic),
}
every_export = pytest.mark.parametrize(("source_format", "write"), WRITERS.values(), ids=WRITERS.keys())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic scenes: ten classes, outlines of one and of several parts, and codes of masks with holes."""
    folder = tmp_path_factory.mktemp("exports") / "scenes"
    write_dataset(folder, images=4, seed=3, image_size=(96, 128), val_images=2)
    for split in ("train", "val"):
        file = folder / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            entry["segmentation"] = segmentation_of_mask(decode_rle(entry["segmentation"]))
        file.write_text(json.dumps(content))
    return folder


def with_plain_objects(folder: Path, output: Path) -> Path:
    """The same data set without the objects that have holes or several parts."""
    shutil.copytree(folder, output)
    for file in (output / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        content["annotations"] = [one for one in content["annotations"] if exports.only_polygon(one) is not None]
        file.write_text(json.dumps(content))
    return output


def objects_of(folder: Path, split: str = "train") -> Objects:
    """Class and mask of each object by image, in the order of the file."""
    dataset = CocoDataset(folder / "annotations" / f"{split}.json", folder / "images" / split)
    found: Objects = {}
    for index in range(len(dataset)):
        target, _ = dataset.load_target(index)
        names = [dataset.class_names[label] for label in target.labels.tolist()]
        found[dataset.image_path(index).stem] = list(zip(names, target.masks.numpy(), strict=True))
    return found


def lowest_iou(before: Objects, after: Objects) -> float:
    """The lowest IoU of the mask of an object before and after; 0 where images or classes differ."""
    lowest = 1.0
    for stem, objects in before.items():
        [own] = [found for name, found in after.items() if stem in name]
        if [name for name, _ in own] != [name for name, _ in objects]:
            return 0.0
        for (_, one), (_, other) in zip(objects, own, strict=True):
            lowest = min(lowest, float((one & other).sum() / (one | other).sum()))
    return lowest if len(before) == len(after) else 0.0


def converted(source: Path, write: Callable[[Path, Path], None], folder: Path) -> Conversion:
    write(source, folder / "export")
    return convert_dataset(folder / "export", folder / "out", output_format="coco")


@every_export
def test_scenes_come_back(
    scenes: Path, tmp_path: Path, source_format: str, write: Callable[[Path, Path], None]
) -> None:
    # A region of VIA has one part, and no hole.
    source = with_plain_objects(scenes, tmp_path / "plain") if source_format == "via" else scenes
    done = converted(source, write, tmp_path)
    assert done.source_format == source_format
    before, after = objects_of(source), objects_of(tmp_path / "out")
    assert sum(map(len, before.values())) > 10
    assert lowest_iou(before, after) > 0.999
    told = {"coco": ["categories left out"], "panoptic": ["segments of stuff left out"]}
    assert [remark.partition(" (")[0].partition(" ")[2] for remark in done.remarks] == [
        *(f"{text}{', which has no instances' if 'stuff' in text else ''}" for text in told.get(source_format, []))
    ]


@every_export
def test_what_is_converted_passes_the_check(
    scenes: Path, tmp_path: Path, source_format: str, write: Callable[[Path, Path], None]
) -> None:
    write(scenes, tmp_path / "export")
    convert_dataset(tmp_path / "export", tmp_path / "out", output_format="coco", split=(50, 50))
    assert check_dataset(tmp_path / "out").of("error") == []


@every_export
def test_the_check_names_the_command(
    scenes: Path, tmp_path: Path, source_format: str, write: Callable[[Path, Path], None]
) -> None:
    export = tmp_path / "export"
    write(scenes, export)
    [problem] = check_dataset(export).of("error")
    split = "" if source_format in ("supervisely",) or (export / "valid").is_dir() else " --split 0.8,0.2"
    assert f"`protomask data convert {export} {export}-converted{split}` makes a data set of it" in problem.message


@pytest.mark.data
@every_export
@pytest.mark.parametrize("name", ["coco-mini", "dsb2018-nuclei"])
def test_real_objects_come_back(
    data_dir: Path, tmp_path: Path, name: str, source_format: str, write: Callable[[Path, Path], None]
) -> None:
    source = _slice(data_dir / name, tmp_path / "slice")
    if source_format == "via":
        source = with_plain_objects(source, tmp_path / "plain")
    converted(source, write, tmp_path)
    before, after = objects_of(source), objects_of(tmp_path / "out")
    if source_format == "panoptic":
        assert len(before) == len(after)  # a pixel has one object there
    else:
        assert lowest_iou(before, after) > (0.9 if source_format == "cvat" else 0.99)


def _slice(folder: Path, output: Path) -> Path:
    """The first images of the validation split as a training split."""
    content = json.loads((folder / "annotations" / "val.json").read_text())
    content["images"] = content["images"][: 8 if folder.name == "coco-mini" else 2]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [
        one for one in content["annotations"] if one["image_id"] in kept and not one.get("iscrowd")
    ]
    (output / "annotations").mkdir(parents=True)
    (output / "images").mkdir()
    (output / "images" / "train").symlink_to(folder / "images" / "val")
    (output / "annotations" / "train.json").write_text(json.dumps(content))
    return output
