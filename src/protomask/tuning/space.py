"""The settings that a search may change, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.settings import Settings, shown

DEFAULT_SPACE: Mapping[str, Any] = {
    "optimizer": ["sgd", "adamw"],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
    "schedule": ["step", "cosine", "one_cycle"],
    "ema_decay": [None, 0.99, 0.998],
    "augmentation.mosaic": {"low": 0.0, "high": 0.5},
    "augmentation.copy_paste": {"low": 0.0, "high": 0.4},
    "augmentation.scale_jitter": {"low": 0.0, "high": 1.0},
}
_FORM = "a list of choices, or a range {low: ..., high: ..., log: true or false}"
_FIXED = ("data", "output", "resume", "epochs", "iterations", "minutes", "seed")
"""Settings that make trials incomparable, or that the search needs itself."""


class Choice(NamedTuple):
    """One of several values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for a trial of Optuna."""
        return trial.suggest_categorical(name, self.values)


class Range(NamedTuple):
    """From ``low`` to ``high``, whole numbers where both are; ``log`` tries small values as often as large ones."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: Any) -> bool:
        """Whether it is in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def suggest(self, trial: Any, name: str) -> Any:
        """A value for a trial of Optuna."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return (trial.suggest_int if whole else trial.suggest_float)(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """What is searched.

    Args:
        axes: by name of the setting.

    """

    axes: Mapping[str, Choice | Range]

    @classmethod
    def of(cls, config: Any) -> Space:
        """The space of a `TuneConfig`.

        Raises:
            ConfigError: a name is not a setting, or its values are neither a list nor a range, or do not fit it.

        """
        axes = {name: _axis(name, values) for name, values in (config.space or DEFAULT_SPACE).items()}
        space = cls(axes)
        for name, axis in axes.items():
            if name.partition(".")[0] in _FIXED:
                raise ConfigError(f"space: expected a setting that may differ between trials, got {name}")
            values = axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
            for value in values:
                with_values(config.base(), {name: value})  # which says what is wrong with a name or value
        return space

    def defaults(self, config: TrainConfig) -> dict[str, Any]:
        """What a config itself has for each setting, where that lies in the space."""
        own = {name: _get(config, name) for name in self.axes}
        return {name: value for name, value in own.items() if self.axes[name].holds(value)}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values for a trial of Optuna."""
        return {name: axis.suggest(trial, name) for name, axis in self.axes.items()}


def with_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A config with some settings changed; a name with a point stands for a setting inside another.

    Raises:
        ConfigError: no such setting, or a value that it cannot have.

    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        outer, _, inner = name.partition(".")
        if not inner:
            changes[outer] = value
            continue
        before = changes.get(outer, getattr(config, outer, None))
        if isinstance(before, dict):
            changes[outer] = {**before, inner: value}
        elif isinstance(before, Settings):
            changes[outer] = before.replace(**{inner: value})
        else:
            raise ConfigError(f"space: {outer} has no settings inside it, got {name}")
    return config.replace(**changes)


def _get(config: TrainConfig, name: str) -> Any:
    outer, _, inner = name.partition(".")
    value = getattr(config, outer)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, dict) else getattr(value, inner)


def _axis(name: str, values: Any) -> Choice | Range:
    if isinstance(values, list | tuple) and values:
        return Choice(tuple(values))
    if isinstance(values, Mapping) and {"low", "high"} <= set(values) <= {"low", "high", "log"}:
        low, high, log = (_number(values.get(key)) for key in ("low", "high", "log"))
        if low is not None and high is not None and low < high and not (log and low <= 0):
            return Range(low, high, bool(log))
    raise ConfigError(f"space: expected {_FORM} for {name}, got {shown(values)}")


def _number(value: Any) -> Any:
    """A number; YAML reads 1e-4 as text."""
    try:
        return float(value) if isinstance(value, str) else value if isinstance(value, int | float) else None
    except ValueError:
        return None
