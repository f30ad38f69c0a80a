"""`protomask train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.cli.output import Bar
from protomask.cli.streams import silence_output
from protomask.cli.train_hints import continue_command, prolong_command
from protomask.engine.config import TrainConfig
from protomask.engine.pace import clock_time
from protomask.engine.recipes import RECIPES, recipe_of

__all__ = ["DEFAULT_RECIPE", "GROUPS", "RECIPES", "run"]

if TYPE_CHECKING:
    from protomask.engine.result import TrainResult

GROUPS = {
    "what matters most": (
        "data", "model", "weights", "recipe", "output", "epochs", "minutes", "batch_size", "image_size", "resume",
    ),
    "before and after the run": ("dry_run", "check_data", "overfit", "report", "json"),
    "data": ("classes", "mask_weights", "repeat_rare"),
    "model": (
        "model_options", "pretrained_backbone", "backbone_weights", "frozen_stages", "freeze_bn", "sync_batch_norm",
        "add", "train_only", "teacher", "teacher_weight",
    ),
    "length and learning rate": (
        "iterations", "patience", "learning_rate", "schedule", "lr_steps", "warmup_iterations", "warmup_init",
    ),
    "optimizer": (
        "optimizer", "momentum", "weight_decay", "bias_learning_rate_factor", "bias_weight_decay",
        "norm_weight_decay", "backbone_learning_rate_factor", "accumulate", "clip_gradient",
        "ema_decay", "label_smoothing", "max_bad_steps",
    ),
    "augmentation": ("augmentation.",),
    "validation and logging": (
        "validate_every", "max_detections", "checkpoint_minutes", "log_every", "trackers", "tracker_project",
    ),
    "machine": ("device", "num_workers", "mixed_precision", "channels_last", "seed"),
}  # fmt: skip
DEFAULT_RECIPE = recipe_of
EXAMPLE = "protomask train --data shapes --model yolact_nano --epochs 10 --output runs/shapes"


class ConsoleReporter:
    """Shows the steps of a run: a bar on a terminal, lines in a log.

    A run goes on where nobody can see it any more: its terminal or the reader of its output may have gone.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def _show(self, text: str) -> None:
        try:
            self._bar.message(text)
        except OSError:
            silence_output()
            self._bar = Bar(quiet=True)

    def on_step(self, metrics: Mapping[str, Any]) -> None:
        """One interval of training."""
        losses = "  ".join(
            f"{name.removeprefix('loss_')} {value:.3f}"
            for name, value in metrics.items()
            if name.startswith("loss_") and value is not None
        )
        # Worth a word only where it slows the run down.
        waiting = f"  waiting for data {metrics['data_wait']:.0%}" if metrics["data_wait"] > 0.1 else ""
        end = metrics["max_iterations"]
        self._bar.update(metrics["iteration"], end, f"epoch {metrics['epoch']:.2f}")
        self._show(
            f"iteration {metrics['iteration']}/{'?' if end is None else end}  epoch {metrics['epoch']:.2f}  "
            f"lr {metrics['learning_rate']:.1e}  {losses}  {metrics['images_per_second']:.1f} images/s{waiting}  "
            f"{_times(metrics)}"
        )

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        """One pass over the validation images."""
        shown = "  ".join(
            f"{kind} {name} {'-' if metrics[f'{kind}_{name}'] is None else format(metrics[f'{kind}_{name}'], '.3f')}"
            for kind in ("box", "mask")
            for name in ("AP", "AP50", "AP75")
        )
        self._show(f"validation at epoch {metrics['epoch']}: {shown}  ({metrics['seconds']:.0f} s)  {_times(metrics)}")

    def message(self, text: str) -> None:
        """Anything else."""
        self._show(text)


def _times(metrics: Mapping[str, Any]) -> str:
    left = metrics["remaining_seconds"]
    ahead = "" if left is None else f", {clock_time(left)} left"
    return f"{clock_time(metrics['elapsed_seconds'])} elapsed{ahead}"


def run(config: TrainConfig, *, dry_run: bool = False, report: bool = True, json: bool = False) -> int:
    """Train a model on a COCO-format data set.

    Args:
        config: settings of the run.
        dry_run: only take ten steps, report rate, memory, number of steps and duration of the run, and leave nothing
            behind.
        report: at the end, predict the validation images once more with the best weights, and write report/index.html.
        json: print one JSON summary instead of the progress.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.engine.preflight import check_names
    from protomask.engine.stretch import ExistingRunError
    from protomask.extras import require_torch

    require_torch("protomask train")
    try:
        check_names(config)
        from protomask.engine.processes import is_first_process
        from protomask.engine.run import train

        if dry_run:
            return _try(config, json=json)
        with progress("train", None, quiet=json) as bar:
            result = train(config, reporter=ConsoleReporter(bar))
    except ExistingRunError as error:
        command = continue_command(config, report=report)
        raise ExistingRunError(f"{error}\nto continue it: {command}") from error
    if not is_first_process():  # one process speaks and writes for all
        return 1 if result.interrupted else 0
    reports = report and not result.interrupted
    page = _report(result, config, quiet=json) if reports else None
    if json:
        dump_json(
            {
                "output": str(result.output),
                "iteration": result.iteration,
                "best_mask_ap": result.best_mask_ap,
                "best_weights": None if result.best_weights is None else str(result.best_weights),
                "last_weights": str(result.last_weights),
                "skipped_steps": result.skipped_steps,
                "interrupted": result.interrupted,
                "report": None if page is None else str(page),
                "metrics": None if result.metrics is None else result.metrics.to_dict(),
            }
        )
    else:
        if result.metrics is not None:
            print(result.metrics.as_text())
        print(f"weights: {result.best}")
        print(f"curves: tensorboard --logdir {result.output}")
        if page is not None:
            print(f"report: {page}")
        if result.interrupted:
            print(f"to continue: {continue_command(config, report=report)}")
        else:
            print(f"to train longer: {prolong_command(config, report=report)}")
    return 1 if result.interrupted or (reports and page is None) else 0


def _try(config: TrainConfig, *, json: bool) -> int:
    """The first steps of a run, for what they say about it."""
    from protomask.cli.output import dump_json, progress
    from protomask.engine.dry_run import dry_run
    from protomask.engine.processes import is_first_process

    with progress("dry run", None, quiet=json) as bar:
        found = dry_run(config, reporter=ConsoleReporter(bar))
    if is_first_process() and json:
        dump_json(found.to_dict())
    elif is_first_process():
        print(found.as_text())
    return 0


def _report(result: TrainResult, config: TrainConfig, *, quiet: bool) -> Path | None:
    """The page about a run that ended; None where it cannot be written, which is told but costs nothing else."""
    from protomask.cli.output import progress
    from protomask.reports.run_report import write_report

    try:
        with progress("report", None, quiet=quiet) as bar:
            return write_report(
                result.output,
                batch_size=config.batch_size,
                num_workers=config.num_workers,
                device=config.device,
                on_progress=bar.update,
            ).page
    except Exception as error:
        told = f"the run is complete, but not its report: {type(error).__name__}: {error}"
        print(f"protomask train: {told}\nprotomask report {result.output} tries again", file=sys.stderr)
        return None
