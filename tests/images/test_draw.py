from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from protomask.inference.draw import draw_instances

from protomask.errors import ConfigError, DataError
from protomask.images.draw import PALETTE
from protomask.structures.instances import Instances

SIZE = (120, 200)
NAMES = ("disc", "ring", "bar")


def make(
    boxes: list[tuple[float, float, float, float]],
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    names: tuple[str, ...] = NAMES,
) -> Instances:
    """Instances whose masks fill their boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[max(0, round(y1)) : max(0, round(y2)), max(0, round(x1)) : max(0, round(x2))] = True
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.int64),
        class_scores=torch.tensor(scores or [0.9] * len(boxes), dtype=torch.float32),
        masks=masks,
        image_size=size,
        class_names=names,
    )


def gray(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((*size, 3), 128, dtype=np.uint8)


def test_no_instances_give_the_image_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    drawn = draw_instances(image, make([]))
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_sources_agree_and_stay_as_they_are() -> None:
    image = gray()
    found = make([(20, 30, 90, 100)])
    expected = draw_instances(image, found)
    assert (image == 128).all()
    assert expected.shape == (*SIZE, 3)
    assert expected.dtype == np.uint8
    np.testing.assert_array_equal(draw_instances(Image.fromarray(image), found), expected)
    np.testing.assert_array_equal(draw_instances(torch.from_numpy(image).permute(2, 0, 1), found), expected)
    np.testing.assert_array_equal(found.draw(image), expected)


def test_only_the_mask_changes() -> None:
    found = make([(20, 30, 90, 100)])
    drawn = draw_instances(gray(), found, boxes=False, labels=False, opacity=0.5)
    changed = (drawn != 128).any(axis=2)
    np.testing.assert_array_equal(changed, found.masks[0].numpy())
    assert tuple(drawn[30, 50]) == PALETTE[0]  # outline
    np.testing.assert_allclose(drawn[65, 55], (np.array(PALETTE[0]) + 128) / 2, atol=1)  # fill


def test_holes_stay_clear_and_are_outlined() -> None:
    found = make([(20, 20, 100, 100)])
    masks = found.masks.clone()
    masks[0, 40:80, 40:80] = False
    found = Instances(
        boxes=found.boxes, labels=found.labels, class_scores=found.class_scores, masks=masks, image_size=SIZE,
        class_names=NAMES,
    )  # fmt: skip
    drawn = draw_instances(gray(), found, boxes=False, labels=False)
    assert (drawn[40:80, 40:80] == 128).all()
    assert tuple(drawn[60, 39]) == PALETTE[0]


def test_only_the_box_changes() -> None:
    drawn = draw_instances(gray(), make([(20, 30, 90, 100)]), masks=False, labels=False)
    changed = (drawn != 128).any(axis=2)
    expected = np.zeros(SIZE, dtype=bool)
    expected[30:100, 20:90] = True
    expected[31:99, 21:89] = False
    np.testing.assert_array_equal(changed, expected)


def test_label_stands_above_the_box_and_inside_the_frame() -> None:
    drawn = draw_instances(gray(), make([(20, 30, 90, 100)]), masks=False, boxes=False)
    ys, xs = np.nonzero((drawn != 128).any(axis=2))
    assert ys.max() < 30
    assert xs.min() == 20


@pytest.mark.parametrize("box", [(0, 0, 30, 20), (170, 0, 200, 20), (0, 100, 30, 120), (170, 100, 200, 120)])
def test_labels_do_not_hide_a_small_object_in_a_corner(box: tuple[float, float, float, float]) -> None:
    drawn = draw_instances(gray(), make([box]), masks=False, boxes=False)
    changed = (drawn != 128).any(axis=2)
    x1, y1, x2, y2 = (int(value) for value in box)
    assert changed.any()
    assert not changed[y1:y2, x1:x2].any()


def test_labels_without_scores_are_shorter() -> None:
    found = make([(40, 40, 100, 90)])
    with_score, without = (
        np.flatnonzero((draw_instances(gray(), found, masks=False, boxes=False, scores=scores) != gray()).any((0, 2)))
        for scores in (True, False)
    )
    assert 0 < len(without) < len(with_score)


def test_labels_do_not_cover_each_other() -> None:
    size = (600, 800)
    boxes: list[tuple[float, float, float, float]] = [(300, 200, 400, 300)] * 3
    alone = draw_instances(gray(size), make(boxes[:1], size=size), masks=False, boxes=False)
    together = draw_instances(gray(size), make(boxes, size=size), masks=False, boxes=False)
    assert (together != 128).any(axis=2).sum() == 3 * (alone != 128).any(axis=2).sum()


def test_crowded_pictures_are_not_buried_under_labels() -> None:
    boxes = [(x, y, x + 8, y + 8) for y in range(5, 110, 12) for x in range(5, 190, 12)]
    drawn = draw_instances(gray(), make([(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes]),
                           masks=False, boxes=False)  # fmt: skip
    assert 0 < (drawn != 128).any(axis=2).mean() < 0.16


@pytest.mark.parametrize(
    ("names", "color_by", "expected"),
    [
        (NAMES, "auto", (2, 2)),
        (("disc",), "auto", (0, 1)),
        (NAMES, "instance", (0, 1)),
        (("disc",), "class", (0, 0)),
    ],
)
def test_colors(names: tuple[str, ...], color_by: Any, expected: tuple[int, int]) -> None:
    label = len(names) - 1
    found = make([(10, 10, 50, 50), (100, 60, 150, 110)], [label, label], names=names)
    drawn = draw_instances(gray(), found, boxes=False, labels=False, opacity=1.0, color_by=color_by)
    assert (tuple(drawn[30, 30]), tuple(drawn[80, 120])) == (PALETTE[expected[0]], PALETTE[expected[1]])


def test_small_objects_come_over_large_ones_whatever_their_order() -> None:
    boxes: list[tuple[float, float, float, float]] = [(10, 10, 190, 110), (60, 40, 100, 80)]
    for order in ([0, 1], [1, 0]):
        found = make([boxes[index] for index in order], order)
        drawn = draw_instances(gray(), found, boxes=False, labels=False, opacity=1.0)
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


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corners=st.lists(st.tuples(*[st.floats(-80, 140, width=32)] * 4), max_size=5),
    name=st.sampled_from(["", "x", "a class name far longer than the picture is wide", "犬"]),
)
def test_any_box_in_any_frame(
    size: tuple[int, int], corners: list[tuple[float, float, float, float]], name: str
) -> None:
    found = make(corners, size=size, names=(name,))
    assert draw_instances(gray(size), found).shape == (*size, 3)


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (gray((50, 60)), {}, DataError, r"expected \(H, W\) = \(120, 200\) as predicted, got \(50, 60\)"),
        (gray(), {"opacity": 1.5}, ConfigError, "opacity"),
        (gray(), {"color_by": "shape"}, ConfigError, "color_by"),
    ],
)
def test_wrong_arguments(image: np.ndarray, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw_instances(image, make([(1, 1, 5, 5)]), **options)
