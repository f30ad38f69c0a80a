"""`protomask tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protomask.cli.train import GROUPS as TRAIN_GROUPS
from protomask.cli.train import ConsoleReporter
from protomask.engine.recipes import RECIPES, recipe_of
from protomask.tuning.config import TuneConfig

__all__ = ["DEFAULT_RECIPE", "GROUPS", "RECIPES", "run"]

if TYPE_CHECKING:
    from protomask.cli.output import Bar
    from protomask.engine.log import Reporter
    from protomask.tuning.study import TrialRow, TuneResult

GROUPS = {"the search": ("trials", "space", "prune", "prune_after"), **TRAIN_GROUPS}
DEFAULT_RECIPE = recipe_of
EXAMPLE = "protomask tune --data shapes --model yolact_nano --epochs 5 --trials 20 --output runs/tune"


def run(config: TuneConfig, *, verbose: bool = False, json: bool = False) -> int:
    """Search for the training settings that learn a data set best, and write them as a --config file.

    Args:
        config: settings of all trials, and what is searched.
        verbose: show the steps of every trial, not only its validations.
        json: print one JSON summary instead of the progress.
    """
    from dataclasses import asdict

    from protomask.cli.output import dump_json, progress
    from protomask.engine.preflight import check_names
    from protomask.extras import require_torch
    from protomask.tuning.study import tune

    require_torch("protomask tune")
    check_names(config)
    with progress("tune", config.trials, quiet=json) as bar:
        result = tune(config, reporter=_Shown(bar, config.trials, verbose=verbose))
    if json:
        best = None if result.best is None else asdict(result.best)
        rows = [asdict(trial) for trial in result.trials]
        told = {"output": str(result.output), "best": best, "interrupted": result.interrupted, "trials": rows}
        dump_json({**told, "config_file": None if best is None else str(result.config_file)})
    else:
        _print(result)
    return 1 if result.interrupted or result.best is None else 0


class _Validations(ConsoleReporter):
    """Shows only the validations of a trial."""

    def on_step(self, metrics: object) -> None:
        """Nothing: a trial is one of many."""


class _Shown:
    """Shows how a search goes."""

    def __init__(self, bar: Bar, trials: int, *, verbose: bool) -> None:
        self._bar, self._trials, self._verbose = bar, trials, verbose

    def began(self, trial: TrialRow) -> Reporter:
        """See `protomask.tuning.study.TuneReporter.began`."""
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        self._bar.message(f"trial {trial.number}: {values}")
        return ConsoleReporter(self._bar) if self._verbose else _Validations(self._bar)

    def ended(self, trial: TrialRow) -> None:
        """See `protomask.tuning.study.TuneReporter.ended`."""
        found = "-" if trial.mask_ap is None else f"{trial.mask_ap:.3f}"
        self._bar.message(f"trial {trial.number}: {trial.state} at epoch {trial.epochs}, mask AP {found}")
        self._bar.update(trial.number + 1, self._trials)


def _print(result: TuneResult) -> None:
    from protomask.cli.output import print_table

    names = list(dict.fromkeys(name for trial in result.trials for name in trial.values))
    trials = sorted(result.trials, key=lambda trial: -(trial.mask_ap or 0.0))
    rows = [
        [trial.number, trial.state, trial.epochs, trial.mask_ap, *(_short(trial.values.get(name)) for name in names)]
        for trial in trials
    ]
    print_table(["trial", "state", "epochs", "mask AP", *(name.rpartition(".")[2] for name in names)], rows)
    if result.best is None:
        print("no trial was completed")
        return
    first = next((trial for trial in result.trials if trial.number == 0), None)
    given = "" if first is None or first.mask_ap is None else f", the given settings reached {first.mask_ap:.3f}"
    print(f"best: trial {result.best.number} with mask AP {result.best.mask_ap:.3f}{given}")
    print(f"settings: {result.config_file}, for protomask train --config")
    if result.interrupted:
        print("stopped before the last trial; --resume continues")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
