"""The stretches of a run: the length it was planned with, and what was added to it later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError


class ExistingRunError(ConfigError):
    """The output folder holds a run that the settings do not continue."""


class Addition(NamedTuple):
    """What a run at its end is prolonged by.

    Attributes:
        unit: epochs, iterations or minutes.
        amount: how many.
        learning_rate: at 8 images per step, after the warm-up.

    """

    unit: str
    amount: float
    learning_rate: float

    def __str__(self) -> str:
        return f"+{self.amount:g} {self.unit}"

    @classmethod
    def of(cls, config: TrainConfig) -> Addition | None:
        """What the settings ask for; None where they add nothing."""
        for unit in config.added:
            return cls(unit, float(getattr(config, unit)), config.learning_rate)
        return None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a run in which the learning rate goes through its schedule once.

    Attributes:
        start: number of steps done before.
        end: number of steps done at its end; None until the speed of the run is known.
        learning_rate: at 8 images per step, after the warm-up.
        minutes: its length on the clock; None for a number of steps that was fixed from the beginning.
        seconds_before: time that the run had taken before.
        added: how it was asked for, as "+10 epochs"; None for the run as it was planned first.

    """

    start: int = 0
    end: int | None
    learning_rate: float
    minutes: float | None = None
    seconds_before: float = 0.0
    added: str | None = None

    @classmethod
    def first(cls, config: TrainConfig, per_epoch: int) -> Stretch:
        """A run of the length in the settings, which add nothing."""
        if config.minutes is not None:
            return cls(end=None, minutes=float(config.minutes), learning_rate=config.learning_rate)
        end = int(config.epochs) * per_epoch if config.iterations is None else int(config.iterations)
        return cls(end=end, learning_rate=config.learning_rate)

    def seconds_left(self, elapsed: float) -> float:
        """Time until the end of a stretch with a length on the clock."""
        return 60 * (self.minutes or 0.0) - (elapsed - self.seconds_before)

    def prolonged(self, addition: Addition, *, iteration: int, seconds: float, per_epoch: int, ended: bool) -> Stretch:
        """The stretch that comes next; this one where it is what was asked for before and is not at its end.

        Args:
            addition: what to add.
            iteration: number of steps done.
            seconds: time that the run has taken.
            per_epoch: number of steps in a pass over the training images.
            ended: whether the run is at its end, by its length or because it got no better.

        Raises:
            ExistingRunError: this stretch is not at its end.

        """
        if not ended and self.added == str(addition):
            return self
        if not ended:
            until = "" if self.end is None else f" of {self.end}"
            raise ExistingRunError(
                f"{addition.unit}: expected a run at its end to prolong by {addition}, got one at iteration "
                f"{iteration}{until}; resume it without that first"
            )
        steps = {"epochs": round(addition.amount) * per_epoch, "iterations": round(addition.amount)}
        return Stretch(
            start=iteration,
            end=iteration + steps[addition.unit] if addition.unit in steps else None,
            minutes=None if addition.unit in steps else addition.amount,
            learning_rate=addition.learning_rate,
            seconds_before=seconds,
            added=str(addition),
        )
