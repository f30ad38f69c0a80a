from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from protomask.images.labels import draw_labels

Box = tuple[int, int, int, int]
LONG = "window shutter (wooden, closed)"


@dataclass(frozen=True)
class Label:
    text: str
    box: NDArray[np.float64]

    def hidden(self, other: Box) -> float:
        """Share of a box that lies below the label."""
        low, high = np.maximum(self.box[:2], other[:2]), np.minimum(self.box[2:], other[2:])
        return float((high - low).clip(0).prod() / ((other[2] - other[0]) * (other[3] - other[1])))


def labels_of(
    boxes: Sequence[Box], names: Sequence[str], scores: Sequence[float] | None, frame: tuple[int, int] = (500, 500)
) -> list[Label]:
    """What was written where, in order; the far side of a label's box excluded."""
    pen = ImageDraw.Draw(Image.new("RGB", frame[::-1]))
    texts: list[str] = []
    places: list[Sequence[float]] = []
    pen.text = lambda place, text, **_: texts.append(text)  # type: ignore[method-assign]
    pen.rounded_rectangle = lambda place, **_: places.append(place)  # type: ignore[method-assign]
    draw_labels(
        pen,
        names,
        None if scores is None else np.array(scores, dtype=np.float32),
        corners=np.array(boxes, dtype=np.int64).reshape(-1, 4),
        colors=[(0, 0, 0)] * len(boxes),
        font_size=12,
        frame=frame,
    )
    assert len(texts) == len(places)
    return [Label(text, np.add(place, (0, 0, 1, 1))) for text, place in zip(texts, places, strict=True)]


def test_a_name_is_whole_where_it_hides_nothing() -> None:
    assert [one.text for one in labels_of([(200, 200, 230, 230)], [LONG], [0.75])] == [f"{LONG} 0.75"]


def test_a_name_gets_shorter_rather_than_hide_small_objects() -> None:
    """Between two rows of small neighbours, there is only room for a short label."""
    middle: Box = (240, 240, 260, 260)
    around: list[Box] = [(x, y, x + 14, y + 14) for y in range(180, 330, 15) for x in (60, 75, 90, 394, 409, 424)]
    small: list[Box] = [(x, y, x + 14, y + 14) for y in (205, 285) for x in range(150, 340, 15)]
    others = [*around, *small]
    drawn = labels_of([middle, *others], [LONG, *["x"] * len(others)], None)
    text = drawn[0].text
    assert "…" in text
    assert text.startswith("window")
    assert text.endswith("closed)")
    assert max(drawn[0].hidden(box) for box in others) < 0.3


@pytest.mark.parametrize("gap", [0, 3, 8, 20])
@pytest.mark.parametrize("scored", [False, True])
def test_no_label_hides_a_small_object(gap: int, scored: bool) -> None:
    boxes: list[Box] = [(x, y, x + 30, y + 20) for y in range(10, 460, 20 + gap) for x in range(10, 450, 30 + gap)]
    scores = np.linspace(0.3, 0.9, len(boxes)).tolist() if scored else None
    drawn = labels_of(boxes, ["half-timbered window"] * len(boxes), scores)
    hidden = max((label.hidden(box) for label in drawn for box in boxes), default=0.0)
    assert hidden < 0.31
    assert bool(drawn) or gap < 8


def test_where_there_are_many_names_get_shorter() -> None:
    boxes: list[Box] = [(20, y, 60, y + 30) for y in range(20, 480, 55)]
    few, many = (labels_of(boxes[:count], [LONG] * count, None, frame=(500, 400)) for count in (3, 9))
    assert {one.text for one in few} == {LONG}
    assert len(many) == 9
    assert all("…" in one.text and one.text.startswith("window") for one in many)


def test_in_a_crowd_the_best_of_each_name_keeps_it() -> None:
    boxes: list[Box] = [(x, y, x + 20, y + 20) for y in range(30, 470, 60) for x in range(10, 470, 45)]
    names = ["window" if index % 3 else "a door" for index in range(len(boxes))]
    scores = np.random.default_rng(0).uniform(0.1, 0.8, len(boxes)).round(2)
    scores[[30, 31]] = 0.95, 0.97
    drawn = labels_of(boxes, names, scores.tolist())
    named = [one.text for one in drawn if not one.text[0].isdecimal()]
    assert sorted(named) == ["a door 0.95", "window 0.97"]
    assert len(drawn) > 10


def test_a_name_of_many_lines_is_one_line() -> None:
    assert [one.text for one in labels_of([(200, 200, 230, 230)], ["two\nlines"], None)] == ["two lines"]


@pytest.mark.parametrize("width", [1, 8, 40, 90])
def test_labels_stay_inside_a_narrow_frame(width: int) -> None:
    for label in labels_of([(0, 100, 1, 101)], [LONG], [0.5], frame=(200, width)):
        assert label.box[0] >= 0
        assert label.box[2] <= width
