from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from moving_blocks import Block, frame_of
from protomask.errors import ConfigError, DataError, MissingExtraError
from protomask.inference.tracking.build import TRACKERS, build_tracker

BOX_TRACKERS = [name for name in TRACKERS if name != "mask"]


@pytest.mark.parametrize("name", BOX_TRACKERS)
def test_the_others_follow_boxes(name: str) -> None:
    pytest.importorskip("trackers")
    blocks = [
        Block(lambda index: (2 * index, 10)),
        Block(lambda index: (90, 30 - index), label=1, score=0.8),
        Block(lambda index: (10, 40), width=10, score=0.05),
    ]
    tracker = build_tracker(name)
    for _ in range(2):
        for index in range(8):
            found, _ = frame_of(blocks, index)
            reported = tracker.update(found, index / 30, image=np.zeros((*found.image_size, 3), dtype=np.uint8))
        assert reported.track_ids is not None
        assert reported.track_ids.tolist() == [1, 2]
        assert reported.names == ["cat", "dog"]
        np.testing.assert_array_equal(reported.masks, found.masks[:2])
        with pytest.raises(DataError, match="expected frames"):
            tracker.update(found.replace(class_names=("owl", "fox")))
        tracker.reset()
    nothing = tracker.update(found[[]])
    assert nothing.track_ids is not None
    assert len(nothing) == 0
    assert nothing.track_ids.dtype == np.int64


@pytest.mark.parametrize("name", BOX_TRACKERS)
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(MissingExtraError, match=rf"{name} needs trackers: pip install 'protomask\[trackers\]'"):
        build_tracker(name)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sort", {}, "tracker: expected one of mask, bytetrack, ocsort, botsort, got 'sort'"),
        ("mask", {"low_score": 0.6}, "low_score: expected at most high_score=0.4, got 0.6"),
        ("mask", {"lost_seconds": -1}, "lost_seconds: expected a number of at least 0, got -1"),
        ("mask", {"confirm_frames": 0}, "confirm_frames"),
        ("mask", {"frame_rate": 0}, "frame_rate: expected a positive number"),
        ("mask", {"grid": 4}, "grid: expected a whole number of at least 8 cells, got 4"),
        ("mask", {"patience": 3}, "patience"),
    ],
)
def test_impossible_trackers_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_tracker(name, **settings)
