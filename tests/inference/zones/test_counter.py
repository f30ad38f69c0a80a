"""Events of moving masks in zones and at lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from protomask.errors import ConfigError, DataError
from protomask.inference.zones.counter import ZoneCounter, ZoneOptions, count_zones
from protomask.inference.zones.regions import Line, Zone
from protomask.masks.polygons import Polygon
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.zone_report import ZoneEvent

SIZE = (40, 100)
Place = tuple[int, int]  # x, y of the top left corner of a square of 10 pixels
YARD = Zone("yard", (Polygon(np.array([(40, 0), (60, 0), (60, 40), (40, 40)], dtype=np.float64)),))
GATE = Line("gate", np.array([(50, 5), (50, 35)], dtype=np.float64))  # downwards: its left is larger x


def frame(index: int, places: dict[int, Place], *, source: str = "a.mp4", tracked: bool = True) -> Frame:
    masks = np.zeros((len(places), *SIZE), dtype=np.bool_)
    boxes = np.zeros((len(places), 4), dtype=np.float32)
    for mask, box, (x, y) in zip(masks, boxes, places.values(), strict=True):
        mask[y : y + 10, x : x + 10] = True
        box[:] = x, y, x + 10, y + 10
    found = Instances(
        boxes=boxes,
        labels=np.zeros(len(places), dtype=np.int64),
        class_names=("person",),
        masks=masks,
        image_size=SIZE,
        class_scores=np.full(len(places), 0.9, dtype=np.float32),
        columns={"track_ids": np.array(list(places), dtype=np.int64)} if tracked else None,
    )
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    return Frame(image, source=source, index=index, time=index / 10, found=found)


def events_of(path: Sequence[Place | None], regions: Sequence[Zone | Line], **options: float) -> list[ZoneEvent]:
    """Events of one track along a path; None is a frame in which it is not seen."""
    counter = ZoneCounter(regions, ZoneOptions(**options))
    frames = [frame(index, {} if place is None else {7: place}) for index, place in enumerate(path)]
    found = [event for one in count_zones(frames, counter) if one.zones is not None for event in one.zones.events]
    return [*found, *counter.finish()]


def test_a_zone_is_entered_by_half_a_mask_and_left_by_three_quarters() -> None:
    enter, leave = events_of([(x, 10) for x in range(30, 80, 1)], [YARD])
    assert (enter.event, enter.region, enter.track_id, enter.class_name) == ("enter", "yard", 7, "person")
    assert (enter.frame, enter.share) == (5, 0.5)  # x 35..45 has half of its columns from 40 on
    assert (leave.event, leave.reason) == ("leave", "moved")
    assert leave.frame == 28  # x 58..68 has two of ten columns below 60; at 57 it had three
    assert leave.dwell == pytest.approx(2.3)
    assert leave.time - enter.time == pytest.approx(2.3)


def test_a_mask_that_trembles_at_the_border_enters_once() -> None:
    path = [(x, 10) for x in (30, 35, 34, 35, 34, 36, 33, 35, 45)]
    assert [event.event for event in events_of(path, [YARD])] == ["enter", "leave"]  # and leaves at the end
    restless = events_of(path, [YARD], leave_share=0.45)
    assert [event.event for event in restless].count("enter") > 2


@pytest.mark.parametrize(
    ("xs", "direction"), [(range(20, 80, 3), "right_to_left"), (range(80, 20, -3), "left_to_right")]
)
def test_a_line_is_crossed_in_a_direction(xs: range, direction: str) -> None:
    # Looking down the screen along the line, left is the larger x.
    crossing, *more = events_of([(x, 15) for x in xs], [GATE])
    assert not more
    assert (crossing.event, crossing.direction) == ("cross", direction)
    assert crossing.share >= 0.75


def test_going_to_and_fro_over_a_line_counts_each_way_and_standing_on_it_none() -> None:
    counter = ZoneCounter([GATE])
    xs = [30, 45, 60, 45, 30, 45, 46, 44, 46, 30]
    for index, x in enumerate(xs):
        counter.update(frame(index, {1: (x, 15)}))
    count = counter.counts()["gate"]
    assert (count.left_to_right, count.right_to_left) == (1, 1)


def test_who_walks_around_the_end_of_a_line_does_not_cross_it() -> None:
    short = Line("gate", np.array([(50, 0), (50, 15)], dtype=np.float64))
    around = [(x, 2) for x in (30, 38)] + [(x, 28) for x in range(30, 70, 4)] + [(66, y) for y in (20, 10, 2)]
    assert events_of(around, [short]) == []
    assert len(events_of([(x, 2) for x in range(30, 70, 4)], [short])) == 1


def test_a_lost_track_leaves_when_it_was_last_seen() -> None:
    enter, leave = events_of([(45, 10), (46, 10), *[None] * 30], [YARD], lost_after=1.0)
    assert (leave.reason, leave.frame, leave.time) == ("lost", 1, 0.1)
    assert leave.dwell == pytest.approx(0.1)
    assert enter.frame == 0


def test_a_short_gap_changes_nothing() -> None:
    path = [(45, 10), *[None] * 5, (47, 10)]
    enter, leave = events_of(path, [YARD], lost_after=1.0)
    assert (enter.frame, leave.frame, leave.reason) == (0, 6, "end")


def test_counts_and_several_tracks() -> None:
    counter = ZoneCounter([YARD, GATE])
    report = counter.update(frame(0, {1: (45, 5), 2: (45, 20), 3: (5, 5)}))
    assert report.counts["yard"].inside == (1, 2)
    assert report.counts["yard"].entered == 2
    report = counter.update(frame(1, {1: (80, 5), 2: (45, 20), 3: (5, 5)}))
    assert report.counts["yard"].inside == (2,)
    assert [event.track_id for event in report.events] == [1]


def test_the_next_source_begins_afresh_and_totals_go_on() -> None:
    counter = ZoneCounter([YARD])
    counter.update(frame(0, {1: (45, 5)}))
    report = counter.update(frame(0, {1: (45, 5)}, source="b.mp4"))
    assert [(event.event, event.source, event.reason) for event in report.events] == [
        ("leave", "a.mp4", "end"),
        ("enter", "b.mp4", None),
    ]
    assert report.counts["yard"].entered == 2


def test_events_as_json_have_only_what_applies() -> None:
    (enter, _) = events_of([(45, 10)], [YARD])
    assert enter.to_dict() == {
        "event": "enter", "region": "yard", "track_id": 7, "class_name": "person", "source": "a.mp4", "frame": 0,
        "time": 0.0, "share": 1.0,
    }  # fmt: skip


def test_frames_without_tracks_or_times_and_other_sizes_are_refused() -> None:
    one = frame(0, {1: (45, 5)})
    with pytest.raises(ConfigError, match="zones: expected tracked instances"):
        ZoneCounter([YARD]).update(frame(0, {1: (45, 5)}, tracked=False))
    with pytest.raises(ConfigError, match=r"zones: expected frames with times, got a\.mp4 without"):
        ZoneCounter([YARD]).update(one.replace(time=None))
    drawn = Zone("yard", YARD.polygons, frame_size=(80, 200))
    with pytest.raises(DataError, match="zone yard: expected one drawn on a frame of 100x40, got one of 200x80"):
        ZoneCounter([drawn]).update(one)


@pytest.mark.parametrize(("options", "message"), [({"leave_share": 0.6}, "leave_share"), ({"side_share": 0.5}, "side")])
def test_impossible_shares_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZoneOptions(**options)
