from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.images.draw import PALETTE, draw_objects
from protomask.masks.runs import Runs, mask_runs

SIZE = (120, 200)
Box = tuple[float, float, float, float]


def gray(size: tuple[int, int] = SIZE) -> Pixels:
    return np.full((*size, 3), 128, dtype=np.uint8)


def corners(*boxes: Box) -> NDArray[np.float32]:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def filled(*boxes: Box, size: tuple[int, int] = SIZE) -> list[Runs]:
    """Masks that fill their boxes."""
    masks = np.zeros((len(boxes), *size), dtype=np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[max(0, round(y1)) : max(0, round(y2)), max(0, round(x1)) : max(0, round(x2))] = True
    return [mask_runs(mask) for mask in masks]


def changed(drawn: Pixels) -> NDArray[np.bool_]:
    """(H, W): where a gray image was drawn on."""
    differs: NDArray[np.bool_] = np.logical_or.reduce(drawn != 128, axis=2)
    return differs


def labelled(*boxes: Box, size: tuple[int, int] = SIZE, **options: Any) -> Pixels:
    """Nothing but labels of objects called disc."""
    texts: dict[str, Any] = {"names": ["disc"] * len(boxes), "scores": np.full(len(boxes), 0.9, dtype=np.float32)}
    return draw_objects(gray(size), boxes=corners(*boxes), draw_boxes=False, **texts | options)


def tinted(*boxes: Box, opacity: float = 0.45, **options: Any) -> Pixels:
    """Nothing but masks."""
    masks = filled(*boxes)
    return draw_objects(gray(), boxes=corners(*boxes), masks=masks, draw_boxes=False, opacity=opacity, **options)


@pytest.mark.parametrize("options", [{}, {"masks": [], "names": [], "scores": np.zeros(0, dtype=np.float32)}])
def test_no_objects_give_the_image_back(options: dict[str, Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    drawn = draw_objects(image, boxes=corners(), **options)
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_image_stays_as_it_is_and_need_not_be_contiguous_or_writable() -> None:
    image, box = gray(), (20.0, 30.0, 90.0, 100.0)
    image.flags.writeable = False
    drawn = draw_objects(image, boxes=corners(box), masks=filled(box), names=["disc"])
    assert (image == 128).all()
    assert drawn.shape == (*SIZE, 3)
    assert drawn.dtype == np.uint8
    assert drawn.flags["WRITEABLE"]
    turned = np.asfortranarray(image)
    np.testing.assert_array_equal(draw_objects(turned, boxes=corners(box), masks=filled(box), names=["disc"]), drawn)


def test_only_the_mask_changes() -> None:
    drawn = tinted((20, 30, 90, 100), opacity=0.5)
    expected = np.zeros(SIZE, dtype=np.bool_)
    expected[30:100, 20:90] = True
    np.testing.assert_array_equal(changed(drawn), expected)
    assert tuple(drawn[30, 50]) == PALETTE[0]  # outline
    np.testing.assert_allclose(drawn[65, 55], (np.array(PALETTE[0]) + 128) / 2, atol=1)  # fill


@pytest.mark.parametrize(("opacity", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_the_opacity_of_the_fill(opacity: float, share: float) -> None:
    drawn = tinted((20, 30, 90, 100), opacity=opacity)
    np.testing.assert_allclose(drawn[65, 55], 128 + share * (np.array(PALETTE[0]) - 128.0), atol=1)
    assert tuple(drawn[30, 50]) == PALETTE[0]


def test_holes_stay_clear_and_are_outlined() -> None:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[20:100, 20:100] = True
    mask[40:80, 40:80] = False
    drawn = draw_objects(gray(), boxes=corners((20, 20, 100, 100)), masks=[mask_runs(mask)], draw_boxes=False)
    assert (drawn[40:80, 40:80] == 128).all()
    assert tuple(drawn[60, 39]) == PALETTE[0]


def test_only_the_box_changes() -> None:
    drawn = draw_objects(gray(), boxes=corners((20, 30, 90, 100)))
    expected = np.zeros(SIZE, dtype=np.bool_)
    expected[30:100, 20:90] = True
    expected[31:99, 21:89] = False
    np.testing.assert_array_equal(changed(drawn), expected)


def test_a_mask_without_pixels_has_no_place() -> None:
    nothing = [mask_runs(np.zeros(SIZE, dtype=np.bool_))]
    drawn = draw_objects(gray(), boxes=corners((20, 30, 90, 100)), masks=nothing, draw_boxes=False)
    assert not changed(drawn).any()


def test_a_label_stands_above_the_box_and_inside_the_frame() -> None:
    ys, xs = np.nonzero(changed(labelled((20, 30, 90, 100))))
    assert ys.max() < 30
    assert xs.min() == 20


@pytest.mark.parametrize("box", [(0, 0, 30, 20), (170, 0, 200, 20), (0, 100, 30, 120), (170, 100, 200, 120)])
def test_labels_do_not_hide_a_small_object_in_a_corner(box: Box) -> None:
    drawn = changed(labelled(box))
    x1, y1, x2, y2 = (int(value) for value in box)
    assert drawn.any()
    assert not drawn[y1:y2, x1:x2].any()


def test_labels_without_scores_are_shorter() -> None:
    with_score, without = (
        np.flatnonzero(changed(labelled((40, 40, 100, 90), scores=scores)).any(axis=0))
        for scores in (np.full(1, 0.9, dtype=np.float32), None)
    )
    assert 0 < len(without) < len(with_score)


def test_labels_do_not_cover_each_other() -> None:
    box = (300.0, 200.0, 400.0, 300.0)
    alone, together = (changed(labelled(*[box] * count, size=(600, 800))).sum() for count in (1, 3))
    assert together == 3 * alone


@pytest.mark.parametrize("scores", [np.full(144, 0.9, dtype=np.float32), None])
def test_crowded_images_are_not_buried_under_labels(scores: NDArray[np.float32] | None) -> None:
    boxes: list[Box] = [(x, y, x + 8.0, y + 8.0) for y in range(5, 110, 12) for x in range(5, 190, 12)]
    assert len(boxes) == 144
    assert 0 < changed(labelled(*boxes, scores=scores)).mean() < 0.16


def test_the_best_keep_their_labels() -> None:
    """Where there is room for a few of them only."""
    box = (60.0, 40.0, 140.0, 80.0)
    colors = list(range(12))
    drawn = labelled(*[box] * 12, scores=np.linspace(0.1, 0.9, 12, dtype=np.float32), color_ids=colors)
    seen = {color for color in colors if (drawn == PALETTE[color]).all(axis=2).any()}
    assert 0 < len(seen) < 12
    assert seen == set(colors[-len(seen) :])


@pytest.mark.parametrize(
    ("color_ids", "expected"),
    [(None, (0, 1)), ([2, 2], (2, 2)), (np.array([7, 3]), (7, 3)), ([len(PALETTE) + 1, 10**9], (1, 10**9 % 12))],
)
def test_colors(color_ids: Any, expected: tuple[int, int]) -> None:
    drawn = tinted((10, 10, 50, 50), (100, 60, 150, 110), opacity=1.0, color_ids=color_ids)
    assert (tuple(drawn[30, 30]), tuple(drawn[80, 120])) == (PALETTE[expected[0]], PALETTE[expected[1]])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_small_objects_come_over_large_ones_whatever_their_order(order: list[int]) -> None:
    boxes: list[Box] = [(10, 10, 190, 110), (60, 40, 100, 80)]
    drawn = tinted(*[boxes[index] for index in order], opacity=1.0, color_ids=order)
    assert tuple(drawn[60, 80]) == PALETTE[1]


def test_palette_colors_differ_also_for_colour_blind_eyes() -> None:
    # Machado, Oliveira and Fernandes 2009, deuteranopia and protanopia, severity 1.
    simulations = (
        np.eye(3),
        np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
        np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    )
    linear = (np.array(PALETTE) / 255.0) ** 2.2
    for matrix in simulations:
        seen = np.clip(linear @ matrix.T, 0, 1) ** (1 / 2.2)
        first_seven = seen[:7]
        distance = np.linalg.norm(first_seven[:, None] - first_seven[None], axis=2) + np.eye(7)
        assert distance.min() > 0.15


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    boxes=st.lists(st.tuples(*[st.floats(-80, 140, width=32)] * 4), max_size=5),
    name=st.sampled_from(["", "x", "a class name far longer than the image is wide", "犬", "two\nlines"]),
)
def test_any_box_in_any_frame(size: tuple[int, int], boxes: list[Box], name: str) -> None:
    scores = np.linspace(1, 0, len(boxes), dtype=np.float32)
    for masks in (filled(*boxes, size=size), None):
        drawn = draw_objects(gray(size), boxes=corners(*boxes), masks=masks, names=[name] * len(boxes), scores=scores)
        assert drawn.shape == (*size, 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_boxes_that_no_frame_holds(value: float) -> None:
    boxes = corners((20, 30, 90, 100), (value, 20, 50, 60), (10, 10, value, value))
    masks = filled(*[(20.0, 30.0, 90.0, 100.0)] * 3)
    assert draw_objects(gray(), boxes=boxes, masks=masks, names=["disc"] * 3).shape == (*SIZE, 3)


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_wrong_opacity(opacity: float) -> None:
    with pytest.raises(ConfigError, match=rf"^opacity: expected a number from 0 to 1, got {opacity}$"):
        tinted((1, 1, 5, 5), opacity=opacity)
