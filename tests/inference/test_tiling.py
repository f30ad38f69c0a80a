"""Tiles cover, and what was found in them becomes one set of instances."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import protomask
from protomask.errors import ConfigError
from protomask.inference.predictor import Predictor
from protomask.inference.tiling import Tile, Tiling, merge_tiles
from protomask.ops.masks import box_of_masks, decode_rle
from protomask.structures.instances import Instances

SIZE = (60, 180)
LEFT, RIGHT = Tile(0, 0, 100, 60), Tile(80, 0, 180, 60)
Box = tuple[int, int, int, int]


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.integers(32, 300),
    st.one_of(st.floats(0, 0.9), st.integers(1, 31).map(float)),
)
def test_tiles_cover_every_pixel_and_overlap_as_asked(size: tuple[int, int], side: int, overlap: float) -> None:
    tiling = Tiling(size=side, overlap=overlap)
    tiles = tiling.tiles(size)
    covered = np.zeros(size, dtype=bool)
    for tile in tiles:
        assert 0 <= tile.left < tile.right <= size[1]
        assert 0 <= tile.top < tile.bottom <= size[0]
        assert tile.size == (min(side, size[0]), min(side, size[1]))
        covered[tile.top : tile.bottom, tile.left : tile.right] = True
    assert covered.all()
    for near, far in (("left", "right"), ("top", "bottom")):
        spans = sorted({(getattr(tile, near), getattr(tile, far)) for tile in tiles})
        assert all(first[1] - second[0] >= tiling.overlap_pixels for first, second in pairwise(spans))
        # No more of them than needed.
        length = size[1] if near == "left" else size[0]
        assert len(spans) == 1 or side + (len(spans) - 2) * (side - tiling.overlap_pixels) < length


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 31}, "tile: expected at least 32 pixels, got 31"),
        ({"size": 64, "overlap": -0.1}, "tile_overlap: .* got -0.1"),
        ({"size": 64, "overlap": 64}, "tile_overlap: .* fewer than tile=64, got 64"),
        ({"size": 64, "overlap": 0.999}, "tile_overlap"),
        ({"size": 64, "overlap": float("nan")}, "tile_overlap"),
        ({"size": 64, "batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_tilings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tiling(**options)


def filled(*boxes: Box, size: tuple[int, int] = SIZE) -> Tensor:
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def seen_in(tile: Tile, *objects: tuple[Box, int, float], mask_scores: bool = False) -> Instances:
    """What a perfect network finds of rectangles (px of the image), labels and scores in a tile."""
    masks = filled(*(box for box, _, _ in objects))[:, tile.top : tile.bottom, tile.left : tile.right]
    scores = torch.tensor([score for _, _, score in objects])
    return Instances(
        boxes=box_of_masks(masks), labels=torch.tensor([label for _, label, _ in objects], dtype=torch.int64),
        class_scores=scores, masks=masks, image_size=tile.size, class_names=("nut", "bolt"),
        mask_scores=torch.full_like(scores, 0.5) if mask_scores else None,
    )  # fmt: skip


def told(merged: Instances) -> list[tuple[Box, int, float]]:
    boxes = [tuple(int(side) for side in box) for box in merged.boxes.tolist()]
    scores = [round(score, 3) for score in merged.class_scores.tolist()]
    assert torch.equal(merged.masks, filled(*boxes))
    return list(zip(boxes, merged.labels.tolist(), scores, strict=True))


IN_BOTH, IN_LEFT, IN_RIGHT = (84, 10, 95, 30), (10, 10, 30, 30), (150, 10, 170, 30)
CUT, LONG = (90, 10, 130, 30), (20, 10, 160, 30)
MERGES: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
    "seen twice": ([(IN_BOTH, 0, 0.7)], [(IN_BOTH, 0, 0.8)], [(IN_BOTH, 0, 0.8)]),
    "seen once each": (
        [(IN_LEFT, 0, 0.7)], [(IN_RIGHT, 1, 0.8)], [(IN_RIGHT, 1, 0.8), (IN_LEFT, 0, 0.7)],
    ),
    "cut by a border, whole in the other tile": ([(CUT, 0, 0.9)], [(CUT, 0, 0.6)], [(CUT, 0, 0.6)]),
    "the cut part looks like something else": ([(CUT, 1, 0.9)], [(CUT, 0, 0.6)], [(CUT, 0, 0.6)]),
    "a cut part that the other tile does not confirm": ([(CUT, 1, 0.9)], [], []),
    "larger than the overlap": ([(LONG, 0, 0.5)], [(LONG, 0, 0.9)], [(LONG, 0, 0.9)]),
    "larger than the overlap, of two classes": (
        [(LONG, 0, 0.5)], [(LONG, 1, 0.9)], [((80, 10, 160, 30), 1, 0.9), ((20, 10, 100, 30), 0, 0.5)],
    ),
    "two that touch": (
        [((83, 10, 90, 30), 0, 0.9), ((90, 10, 97, 30), 0, 0.8)],
        [((83, 10, 90, 30), 0, 0.7), ((90, 10, 97, 30), 0, 0.6)],
        [((83, 10, 90, 30), 0, 0.9), ((90, 10, 97, 30), 0, 0.8)],
    ),
    "two that touch at the border": (
        [((40, 10, 90, 30), 0, 0.9)], [((90, 10, 150, 30), 0, 0.8)],
        [((40, 10, 90, 30), 0, 0.9), ((90, 10, 150, 30), 0, 0.8)],
    ),
    "two long ones that touch": (
        [((20, 10, 160, 20), 0, 0.9), ((20, 20, 160, 30), 0, 0.8)],
        [((20, 10, 160, 20), 0, 0.7), ((20, 20, 160, 30), 0, 0.95)],
        [((20, 20, 160, 30), 0, 0.95), ((20, 10, 160, 20), 0, 0.9)],
    ),
    "at the border of the image": ([((0, 0, 20, 60), 0, 0.9)], [], [((0, 0, 20, 60), 0, 0.9)]),
    "nothing": ([], [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGES)
def test_merging(name: str) -> None:
    left, right, expected = MERGES[name]
    assert told(merge_tiles([seen_in(LEFT, *left), seen_in(RIGHT, *right)], [LEFT, RIGHT], SIZE)) == expected


def test_classes_compete_where_asked() -> None:
    found = [seen_in(LEFT, (IN_BOTH, 0, 0.7)), seen_in(RIGHT, (IN_BOTH, 1, 0.8))]
    assert len(merge_tiles(found, [LEFT, RIGHT], SIZE)) == 2
    assert told(merge_tiles(found, [LEFT, RIGHT], SIZE, across_classes=True)) == [(IN_BOTH, 1, 0.8)]


def test_the_limit_holds_for_the_image() -> None:
    found = [seen_in(LEFT, (IN_LEFT, 0, 0.7)), seen_in(RIGHT, (IN_RIGHT, 1, 0.8))]
    assert told(merge_tiles(found, [LEFT, RIGHT], SIZE, max_detections=1)) == [(IN_RIGHT, 1, 0.8)]


def test_a_long_object_is_joined_over_many_tiles() -> None:
    tiles = Tiling(size=60, overlap=20).tiles(SIZE)
    assert len(tiles) == 4
    found = [
        seen_in(tile, ((5, 5, 175, 40), 0, score)) for tile, score in zip(tiles, (0.5, 0.9, 0.6, 0.7), strict=True)
    ]
    assert told(merge_tiles(found, tiles, SIZE)) == [((5, 5, 175, 40), 0, 0.9)]


def test_the_overview_gives_what_no_tile_shows() -> None:
    image = Tile(0, 0, 180, 60)
    overview = seen_in(image, (LONG, 0, 0.9), (IN_BOTH, 0, 0.9), (IN_LEFT, 0, 0.9))
    found = [seen_in(LEFT, (LONG, 0, 0.5)), seen_in(RIGHT, (LONG, 0, 0.6), (IN_RIGHT, 1, 0.8))]
    merged = merge_tiles(found, [LEFT, RIGHT], SIZE, overview=overview)
    assert told(merged) == [(LONG, 0, 0.9), (IN_RIGHT, 1, 0.8)]


def test_merged_instances_are_ordinary_instances() -> None:
    found = [seen_in(LEFT, (LONG, 0, 0.5), mask_scores=True), seen_in(RIGHT, (LONG, 0, 0.9), mask_scores=True)]
    merged = merge_tiles(found, [LEFT, RIGHT], SIZE)
    assert merged.mask_scores is not None
    assert merged.scores.tolist() == pytest.approx([0.45])
    [row] = merged.to_coco(1)
    assert torch.equal(decode_rle(row["segmentation"]), merged.masks[0])
    assert row["bbox"] == [20, 10, 140, 20]
    [[polygon]] = merged.polygons()
    assert len(polygon.exterior) == 4
    assert merged.draw(np.zeros((*SIZE, 3), dtype=np.uint8)).any()
    assert len(merged[merged.scores > 0.5]) == 0


@pytest.fixture(scope="module")
def model() -> Predictor:
    torch.manual_seed(0)
    return protomask.build(
        "yolact_nano", num_classes=3, device="cpu", backbone="shufflenet_v2_x1_0", image_size=64, fpn_channels=16,
        protonet_channels=8, num_prototypes=4, max_detections=20,
    )  # fmt: skip


def picture(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


EVERYTHING: dict[str, Any] = {"score_threshold": 0, "candidate_threshold": 0}


def test_an_image_that_fits_is_predicted_as_it_is(model: Predictor) -> None:
    for image in (picture(64, 80), picture(80, 33)):
        one, other = model.predict(image, **EVERYTHING), model.predict(image, tile=80, **EVERYTHING)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.masks, other.masks)


def test_prediction_in_tiles(model: Predictor) -> None:
    large, small = picture(90, 150), picture(50, 60)
    found = model.predict([large, small], tile=64, tile_overlap=0.25, batch_size=4, **EVERYTHING)
    assert [one.image_size for one in found] == [(90, 150), (50, 60)]
    alone = model.predict(large, tile=64, tile_overlap=16, batch_size=4, **EVERYTHING)
    assert torch.equal(alone.boxes, found[0].boxes)
    assert len(alone) == 20
    assert (alone.scores.diff() <= 0).all()
    # As many as are wanted of the image, more than one view of it can hold; each tile has the best of its own.
    more = model.predict(large, tile=64, max_detections=45, **EVERYTHING)
    assert len(more) == 45
    assert len(model.predict(large, tile=64, max_detections=3, **EVERYTHING)) == 3
    boxes = more.boxes
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([150.0, 90.0, 150.0, 90.0])).all()
    for box, mask in zip(boxes.tolist(), more.masks, strict=True):
        rows, columns = mask.nonzero().unbind(1)
        if len(rows):
            assert columns.min() >= box[0] - 8
            assert columns.max() <= box[2] + 8


def test_timings_add_up_over_tiles(model: Predictor) -> None:
    timings: dict[str, float] = {}
    model.predict_images([torch.from_numpy(picture(70, 70)).permute(2, 0, 1)], tiling=Tiling(size=64), timings=timings)
    assert set(timings) == {"preprocess", "network", "postprocess"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8}, "tile: expected at least 32"),
        ({"tile": 64, "tile_overlap": 80}, "tile_overlap"),
        ({"tile": 64, "max_detections": 0}, "max_detections"),
        ({"tile": 64, "nms": "slow"}, "nms"),
    ],
)
def test_bad_options_are_refused(model: Predictor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.predict(picture(70, 70), **options)
