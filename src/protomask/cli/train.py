"""`protomask train`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.cli.output import Bar
from protomask.cli.streams import silence_output
from protomask.engine.config import TrainConfig
from protomask.engine.recipes import RECIPES

__all__ = ["RECIPES", "run"]

if TYPE_CHECKING:
    from protomask.engine.run import TrainResult

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
        self._bar.update(metrics["iteration"], metrics["max_iterations"], f"epoch {metrics['epoch']:.2f}")
        self._show(
            f"iteration {metrics['iteration']}/{metrics['max_iterations']}  epoch {metrics['epoch']:.2f}  "
            f"lr {metrics['learning_rate']:.1e}  {losses}  {metrics['images_per_second']:.1f} images/s{waiting}"
        )

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        """One pass over the validation images."""
        shown = "  ".join(
            f"{kind} {name} {'-' if metrics[f'{kind}_{name}'] is None else format(metrics[f'{kind}_{name}'], '.3f')}"
            for kind in ("box", "mask")
            for name in ("AP", "AP50", "AP75")
        )
        self._show(f"validation at epoch {metrics['epoch']}: {shown}  ({metrics['seconds']:.0f} s)")

    def message(self, text: str) -> None:
        """Anything else."""
        self._show(text)


def run(config: TrainConfig, *, report: bool = True, json: bool = False) -> int:
    """Train a model on a COCO-format data set.

    Args:
        config: settings of the run.
        report: at the end predict the validation images once more, with the best weights, and write report/index.html.
        json: print one JSON summary instead of the progress.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.engine.processes import is_first_process
    from protomask.engine.run import train

    with progress("train", None, quiet=json) as bar:
        result = train(config, reporter=ConsoleReporter(bar))
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
    return 1 if result.interrupted or (reports and page is None) else 0


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
