"""Tiles cover, and what was found in them becomes one set of instances."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fake_predictor import CLASS_NAMES, Box, FakePredictor, scene
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.tiling import Tile, Tiling, merge_tiles
from protomask.masks.rle import decode_rle
from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances

SIZE = (60, 180)
LEFT, RIGHT = Tile(0, 0, 100, 60), Tile(80, 0, 180, 60)


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
    ],
)
def test_impossible_tilings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tiling(**options)


@given(st.integers(32, 300), st.one_of(st.floats(0, 0.999), st.integers(1, 400).map(float)))
def test_options_and_tilings_agree(side: int, overlap: float) -> None:
    try:
        tiling = Tiling(size=side, overlap=overlap)
    except ConfigError:
        with pytest.raises(ConfigError, match="tile_overlap"):
            PredictOptions(tile=side, tile_overlap=overlap)
        return
    options = PredictOptions(tile=side, tile_overlap=overlap)
    assert Tiling.of(options) == tiling
    assert options.tile_overlap_pixels == tiling.overlap_pixels


def test_options_without_tiles_give_no_tiling() -> None:
    with pytest.raises(ConfigError, match="tile: expected the side of the tiles, got none"):
        Tiling.of(PredictOptions())


def filled(*boxes: Box, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    masks = np.zeros((len(boxes), *size), dtype=np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def seen_in(tile: Tile, *objects: tuple[Box, int, float], mask_scores: bool = False) -> Instances:
    """What a perfect network finds of rectangles (px of the image), labels and scores in a tile."""
    masks = filled(*(box for box, _, _ in objects))[:, tile.top : tile.bottom, tile.left : tile.right]
    scores = np.array([score for _, _, score in objects], dtype=np.float32)
    return Instances(
        boxes=boxes_of_masks(masks), labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        class_scores=scores, masks=masks, image_size=tile.size, class_names=CLASS_NAMES,
        mask_scores=np.full_like(scores, 0.5) if mask_scores else None,
    )  # fmt: skip


def told(merged: Instances) -> list[tuple[Box, int, float]]:
    boxes: list[Box] = [(int(x1), int(y1), int(x2), int(y2)) for x1, y1, x2, y2 in merged.boxes.tolist()]
    scores = [round(score, 3) for score in merged.class_scores.tolist()]
    np.testing.assert_array_equal(merged.masks, filled(*boxes, size=merged.image_size))
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
    np.testing.assert_array_equal(decode_rle(row["segmentation"]), merged.masks[0])
    assert row["bbox"] == [20, 10, 140, 20]
    [[polygon]] = merged.polygons()
    assert len(polygon.exterior) == 4
    assert merged.draw(np.zeros((*SIZE, 3), dtype=np.uint8)).any()
    assert len(merged[merged.scores > 0.5]) == 0
    assert merged.class_names == CLASS_NAMES


RNG = np.random.default_rng(0)
# Twenty objects, none so near to another that they could be taken for one.
OBJECTS: list[tuple[Box, int, int]] = [
    ((x, y, x + int(width), y + int(height)), int(label), int(score))
    for (x, y), width, height, label, score in zip(
        [(x, y) for y in range(3, 90, 24) for x in range(4, 140, 29)],
        RNG.integers(5, 14, 20), RNG.integers(5, 11, 20), RNG.integers(0, 2, 20), RNG.permutation(range(100, 250))[:20],
        strict=True,
    )
]  # fmt: skip


def seen(found: Instances) -> list[tuple[Box, int, int]]:
    return [(box, label, round(score * 255)) for box, label, score in told(found)]


def best(objects: Sequence[tuple[Box, int, int]]) -> list[tuple[Box, int, int]]:
    return sorted(objects, key=lambda one: -one[2])


@pytest.mark.parametrize("options", [{}, {"tile_overlap": 16}, {"tile_overlap": 0.5, "batch_size": 2}, {"tile": 40}])
def test_prediction_in_tiles_finds_what_the_whole_image_shows(options: dict[str, Any]) -> None:
    options = {"tile": 64, **options}
    image = scene((100, 150), *OBJECTS)
    assert seen(FakePredictor().predict(image)) == best(OBJECTS)
    predictor = FakePredictor()
    assert seen(predictor.predict(image, **options)) == best(OBJECTS)
    # The image as a whole, and then its tiles.
    assert predictor.batches[0] == [(100, 150)]
    assert {size for batch in predictor.batches[1:] for size in batch} == {(options["tile"], options["tile"])}
    assert max(len(batch) for batch in predictor.batches) == options.get("batch_size", 1)
    tiles = Tiling.of(PredictOptions(**options)).tiles((100, 150))
    assert sum(len(batch) for batch in predictor.batches[1:]) == len(tiles)


def test_an_object_larger_than_a_tile_is_found_once() -> None:
    large: tuple[Box, int, int] = ((10, 20, 140, 50), 1, 200)
    image = scene((100, 150), large, ((30, 70, 40, 80), 0, 150))
    assert seen(FakePredictor().predict(image, tile=64)) == [large, ((30, 70, 40, 80), 0, 150)]


def test_an_image_that_fits_is_predicted_as_it_is() -> None:
    for image in (scene((64, 80), *OBJECTS[:2]), scene((80, 33), OBJECTS[0])):
        predictor = FakePredictor()
        one, other = predictor.predict(image), predictor.predict(image, tile=80)
        assert predictor.batches == [[image.shape[:2]]] * 2
        assert seen(one) == seen(other)


def test_large_and_small_images_together() -> None:
    large, small = scene((90, 150), *OBJECTS[:14]), scene((50, 60), OBJECTS[0])
    predictor = FakePredictor()
    found = predictor.predict([small, large, small], tile=64, batch_size=8)
    assert [one.image_size for one in found] == [(50, 60), (90, 150), (50, 60)]
    assert [len(one) for one in found] == [1, 14, 1]
    # Those that fit go through the network together.
    assert predictor.batches[0] == [(50, 60), (50, 60)]


@pytest.mark.parametrize(("wanted", "expected", "each"), [(None, 20, None), (3, 3, None), (145, 20, 145)])
def test_the_limit_holds_for_the_image_and_not_for_its_tiles(
    wanted: int | None, expected: int, each: int | None
) -> None:
    predictor = FakePredictor()
    found = predictor.predict(scene((100, 150), *OBJECTS), tile=64, max_detections=wanted)
    assert seen(found) == best(OBJECTS)[:expected]
    # A tile may find as many as the model does in an image, or as are wanted of all.
    assert {options.max_detections for options in predictor.options} == {each}


def test_more_can_be_wanted_of_all_tiles_than_the_model_can_find_in_one() -> None:
    predictor = FakePredictor(most=4)
    image = scene((100, 150), *OBJECTS)
    assert len(predictor.predict(image)) == 4
    assert len(predictor.predict(image, tile=48)) == 4
    found = predictor.predict(image, tile=48, max_detections=15)
    assert len(found) == 15
    assert {options.max_detections for options in predictor.options} == {None}
    # For an image that fits, the limit of the model is the limit.
    predictor.options.clear()
    assert len(predictor.predict(scene((40, 40), OBJECTS[0]), tile=48, max_detections=15)) == 1
    assert [options.max_detections for options in predictor.options] == [4]


def test_classes_compete_where_the_kind_of_suppression_says_so() -> None:
    class Undecided(FakePredictor):
        """Sees nuts in the one tile and bolts in the other."""

        def predict_batch(
            self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
        ) -> list[Instances]:
            found = super().predict_batch(images, options, timings=timings)
            if images[0].shape[:2] == SIZE:
                return [found[0][:0]]
            return [one.replace(labels=np.full(len(one), place)) for place, one in enumerate(found)]

    image = scene(SIZE, (IN_BOTH, 0, 200))
    options = PredictOptions(tile=100, tile_overlap=20, batch_size=2)
    assert len(Undecided().predict(image, options)) == 2
    assert len(Undecided().predict(image, options, nms="cross_class_fast")) == 1


def test_timings_add_up_over_tiles() -> None:
    timings: dict[str, float] = {}
    image = scene((70, 70), OBJECTS[0])
    FakePredictor().predict_images([image], PredictOptions(tile=64), timings=timings)
    assert set(timings) == {"network", "postprocess"}
    assert all(seconds > 0 for seconds in timings.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8}, "tile: expected a whole number of at least 32 pixels or none, got 8"),
        ({"tile": 64, "tile_overlap": 80}, "tile_overlap: .* fewer pixels than tile=64, got 80"),
        ({"tile": 64, "max_detections": 0}, "max_detections"),
        ({"tile": 64, "nms": "slow"}, "nms"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FakePredictor().predict(scene((70, 70)), **options)
