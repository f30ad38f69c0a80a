"""Images that are listed and not there, or not where they are listed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import exports
from coco_folders import write_coco
from protomask.data.coco.dataset import CocoDataset
from protomask.data.doctor.check import check_dataset
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError

OUTLINE = [[1, 1, 5, 1, 5, 4, 1, 4]]


def coco(folder: Path) -> Path:
    return write_coco(folder, {"a.jpg": [("cell", OUTLINE)], "b.jpg": [("dog", OUTLINE)]})


def write_labelme(source: Path, output: Path) -> None:
    convert_dataset(source, output, output_format="labelme")


def write_voc(source: Path, output: Path) -> None:
    convert_dataset(source, output, output_format="voc")


def write_masks(source: Path, output: Path) -> None:
    convert_dataset(source, output, output_format="masks")


def write_label_maps(source: Path, output: Path) -> None:
    convert_dataset(source, output, output_format="label-maps")


def write_yolo_list(source: Path, output: Path) -> None:
    convert_dataset(source, output, output_format="yolo")
    (output / "list.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\n")
    (output / "data.yaml").write_text("train: list.txt\nnames: [cell, dog]\n")


WRITERS = (
    shutil.copytree, exports.write_roboflow, exports.write_cvat, exports.write_via, exports.write_label_studio,
    exports.write_supervisely, exports.write_panoptic, write_labelme, write_voc, write_masks, write_label_maps,
    write_yolo_list,
)  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_missing_images_are_skipped_if_asked(tmp_path: Path, write: Callable[[Path, Path], object]) -> None:
    source = tmp_path / "in"
    write(coco(tmp_path / "coco"), source)
    [image] = [path for path in source.rglob("*.jpg") if path.name.startswith("b") or path.name.endswith("-b.jpg")]
    image.unlink()
    with pytest.raises(DataError, match=r"skip_missing leaves (such images|them) out"):
        convert_dataset(source, tmp_path / "out", output_format="coco")
    assert not (tmp_path / "out").exists()
    done = convert_dataset(source, tmp_path / "out", output_format="coco", skip_missing=True)
    assert (sum(done.images.values()), sum(done.objects.values())) == (1, 1)
    [told] = [remark for remark in done.remarks if "not there" in remark]
    assert told.startswith("1 listed images that are not there left out (first: ")


def test_all_missing_images_are_an_error(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco")
    for path in (source / "images" / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="2 of 2 image files are missing"):
        convert_dataset(source, tmp_path / "out", output_format="coco")
    with pytest.raises(DataError, match="expected images, found none"):
        convert_dataset(source, tmp_path / "out", output_format="coco", skip_missing=True)


def _deeper(source: Path) -> None:
    images = source / "images" / "train"
    for folder, name in (("monday", "a.jpg"), ("tuesday", "b.jpg")):
        (images / folder).mkdir()
        (images / name).rename(images / folder / name)


def test_images_in_folders_below_are_found_and_said(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco")
    _deeper(source)
    done = convert_dataset(source, tmp_path / "out", output_format="coco")
    assert done.images == {"train": 2}
    [told] = done.remarks
    assert told.startswith("2 images in a different folder from the one listed (first: ")
    assert told.endswith("'a.jpg' is monday/a.jpg)")


def test_training_and_the_check_find_them_too(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco")
    shutil.copytree(source / "images" / "train", source / "images" / "val")
    shutil.copy(source / "annotations" / "train.json", source / "annotations" / "val.json")
    _deeper(source)
    dataset = CocoDataset(source / "annotations" / "train.json", source / "images" / "train")
    assert dataset.load_image(1).shape[0] == 3
    report = check_dataset(source)
    assert report.of("error") == []
    [note] = [problem for problem in report.of("note") if problem.kind == "file in another folder"]
    assert note.places == ("a.jpg", "b.jpg")
    assert "the file is monday/a.jpg in" in note.message


def test_a_name_in_two_folders_is_missing_and_both_are_named(tmp_path: Path) -> None:
    source = coco(tmp_path / "coco")
    _deeper(source)
    images = source / "images" / "train"
    shutil.copy(images / "monday" / "a.jpg", images / "tuesday" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg \(there are monday/a\.jpg, tuesday/a\.jpg\)"):
        CocoDataset(source / "annotations" / "train.json", images)


def test_the_folder_in_a_name_decides_between_equal_names(tmp_path: Path) -> None:
    source = tmp_path / "in"
    exports.write_cvat(coco(tmp_path / "coco"), source)
    file = source / "annotations.xml"
    file.write_text(file.read_text().replace('name="a.jpg"', 'name="one/a.jpg"'))
    for folder in ("one", "two"):
        (source / "images" / folder).mkdir()
        shutil.copy(source / "images" / "a.jpg", source / "images" / folder / "a.jpg")
    (source / "images" / "a.jpg").unlink()
    convert_dataset(source, tmp_path / "out", output_format="coco")
    file.write_text(file.read_text().replace("one/", ""))
    with pytest.raises(DataError, match=r"several images are called 'a\.jpg': images/one/a"):
        convert_dataset(source, tmp_path / "other", output_format="coco")


@pytest.mark.parametrize("root_name", ["my-things", "dog"])
def test_the_parent_category_of_roboflow_is_no_class(tmp_path: Path, root_name: str) -> None:
    source = tmp_path / "in"
    write_coco(coco(tmp_path / "coco"), {"c.jpg": []}, split="val")
    exports.write_roboflow(tmp_path / "coco", source, root_name=root_name)
    done = convert_dataset(source, tmp_path / "out", output_format="coco")
    assert done.class_names == ("cell", "dog")
    assert done.images == {"train": 2, "val": 1}
    content = json.loads((tmp_path / "out" / "annotations" / "val.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in content["categories"]] == [(1, "cell"), (2, "dog")]
