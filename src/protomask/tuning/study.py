"""A search: trials one after another in a study of Optuna, which a kill interrupts and `resume` continues."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from protomask.engine.log import Reporter
from protomask.errors import ConfigError, MissingExtraError, ProtomaskError
from protomask.files import locked_folder, replacing
from protomask.tuning.config import TuneConfig
from protomask.tuning.space import Space, with_values

STUDY_NAME, BEST_NAME, TRIALS_FOLDER = "study.db", "best.yaml", "trials"
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "interrupted", "WAITING": "waiting"}
_STARTUP_TRIALS = 4
"""Complete trials before the first one may be pruned."""
_FACTS = "protomask"
"""Attribute of the study that holds what it was begun with."""


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        number: number of the trial, from 0; trial 0 has the given settings.
        state: complete, pruned, failed or interrupted.
        mask_ap: best mask AP of its validations, in [0, 1]; None before the first.
        epochs: last epoch that was validated.
        values: values of the settings that are searched.

    """

    number: int
    state: str
    mask_ap: float | None
    epochs: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class TuneResult:
    """What a search has found.

    Attributes:
        output: folder of the study.
        trials: all, in order.
        best: the best complete trial; None where there is none.
        interrupted: whether it was asked to stop before its last trial.

    """

    output: Path
    trials: tuple[TrialRow, ...]
    best: TrialRow | None
    interrupted: bool

    @property
    def config_file(self) -> Path:
        """The settings of the best trial, for `protomask train --config`."""
        return self.output / BEST_NAME


class TuneReporter(Protocol):
    """Is told how a search goes."""

    def began(self, trial: TrialRow) -> Reporter | None:
        """A trial begins, or goes on; returns who is told how its training goes."""

    def ended(self, trial: TrialRow) -> None:
        """A trial has ended."""


class Silent:
    """A reporter that says nothing."""

    def began(self, trial: TrialRow) -> Reporter | None:
        """See `TuneReporter.began`."""
        return None

    def ended(self, trial: TrialRow) -> None:
        """See `TuneReporter.ended`."""


def tune(config: TuneConfig, *, reporter: TuneReporter | None = None) -> TuneResult:
    """Search for settings: train again and again, on what the earlier trials have shown.

    Args:
        config: settings of all trials, and what is searched.
        reporter: is told how the search goes.

    Returns:
        All trials; ``config_file`` holds the settings of the best one.

    Raises:
        ConfigError: a setting that does not fit the data, the machine or the study to be continued.
        DataError: the data set cannot be used.
        MissingExtraError: Optuna or the network half is not installed.

    """
    optuna = _optuna()
    output = Path(config.output)
    with locked_folder(output, "output"), _quiet(optuna):
        search = _Search(config, _opened(optuna, config), optuna, reporter or Silent())
        interrupted = search.run()
        return search.result(interrupted=interrupted)


class _Search:
    def __init__(self, config: TuneConfig, study: Any, optuna: Any, reporter: TuneReporter) -> None:
        self.config, self.study, self.optuna, self.reporter = config, study, optuna, reporter
        self.space, self.output = Space.of(config), Path(config.output)

    def run(self) -> bool:
        """All trials that are missing; returns whether a stop was asked for."""
        states = self.optuna.trial.TrialState
        for frozen in self.study.get_trials(states=(states.RUNNING,)):
            if self._try(self.optuna.trial.Trial(self.study, frozen._trial_id)):
                return True
        while sum(trial.state.is_finished() for trial in self.study.trials) < self.config.trials:
            if self._try(self._asked()):
                return True
        return False

    def result(self, *, interrupted: bool) -> TuneResult:
        rows = tuple(map(_row, self.study.trials))
        complete = [row for row in rows if row.state == "complete" and row.mask_ap is not None]
        best = max(complete, key=lambda row: row.mask_ap or 0.0, default=None)
        return TuneResult(self.output, rows, best, interrupted)

    def _asked(self) -> Any:
        """The next trial. Its seed depends only on its number: what a study proposes does not depend on kills."""
        number = len(self.study.trials)
        seed = (self.config.seed * 1_000_003 + number) % 2**32
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=6)
        if number == 0:
            self.study.enqueue_trial(self.space.defaults(self.config.base()))
        return self.study.ask()

    def _try(self, trial: Any) -> bool:
        """One trial to its end; returns whether a stop was asked for."""
        from protomask.engine.run import train

        values = self.space.suggest(trial)
        row = _row(self.study.trials[trial.number])
        settings = with_values(self.config.base(), values).replace(
            output=str(self._folder(trial.number)), resume=True, check_data=self.config.check_data and not trial.number
        )
        watch = _Watch(trial, self.reporter.began(row), prune=self.config.prune)
        state = self.optuna.trial.TrialState
        try:
            result = train(settings, reporter=watch)
        except _PrunedError:
            self.study.tell(trial, state=state.PRUNED)
        except ProtomaskError as error:
            if type(error) is not ProtomaskError:  # wrong settings or data: no trial would fare better
                raise
            trial.set_user_attr("error", str(error))
            self.study.tell(trial, state=state.FAIL)
        else:
            if result.interrupted:
                return True
            self.study.tell(trial, result.best_mask_ap or 0.0)
        self._tidy()
        self._write_best()
        self.reporter.ended(_row(self.study.trials[trial.number]))
        return False

    def _folder(self, number: int) -> Path:
        return self.output / TRIALS_FOLDER / f"{number:04d}"

    def _tidy(self) -> None:
        """Keep the weights of only the best trial: those of all would fill the disk."""
        best = self.result(interrupted=False).best
        for trial in self.study.trials:
            if not trial.state.is_finished():
                continue
            folder = self._folder(trial.number)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            if best is None or trial.number != best.number:
                for name in ("last.safetensors", "best.safetensors"):
                    (folder / name).unlink(missing_ok=True)

    def _write_best(self) -> None:
        import yaml

        result = self.result(interrupted=False)
        if result.best is None:
            return
        settings = with_values(self.config.base(), result.best.values).to_dict()
        for name in ("output", "resume"):
            del settings[name]
        head = f"# Trial {result.best.number} of {self.config.trials}: mask AP {result.best.mask_ap:.4f}\n"
        with replacing(result.config_file, error=ConfigError) as file:
            file.write((head + yaml.safe_dump(settings, sort_keys=False)).encode())


class _PrunedError(Exception):
    """The trial is not worth its time."""


class _Watch:
    """Reports the validations of a trial to its study, and passes everything on."""

    def __init__(self, trial: Any, then: Reporter | None, *, prune: bool) -> None:
        self._trial, self._then, self._prune = trial, then, prune

    def on_step(self, metrics: Mapping[str, Any]) -> None:
        """See `Reporter.on_step`."""
        if self._then is not None:
            self._then.on_step(metrics)

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        """See `Reporter.on_validation`.

        Raises:
            _PrunedError: the trial is worse than most others were by then.

        """
        if self._then is not None:
            self._then.on_validation(metrics)
        self._trial.report(metrics["mask_AP"] or 0.0, step=int(metrics["epoch"]))
        if self._prune and self._trial.should_prune():
            raise _PrunedError

    def message(self, text: str) -> None:
        """See `Reporter.message`."""
        if self._then is not None:
            self._then.message(text)


def _opened(optuna: Any, config: TuneConfig) -> Any:
    """The study of the output folder.

    Raises:
        ConfigError: it is there and is not to be continued, or was begun with other settings.

    """
    path = Path(config.output) / STUDY_NAME
    if path.is_file() and not config.resume:
        raise ConfigError(
            f"output: expected a new folder, or resume to continue, got {config.output}, which has a study"
        )
    spared = config.prune_after * config.validate_every  # epochs
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=spared + 1)
    study = optuna.create_study(
        storage=f"sqlite:///{path.absolute()}", study_name="protomask", direction="maximize", pruner=pruner,
        load_if_exists=True,
    )  # fmt: skip
    facts = _facts(config)
    known = study.user_attrs.get(_FACTS)
    if known is None:
        study.set_user_attr(_FACTS, facts)
        return study
    for name, value in facts.items():
        if known.get(name) != value:
            raise ConfigError(f"{name}: expected {known.get(name)!r}, as when this study began, got {value!r}")
    return study


def _facts(config: TuneConfig) -> dict[str, Any]:
    """Everything in which the trials of a study must agree, as plain JSON."""
    may_change = {
        "output", "resume", "trials", "prune", "prune_after", "device", "num_workers", "log_every", "check_data",
        "checkpoint_minutes", "trackers", "tracker_project", "data",
    }  # fmt: skip
    return {name: value for name, value in config.to_dict().items() if name not in may_change}


def _row(trial: Any) -> TrialRow:
    seen: dict[int, float] = trial.intermediate_values
    mask_ap = trial.value if trial.state.name == "COMPLETE" else max(seen.values(), default=None)
    return TrialRow(trial.number, _STATES[trial.state.name], mask_ap, max(seen, default=0), dict(trial.params))


def _optuna() -> Any:
    from protomask.extras import require_torch

    require_torch("searching for settings")
    try:
        import optuna
        import sqlalchemy  # noqa: F401 - what Optuna writes the study with
    except ImportError as error:
        raise MissingExtraError("searching for settings needs Optuna: pip install 'protomask[tune]'") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Let Optuna report only what is wrong: the reporter says the rest."""
    import warnings

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
