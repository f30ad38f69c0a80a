from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.inference.video.choice import Place, choose
from protomask.inference.video.options import VideoOptions


def at(rate: float, frames: int = 100) -> list[tuple[float, int]]:
    return [(number / rate, number) for number in range(frames)]


def taken(timed: list[tuple[float, int]], **settings: float | str) -> list[int]:
    return [item for _, _, item in choose(timed, VideoOptions.from_dict(settings))]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, list(range(100))),
        ({"every": 30}, [0, 30, 60, 90]),
        ({"fps": 1}, [0, 25, 50, 75]),
        ({"fps": 10}, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),
        ({"start": 1, "end": 1.1}, [25, 26, 27]),
        ({"start": 1, "end": "0:02", "every": 10}, [25, 35, 45]),
        ({"start": 5}, []),
    ],
)
def test_frames_of_25_per_second(settings: dict[str, float], expected: list[int]) -> None:
    assert taken(at(25), **settings)[: len(expected) or None] == expected


def test_more_per_second_than_there_are_takes_all() -> None:
    assert taken(at(25), fps=60) == list(range(100))


def test_taken_frames_are_numbered_and_keep_their_times() -> None:
    chosen = list(choose(at(10, 20), VideoOptions(every=5, start=0.5)))
    assert chosen == [(0, 0.5, 5), (1, 1.0, 10), (2, 1.5, 15)]


def test_a_stream_ends_at_the_end_of_the_range() -> None:
    asked: list[int] = []

    def endless() -> Iterator[tuple[float, int]]:
        for number in count():
            asked.append(number)
            yield number / 10, number

    assert len(list(choose(endless(), VideoOptions(end=1)))) == 10
    assert asked[-1] == 10


@given(
    gaps=st.lists(st.floats(0.002, 2), min_size=1, max_size=60),
    every=st.integers(1, 7),
    fps=st.none() | st.floats(0.2, 40),
    start=st.floats(0, 3),
    stop=st.integers(0, 59),
)
def test_going_on_gives_what_one_go_would_have_given(
    gaps: list[float], every: int, fps: float | None, start: float, stop: int
) -> None:
    times = [sum(gaps[:number]) for number in range(len(gaps))]
    timed = list(zip(times, count(), strict=False))
    options = VideoOptions(every=1 if fps else every, fps=fps, start=start)
    whole = list(choose(timed, options))
    if not whole:
        return
    number, time, _ = whole[min(stop, len(whole) - 1)]
    assert whole[: number + 1] + list(choose(timed, options, Place(number, time))) == whole
    if fps:
        spread = [later - earlier for (_, earlier, _), (_, later, _) in zip(whole, whole[2:], strict=False)]
        assert all(gap > 1 / fps - 0.001 for gap in spread)
