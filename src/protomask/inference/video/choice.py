"""Which frames of a video are taken: a range, a stride, a number per second."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from protomask.inference.video.options import VideoOptions

Item = TypeVar("Item")

_SLACK = 1e-4
"""Seconds by which the times of frames are rounded: containers count in milliseconds or finer."""


class Place(NamedTuple):
    """The frame after which a video goes on.

    Args:
        number: its number among the frames that were taken, from 0.
        time: seconds from the beginning of the video.

    """

    number: int
    time: float


def choose(
    timed: Iterable[tuple[float, Item]], options: VideoOptions, after: Place | None = None
) -> Iterator[tuple[int, float, Item]]:
    """Take the frames that the options ask for.

    Args:
        timed: seconds and frame, in order; it may begin before the range.
        options: ``every``, ``fps``, ``start`` and ``end``.
        after: go on after this frame, which was taken under the same options.

    Yields:
        Number among the frames that are taken, from 0; seconds; frame.

    """
    start, end = options.start_seconds, options.end_seconds
    taken, skipped = 0, options.every - 1
    last_slot = -1
    if after is not None:
        taken, skipped = after.number + 1, 0
        last_slot = _slot(after.time - start, options.fps)
    for time, item in timed:
        if time >= end - _SLACK:
            return
        if time < start - _SLACK or (after is not None and time <= after.time + _SLACK):
            continue
        if options.fps is not None:
            slot = _slot(time - start, options.fps)
            if slot <= last_slot:
                continue
            last_slot = slot
        elif skipped < options.every - 1:
            skipped += 1
            continue
        skipped = 0
        yield taken, time, item
        taken += 1


def _slot(time: float, fps: float | None) -> int:
    """The number of the period of 1 / fps seconds that a time lies in."""
    return -1 if fps is None else math.floor((time + _SLACK) * fps)
