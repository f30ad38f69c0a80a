"""How fast a run goes, how long it still takes, and how many steps fit into a time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import Any

_RECENT = 100
"""Steps whose mean time counts."""
_GUESSED_SHARE = 0.5
"""Before the first validation: time of one of its images, as a share of that of a training image."""
_TRAINING_PER_VALIDATION = 4.0
"""How many times as long as the validations training takes, at least, in a run that must end on time."""


class Clock:
    """The time that a run has taken, over all its sessions."""

    def __init__(self) -> None:
        self.before = 0.0
        self._started = monotonic()

    def elapsed(self) -> float:
        """Seconds."""
        return self.before + monotonic() - self._started


class Pace:
    """Seconds of a step and of a validation, by the latest ones.

    Args:
        images_per_step: number of images that all processes take for a step.
        validation_images: number of images of a validation.

    """

    def __init__(self, images_per_step: int, validation_images: int) -> None:
        self._relative_length = validation_images / images_per_step
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._before: float | None = None
        self._validation: float | None = None
        self._mark = monotonic()
        self._skips = True

    def start(self, *, new_loader: bool) -> None:
        """The next step begins; the first one of a loader, which waits for it, counts only while there is no other."""
        self._mark = monotonic()
        self._skips = self._skips or new_loader

    def step(self) -> None:
        """A step is done."""
        now = monotonic()
        if not self._skips:
            self._recent.append(now - self._mark)
        elif self._before is None:
            self._before = now - self._mark
        self._mark, self._skips = now, False

    def validated(self, seconds: float) -> None:
        """A validation is done."""
        self._validation = seconds

    @property
    def step_seconds(self) -> float | None:
        """Mean time of a step, None while unknown."""
        return sum(self._recent) / len(self._recent) if self._recent else self._before

    @property
    def validation_seconds(self) -> float:
        """Time of a validation; before the first one a guess from that of the steps."""
        if self._validation is not None:
            return self._validation
        return _GUESSED_SHARE * (self.step_seconds or 0.0) * self._relative_length

    def to_plain(self) -> dict[str, float | None]:
        """To continue with."""
        return {"step": self.step_seconds, "validation": self._validation}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """The inverse of `to_plain`: what holds until this session has measured it."""
        self._before, self._validation = saved.get("step"), saved.get("validation")


def num_validations(iteration: int, end: int, period: int) -> int:
    """Number of validations after an iteration: every ``period`` steps, and at the end."""
    return 0 if end <= iteration else (end - 1) // period - iteration // period + 1


def seconds_until(end: int, iteration: int, period: int, *, step: float, validation: float) -> float:
    """Time from an iteration to the end, with validations every ``period`` steps and at the end."""
    return max(end - iteration, 0) * step + num_validations(iteration, end, period) * validation


def end_on_time(seconds: float, iteration: int, period: int, *, step: float, validation: float) -> int:
    """The last end that is reached in this time, see `seconds_until`; the iteration itself where none is."""
    most = iteration + math.ceil(max(seconds, 0.0) / step)
    return bisect_right(
        range(iteration, most + 1),
        seconds,
        lo=1,
        key=lambda end: seconds_until(end, iteration, period, step=step, validation=validation),
    ) + (iteration - 1)


def epochs_between_validations(at_least: int, epoch_seconds: float, validation: float) -> int:
    """Number of epochs from one validation to the next, so that validations take no more than a fifth of the time."""
    return max(at_least, math.ceil(_TRAINING_PER_VALIDATION * validation / epoch_seconds))


def clock_time(seconds: float) -> str:
    """A duration as people read it: 0:07, 12:30, 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
