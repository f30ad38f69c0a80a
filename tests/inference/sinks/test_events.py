"""Files about zones and lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from protomask.inference.sinks.events import EVENT_COLUMNS, ZoneSink
from protomask.inference.zones.counter import ZoneCounter, count_zones
from protomask.inference.zones.regions import Line, Zone
from protomask.masks.polygons import Polygon
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

YARD = Zone("yard, north", (Polygon(np.array([(0, 0), (10, 0), (10, 20), (0, 20)], dtype=np.float64)),))
GATE = Line("gate", np.array([(15, 20), (15, 0)], dtype=np.float64))


def frames(count: int) -> list[Frame]:
    """A square of four pixels that goes to the right by two pixels a frame."""
    made = []
    for index in range(count):
        masks = np.zeros((1, 20, 60), dtype=np.bool_)
        masks[0, 8:12, 2 * index : 2 * index + 4] = True
        found = Instances(
            boxes=np.array([[2 * index, 8, 2 * index + 4, 12]], dtype=np.float32),
            labels=np.zeros(1, dtype=np.int64),
            class_names=("cart",),
            class_scores=np.ones(1, dtype=np.float32),
            masks=masks,
            image_size=(20, 60),
            columns={"track_ids": np.array([3])},
        )
        image = np.zeros((20, 60, 3), dtype=np.uint8)
        made.append(Frame(image, source="clips/a.mp4", index=index, time=index / 10, found=found))
    return made


def written(folder: Path, count: int) -> list[dict[str, object]]:
    counter = ZoneCounter([YARD, GATE])
    with ZoneSink(folder, counter) as sink:
        for frame in count_zones(frames(count), counter):
            sink.write(frame)
    return [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


def test_events_are_lines_and_rows_and_totals(tmp_path: Path) -> None:
    lines = written(tmp_path, 12)
    assert [(line["event"], line["region"], line["frame"]) for line in lines] == [
        ("enter", "yard, north", 0),
        ("leave", "yard, north", 5),
        ("cross", "gate", 7),
    ]
    with (tmp_path / "events.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(EVENT_COLUMNS)
    assert [row["region"] for row in rows] == ["yard, north", "yard, north", "gate"]
    assert (rows[1]["dwell"], rows[1]["reason"]) == ("0.5", "moved")
    assert rows[2]["direction"] == "left_to_right"
    assert json.loads((tmp_path / "zones.json").read_bytes()) == {
        "regions": [
            {"region": "yard, north", "entered": 1, "mean_dwell": 0.5, "longest_dwell": 0.5},
            {"region": "gate", "left_to_right": 1, "right_to_left": 0},
        ]
    }


def test_who_is_inside_at_the_end_leaves_then(tmp_path: Path) -> None:
    *_, last = written(tmp_path, 3)
    assert (last["event"], last["reason"], last["dwell"]) == ("leave", "end", 0.2)


def test_files_grow_while_frames_come(tmp_path: Path) -> None:
    counter = ZoneCounter([YARD])
    with ZoneSink(tmp_path, counter) as sink:
        sink.write(next(iter(count_zones(frames(1), counter))))
        assert (tmp_path / "events.jsonl").read_bytes().count(b"\n") == 1
        assert (tmp_path / "events.csv").read_bytes().count(b"\n") == 2
