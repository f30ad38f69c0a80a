"""What a run reports: to a reporter, to metrics.jsonl, to TensorBoard and to the trackers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from protomask.engine.config import TrainConfig
from protomask.engine.folder import Progress
from protomask.engine.loop import StepResult
from protomask.engine.records import lines_until
from protomask.engine.trackers import Trackers
from protomask.errors import CheckpointError
from protomask.files import replacing

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.tables import CocoMetrics

Metrics = Mapping[str, Any]
_MAX_SECONDS = 60.0  # of steps without a line


class Reporter(Protocol):
    """Receives the progress of a run; the engine itself prints nothing."""

    def on_step(self, metrics: Metrics) -> None:
        """Receive a training line, every ``log_every`` iterations or minute; `Interval.record` names its values.

        `protomask.engine.course.Course.times` names the others.
        """
        ...

    def on_validation(self, metrics: Metrics) -> None:
        """Receive a validation line: iteration, epoch, {box,mask}_{AP,AP50,AP75}, best_mask_AP, seconds, and times."""
        ...

    def message(self, text: str) -> None:
        """Receive a line of text."""
        ...


class SilentReporter:
    """Ignores everything."""

    def on_step(self, metrics: Metrics) -> None:
        """Do nothing."""

    def on_validation(self, metrics: Metrics) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""


class MetricsLog:
    """Writes metrics.jsonl of a run, and passes the numbers on to TensorBoard and the trackers.

    Args:
        folder: the run folder.
        iteration: number of steps done before; lines of later iterations, left by an interrupted run, are dropped.
        trackers: receive the numbers too; closed with the log.
        tensorboard: whether to write them to tensorboard/ in the run folder.

    """

    def __init__(self, folder: Path, iteration: int, *, trackers: Trackers, tensorboard: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "metrics.jsonl"
        kept = list(lines_until(path, iteration)) if path.is_file() else []
        self._before = {(line.get("kind"), line["iteration"]) for line in map(json.loads, kept)}
        with replacing(path, error=CheckpointError) as file:
            file.write("".join(kept).encode())
        self._file = path.open("a", encoding="utf-8")
        purge = iteration + 1 if iteration else None
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge) if tensorboard else None
        self._trackers = trackers

    def has(self, kind: str, iteration: int) -> bool:
        """Whether an earlier part of the run wrote such a line."""
        return (kind, iteration) in self._before

    def write(self, kind: str, record: Mapping[str, Any]) -> None:
        """Add one line; numbers also go to TensorBoard and the trackers as ``kind/name``."""
        self._file.write(json.dumps({"kind": kind, **record}) + "\n")
        self._file.flush()
        numbers = {
            f"{kind}/{name}": value
            for name, value in record.items()
            if name != "iteration" and isinstance(value, (int, float))
        }
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, record["iteration"])
        self._trackers.log(numbers, record["iteration"])

    def close(self) -> None:
        """Finish everything."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()
        self._trackers.close()


class NoLog:
    """Takes the place of `MetricsLog` in every process but the first."""

    def has(self, kind: str, iteration: int) -> bool:
        """What is missing is written elsewhere."""
        return True

    def write(self, kind: str, record: Metrics) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


Log = MetricsLog | NoLog


def open_log(config: TrainConfig, progress: Progress, accelerator: Accelerator, reporter: Reporter) -> Log:
    """Open the log of a run and start its trackers; `NoLog` in every process but the first.

    Raises:
        ConfigError: a tracker cannot be started.

    """
    if not accelerator.is_main_process:
        return NoLog()
    trackers = Trackers(accelerator, config, reporter)
    has_tensorboard = "tensorboard" in config.trackers
    return MetricsLog(Path(config.output), progress.iteration, trackers=trackers, tensorboard=has_tensorboard)


class Interval:
    """Steps since the last line of metrics.jsonl."""

    def __init__(self, steps: Iterable[StepResult] = ()) -> None:
        self.steps = list(steps)

    def add(self, step: StepResult) -> None:
        """Count one more step."""
        self.steps.append(replace(step, batches=()))

    @property
    def seconds(self) -> float:
        """Time that the steps took."""
        return sum(step.seconds for step in self.steps)

    def is_due(self, log_every: int, max_iterations: int) -> bool:
        """Whether to write a line: after a number of iterations, at the end, and if steps take long."""
        iteration = self.steps[-1].iteration
        return iteration % log_every == 0 or iteration == max_iterations or self.seconds >= _MAX_SECONDS

    def to_plain(self) -> list[dict[str, Any]]:
        """The steps as plain types, to continue with."""
        return [{**vars(step), "image_ids": list(step.image_ids), "batches": []} for step in self.steps]

    @classmethod
    def from_plain(cls, steps: Iterable[Mapping[str, Any]]) -> Interval:
        """The inverse of `to_plain`."""
        return cls(StepResult(**{**step, "image_ids": tuple(step["image_ids"]), "batches": ()}) for step in steps)

    def record(self, per_epoch: int, max_iterations: int | None) -> dict[str, Any]:
        """Means over the steps.

        Returns:
            iteration, max_iterations (None while unknown), epoch (fraction), learning_rate (of the last step), every
            loss (mean of the finite steps, None without any), images_per_second, data_wait (share of the time),
            skipped_steps.

        """
        last = self.steps[-1]
        finite = [step for step in self.steps if step.problem is None]
        losses = {
            name: sum(step.losses[name] for step in finite) / len(finite) if finite else None for name in last.losses
        }
        return {
            "iteration": last.iteration,
            "max_iterations": max_iterations,
            "epoch": last.iteration / per_epoch,
            "learning_rate": last.learning_rate,
            **losses,
            "images_per_second": sum(len(step.image_ids) for step in self.steps) / self.seconds,
            "data_wait": sum(step.data_seconds for step in self.steps) / self.seconds,
            "skipped_steps": len(self.steps) - len(finite),
        }


def validation_record(metrics: CocoMetrics, progress: Progress, epoch: int, seconds: float) -> dict[str, Any]:
    """A validation line of metrics.jsonl."""
    values = {
        f"{kind}_{name}": getattr(table, name)
        for kind, table in metrics.tables.items()
        for name in ("AP", "AP50", "AP75")
    }
    return {
        "iteration": progress.iteration,
        "epoch": epoch,
        **values,
        "best_mask_AP": progress.best_mask_ap,
        "seconds": seconds,
    }
