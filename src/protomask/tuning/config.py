"""Settings of a search: what `protomask tune --help` shows beside those of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.settings import Count, CountOrZero, Text
from protomask.tuning.space import Space


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainConfig):
    """Settings of a search for training settings: those of every trial, and what is searched.

    Attributes:
        output: Folder of the study, made by the search: study.db, a run folder for each trial, best.yaml.
        resume: Continue the study in the output folder, its interrupted trial first.
        trials: Total number of trials of the study; the first one uses the settings as given.
        space: What is searched, by name of the setting: a list of choices, or a range such as {low: 1e-4, high: 1e-2,
            log: true}; augmentation.mosaic names a setting inside another. By default the settings that matter most.
        prune: End trials early whose validation mask AP is below the median of the earlier trials at that epoch.
        prune_after: Validations of each trial before it may be ended.

    """

    output: Text = "runs/tune"
    resume: bool = False
    trials: Count = 20
    space: dict[str, Any] = field(default_factory=dict)
    prune: bool = True
    prune_after: CountOrZero = 1

    def _check(self) -> None:
        super()._check()
        if self.added:
            raise ConfigError(
                f"{self.added[0]}: expected the whole length of a trial, got {getattr(self, self.added[0])}"
            )
        Space.of(self)

    def base(self) -> TrainConfig:
        """The settings that all trials begin with."""
        return TrainConfig(**{entry.name: getattr(self, entry.name) for entry in fields(TrainConfig)})
