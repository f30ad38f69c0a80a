from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from protomask.data import synthetic
from protomask.data.synthetic import (
    CLASS_NAMES,
    MIN_VISIBLE_AREA,
    MIN_VISIBLE_SHARE,
    VAL_INDEX_START,
    PlacedObject,
    plan_scene,
    render_scene,
    write_dataset,
)
from protomask.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def plans() -> list[list[PlacedObject]]:
    return [plan_scene(11, index) for index in range(200)]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_same_seed_and_index_give_the_same_scene() -> None:
    first_image, first = render_scene(3, 5)
    again_image, again = render_scene(3, 5)
    assert np.array_equal(first_image, again_image)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.labels, again.labels)


@pytest.mark.parametrize(("seed", "index"), [(3, 6), (4, 5), (3, VAL_INDEX_START + 5)])
def test_another_seed_or_index_gives_another_scene(seed: int, index: int) -> None:
    assert not np.array_equal(render_scene(3, 5)[0], render_scene(seed, index)[0])


@pytest.mark.parametrize("image_size", [(256, 256), (120, 333), (300, 97), (32, 32), (33, 200), (512, 384)])
def test_masks_are_disjoint_and_boxes_tight_in_any_frame(image_size: tuple[int, int]) -> None:
    for index in range(4):
        image, target = render_scene(1, index, image_size=image_size)
        assert image.shape == (*image_size, 3)
        assert image.dtype == np.uint8
        assert target.image_size == image_size
        assert target.image_id == index
        assert target.masks.shape == (len(target), *image_size)
        assert target.masks.sum(dim=0).max() <= 1
        assert not target.is_crowd.any()
        for mask, box, label in zip(target.masks, target.boxes, target.labels, strict=True):
            assert 0 <= label < len(CLASS_NAMES)
            rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(side) for side in tight]


def test_scenes_without_objects_are_rare_and_ordinary(plans: list[list[PlacedObject]]) -> None:
    empty = [index for index, placed in enumerate(plans) if not placed]
    assert 1 <= len(empty) <= 12
    image, target = render_scene(11, empty[0])
    assert image.std() > 0
    assert len(target) == 0
    assert target.masks.shape == (0, 256, 256)


def test_every_class_appears_about_as_often(plans: list[list[PlacedObject]]) -> None:
    labels = [item.label for placed in plans for item in placed]
    shares = np.bincount(labels, minlength=len(CLASS_NAMES)) / len(labels)
    assert len(CLASS_NAMES) >= 8
    assert shares.min() > 0.06
    assert shares.max() < 0.14


def test_objects_really_overlap_and_stay_recognisable(plans: list[list[PlacedObject]]) -> None:
    hidden = np.array([item.occluded_share for placed in plans for item in placed])
    visible = np.array([item.visible.sum() for placed in plans for item in placed])
    assert 0.25 <= (hidden > 0.2).mean() <= 0.45
    assert hidden.max() <= 1 - MIN_VISIBLE_SHARE
    assert visible.min() >= MIN_VISIBLE_AREA


def test_sizes_range_from_tiny_to_large_and_shapes_from_compact_to_thin(plans: list[list[PlacedObject]]) -> None:
    diameters = np.array([item.diameter for placed in plans for item in placed])
    assert 0.02 < (diameters < 14).mean() < 0.15
    assert (diameters > 80).mean() > 0.05
    bars = [item for placed in plans for item in placed if CLASS_NAMES[item.label] == "bar"]
    assert max(item.diameter**2 / item.full_area for item in bars) > 5


def test_rings_have_holes(plans: list[list[PlacedObject]]) -> None:
    rings = [item for placed in plans for item in placed if CLASS_NAMES[item.label] == "ring"]
    assert rings
    for item in rings:
        assert len(item.rings) == 2
        x, y = (int(value) for value in item.rings[1].mean(axis=0))
        row, column = y - item.top, x - item.left
        if 0 <= row < item.visible.shape[0] and 0 <= column < item.visible.shape[1]:
            assert item.coverage[row, column] < 128


def test_objects_stand_out_from_their_surroundings() -> None:
    steps = []
    for index in range(12):
        image, target = render_scene(5, index)
        for mask in target.masks.numpy():
            grown = np.zeros_like(mask)
            grown[3:-3, 3:-3] = mask[6:, 3:-3] | mask[:-6, 3:-3] | mask[3:-3, 6:] | mask[3:-3, :-6]
            around = grown & ~mask
            if around.sum() > 20:
                steps.append(np.abs(image[mask].mean(axis=0) - image[around].mean(axis=0)).max())
    assert np.quantile(steps, 0.05) > 8
    assert np.median(steps) > 35


@pytest.mark.parametrize(
    ("seed", "index", "image_size"), [(-1, 0, (64, 64)), (0, -1, (64, 64)), (0, 0, (31, 64)), (0, 0, (64, 0))]
)
def test_impossible_scenes_are_refused(seed: int, index: int, image_size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        render_scene(seed, index, image_size=image_size)


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
        patch.setattr(synthetic, "_write_scene", None)
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
