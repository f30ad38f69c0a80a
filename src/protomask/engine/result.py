"""What a training run leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.evaluation.tables import CocoMetrics


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        output: run folder.
        iteration: number of steps done, over all parts of the run.
        epoch: number of passes completed.
        metrics: the last validation, None if this part of the run had none.
        best_mask_ap: mask AP in [0, 1] of ``best_weights``, None if no validation found one.
        best_weights: file with the weights of the best validation, None if no validation found a mask AP.
        last_weights: file with the weights after the last step.
        skipped_steps: number of steps left out because their loss or gradient was not finite.
        interrupted: the run was asked to stop before its end; it continues with ``resume``.

    """

    output: Path
    iteration: int
    epoch: int
    metrics: CocoMetrics | None
    best_mask_ap: float | None
    best_weights: Path | None
    last_weights: Path
    skipped_steps: int
    interrupted: bool

    @property
    def best(self) -> Path:
        """The weights to use: the best ones, or the last ones where no validation found a mask AP."""
        return self.best_weights or self.last_weights
