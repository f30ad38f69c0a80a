from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.data.synthetic import write
from protomask.data.synthetic.scene import VAL_INDEX_START, render_scene
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.data.synthetic.write import write_dataset
from protomask.errors import ConfigError, DataError


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_dataset_reads_back_through_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    seen: list[tuple[int, int]] = []
    size = (96, 128)
    summary = write_dataset(
        tmp_path,
        images=5,
        val_images=3,
        seed=2,
        image_size=size,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (summary.train_images, summary.val_images, summary.reused) == (5, 3, False)
    assert seen == [(done, 8) for done in range(1, 9)]
    for split, count, start in (("train", 5, 0), ("val", 3, VAL_INDEX_START)):
        coco = COCO(str(tmp_path / "annotations" / f"{split}.json"))
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)
        assert len(coco.getImgIds()) == count
        assert coco.dataset["info"]["seed"] == 2
        assert [a["id"] for a in coco.dataset["annotations"]] == list(range(1, len(coco.dataset["annotations"]) + 1))
        for number, image_id in enumerate(sorted(coco.getImgIds())):
            record = coco.loadImgs(image_id)[0]
            rendered, target = render_scene(2, start + number, image_size=size)
            with Image.open(tmp_path / "images" / split / record["file_name"]) as stored:
                assert stored.size == (record["width"], record["height"]) == (128, 96)
                assert np.abs(np.asarray(stored, dtype=float) - rendered).mean() < 6
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
            assert [a["category_id"] - 1 for a in annotations] == target.labels.tolist()
            for annotation, mask, box in zip(annotations, target.masks, target.boxes, strict=True):
                assert np.array_equal(coco.annToMask(annotation), mask.numpy())
                assert annotation["area"] == int(mask.sum())
                left, top, width, height = annotation["bbox"]
                assert [left, top, left + width, top + height] == box.tolist()
                assert annotation["iscrowd"] == 0


def test_val_images_may_be_a_fraction_and_splits_differ(tmp_path: Path) -> None:
    summary = write_dataset(tmp_path, images=4, val_images=0.5, seed=0, image_size=(48, 48))
    assert summary.val_images == 2
    pictures = {path.read_bytes() for path in (tmp_path / "images").rglob("*.jpg")}
    assert len(pictures) == 6


def test_an_image_depends_on_neither_number_of_images_nor_workers(tmp_path: Path) -> None:
    write_dataset(tmp_path / "few", images=3, seed=9, image_size=(64, 64))
    write_dataset(tmp_path / "many", images=5, seed=9, image_size=(64, 64))
    few, many = files_of(tmp_path / "few"), files_of(tmp_path / "many")
    for name in ("images/train/000001.jpg", "images/train/000003.jpg"):
        assert few[name] == many[name]


@pytest.mark.slow
def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "alone", images=4, val_images=2, seed=9, image_size=(64, 64))
    write_dataset(tmp_path / "helped", images=4, val_images=2, seed=9, image_size=(64, 64), workers=2)
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "helped")


def test_a_complete_dataset_is_kept_and_an_interrupted_one_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_dataset(tmp_path, images=3, seed=1, image_size=(48, 48))
    before = files_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(write, "_write_scene", None)
        again = write_dataset(tmp_path, images=3, seed=1, image_size=(48, 48))
    assert again.reused
    assert again.train_objects == first.train_objects
    (tmp_path / "annotations" / "train.json").unlink()
    (tmp_path / "images" / "train" / "000002.jpg").unlink()
    assert not write_dataset(tmp_path, images=3, seed=1, image_size=(48, 48)).reused
    assert files_of(tmp_path) == before


def test_other_content_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="other content"):
        write_dataset(tmp_path, images=1, seed=0, image_size=(48, 48))
    write_dataset(tmp_path, images=3, seed=0, image_size=(48, 48), overwrite=True)
    with pytest.raises(DataError, match="same settings"):
        write_dataset(tmp_path, images=3, seed=1, image_size=(48, 48))
    write_dataset(tmp_path, images=1, seed=1, image_size=(48, 48), overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "images" / "train").iterdir()] == ["000001.jpg"]
    assert json.loads((tmp_path / "annotations" / "train.json").read_text())["info"]["seed"] == 1


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken"):
        write_dataset(tmp_path / "taken", images=1, seed=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"images": 0},
        {"images": -1},
        {"images": 1, "val_images": 1.5},
        {"images": 1, "workers": -1},
        {"images": 1, "seed": -3},
    ],
)
def test_impossible_datasets_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        write_dataset(tmp_path, **{"seed": 0, **settings})  # type: ignore[arg-type]
    assert not files_of(tmp_path)
