from __future__ import annotations

import math
from typing import Any

import pytest

from protomask.errors import ConfigError
from protomask.inference.video.options import VideoOptions, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (12.5, 12.5),
        ("7", 7.0),
        ("7.25", 7.25),
        ("0:35", 35.0),
        ("12:00.5", 720.5),
        ("1:02:03.5", 3723.5),
        (" 90 ", 90.0),
    ],
)
def test_times(value: float | str, expected: float) -> None:
    assert seconds("start", value) == expected


@pytest.mark.parametrize("value", [-1, "-1", "1:2:3:4", "one", "", "1h", math.nan])
def test_what_is_no_time_is_named(value: float | str) -> None:
    with pytest.raises(ConfigError, match=r"end: expected seconds or a time like 1:02:03\.5, got"):
        seconds("end", value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every: expected"),
        ({"fps": 0}, "fps: expected"),
        ({"every": 2, "fps": 5}, "every, fps: expected one of them, got every=2 and fps=5"),
        ({"start": 5, "end": "0:05"}, "end: expected a time after start=5.0, got '0:05'"),
        ({"start": "soon"}, "start: expected seconds"),
        ({"raw_size": "640"}, "raw_size: expected WIDTHxHEIGHT, got '640'"),
        ({"live": "maybe"}, "live: expected one of auto, yes, no"),
        ({"give_up": -1}, "give_up: expected"),
    ],
)
def test_options_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoOptions(**settings)


def test_a_range() -> None:
    options = VideoOptions(start="0:10", end=35)
    assert (options.start_seconds, options.end_seconds) == (10.0, 35.0)
    assert VideoOptions().end_seconds == math.inf
