"""Drawing of videos: what stays from frame to frame, and what can be switched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.errors import ConfigError
from protomask.images.draw import PALETTE
from protomask.inference.painter import PaintOptions, TrackPainter
from protomask.inference.zones.counter import ZoneCounter
from protomask.inference.zones.regions import Line, Zone
from protomask.masks.polygons import Polygon
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

SIZE = (240, 320)
GREY = 90
Pixels = NDArray[np.uint8]


def frame(index: int, places: dict[int, tuple[float, float]], *, side: int = 40, **changes: Any) -> Frame:
    """Squares by track, each at (x, y) of its top left corner."""
    masks = np.zeros((len(places), *SIZE), dtype=np.bool_)
    boxes = np.zeros((len(places), 4), dtype=np.float32)
    for mask, box, (x, y) in zip(masks, boxes, places.values(), strict=True):
        mask[round(y) : round(y) + side, round(x) : round(x) + side] = True
        box[:] = x, y, x + side, y + side
    found = Instances(
        boxes=boxes,
        labels=np.zeros(len(places), dtype=np.int64),
        class_names=("cart",),
        class_scores=np.full(len(places), 0.75, dtype=np.float32),
        masks=masks,
        image_size=SIZE,
        columns={"track_ids": np.array(list(places), dtype=np.int64)},
    )
    image = np.full((*SIZE, 3), GREY, dtype=np.uint8)
    return Frame(image, source="a.mp4", index=index, time=index / 10, found=found).replace(**changes)


def colored(pixels: Pixels, track: int) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (pixels == np.array(PALETTE[track % len(PALETTE)])).all(axis=2)
    return same


def columns_of(pixels: Pixels, track: int, rows: slice = slice(None)) -> tuple[int, int]:
    """First and last column with the colour of a track."""
    found = np.flatnonzero(colored(pixels, track)[rows].any(axis=0))
    return int(found[0]), int(found[-1])


PLAIN = PaintOptions(masks=False, labels=False, trails=0)


def test_colours_stay_with_tracks_whatever_their_order() -> None:
    painter = TrackPainter(PaintOptions(labels=False, trails=0))
    one = painter.draw(frame(0, {1: (20, 100), 2: (200, 100)}))
    other = painter.draw(frame(1, {2: (200, 100), 1: (20, 100)}))
    assert np.array_equal(one, other)
    assert columns_of(one, 1)[1] < columns_of(one, 2)[0]


def test_nothing_is_drawn_where_everything_is_off() -> None:
    drawn = TrackPainter(PLAIN).draw(frame(0, {1: (20, 100)}))
    assert (drawn == GREY).all()


@pytest.mark.parametrize("change", [{"masks": True}, {"boxes": True}, {"labels": True}])
def test_each_part_can_be_switched_on(change: dict[str, bool]) -> None:
    drawn = TrackPainter(PLAIN.replace(**change)).draw(frame(0, {1: (20, 100)}))
    assert colored(drawn, 1).any()


def test_a_trail_shows_where_a_track_has_been_and_no_longer_ago_than_asked() -> None:
    painter = TrackPainter(PLAIN.replace(trails=1.0))
    for index in range(30):
        drawn = painter.draw(frame(index, {1: (8 * index, 100)}))
    first, last = columns_of(drawn, 1)
    center = 8 * 29 + 20
    assert abs(last - center) <= 4
    assert abs(first - (center - 80)) <= 6  # one second of 80 px/s


def test_the_label_of_a_trembling_box_trembles_less_and_does_not_jump() -> None:
    rng = np.random.default_rng(0)
    painter = TrackPainter(PLAIN.replace(labels=True))
    lefts, boxes = [], []
    for index in range(60):
        x = 100 + rng.normal(0, 2)
        boxes.append(x)
        lefts.append(columns_of(painter.draw(frame(index, {1: (x, 100)})), 1)[0])
    assert np.std(lefts[20:]) < 0.6 * np.std(boxes[20:])
    assert np.ptp(lefts[20:]) < 12


def test_the_label_of_a_moving_box_does_not_fall_behind() -> None:
    painter = TrackPainter(PLAIN.replace(labels=True))
    for index in range(40):
        drawn = painter.draw(frame(index, {1: (5 * index, 100)}))
    assert abs(columns_of(drawn, 1)[0] - 5 * 39) <= 5


def test_a_label_keeps_its_place_when_another_object_comes_near() -> None:
    painter = TrackPainter(PLAIN.replace(labels=True))
    alone = painter.draw(frame(0, {1: (100, 100)}))
    for index in range(1, 4):
        both = painter.draw(frame(index, {1: (100, 100), 2: (100, 60 + index)}))
    above = slice(0, 100)
    assert columns_of(both, 1, above) == columns_of(alone, 1, above)


def test_speed_is_of_the_track_in_the_unit_that_was_asked_for() -> None:
    def written(options: PaintOptions) -> int:
        painter = TrackPainter(options)
        for index in range(30):
            drawn = painter.draw(frame(index, {1: (5 * index, 100)}))
        first, last = columns_of(drawn, 1)
        return last - first

    none, pixels = written(PLAIN.replace(labels=True)), written(PLAIN.replace(labels=True, speed=True))
    assert pixels > none + 20  # " 50 px/s"
    metres = TrackPainter(PLAIN.replace(labels=True, speed=True, pixels_per_metre=10.0))
    assert metres.draw(frame(0, {1: (5, 100)})).shape == (*SIZE, 3)


def test_a_new_source_forgets_the_paths_of_the_last() -> None:
    painter = TrackPainter(PLAIN.replace(trails=5.0))
    for index in range(10):
        painter.draw(frame(index, {1: (20 * index, 100)}))
    fresh = painter.draw(frame(0, {1: (0, 100)}, source="b.mp4"))
    assert not colored(fresh, 1)[:, 60:].any()


def test_zones_and_lines_are_drawn_with_their_counts() -> None:
    yard = Zone("yard", (Polygon(np.array([(90, 60), (200, 60), (200, 180), (90, 180)], dtype=np.float64)),))
    gate = Line("gate", np.array([(260, 200), (260, 40)], dtype=np.float64))
    counter = ZoneCounter([yard, gate])
    one = frame(0, {1: (120, 100)})
    drawn = TrackPainter(PLAIN, [yard, gate]).draw(one.replace(zones=counter.update(one)))
    white = (drawn == 255).all(axis=2)
    assert white[170:180, 90].all()
    assert white[100:180, 260].all()
    assert (TrackPainter(PLAIN, [yard, gate]).draw(one) == GREY).all()  # nothing was counted


def test_frames_without_tracks_are_drawn_like_images_and_empty_ones_are_kept() -> None:
    one = frame(0, {1: (120, 100)})
    assert one.found is not None
    still = TrackPainter(PaintOptions(scores=True, boxes=True, opacity=0.45)).draw(one.replace(time=None))
    assert np.array_equal(still, one.found.draw(one.image))
    assert (TrackPainter().draw(frame(0, {})) == GREY).all()
    with pytest.raises(ConfigError, match=r"frame 0 of a\.mp4: expected what was found"):
        TrackPainter().draw(one.replace(found=None))


def test_a_scale_needs_speeds() -> None:
    with pytest.raises(ConfigError, match="pixels_per_metre: expected none where speed is not drawn"):
        PaintOptions(pixels_per_metre=3.0)
