"""When a training line is due, and what it says."""

from __future__ import annotations

import pytest

from protomask.engine.log import Interval
from protomask.engine.loop import StepResult


def step(iteration: int, seconds: float) -> StepResult:
    return StepResult(
        iteration=iteration, learning_rate=0.1, losses={"loss_box": float(iteration)}, image_ids=(1, 2), problem=None,
        batches=(), seconds=seconds, data_seconds=seconds / 4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("iterations", "seconds", "due"),
    [
        (range(1, 20), 1.0, False),
        (range(1, 21), 1.0, True),  # as many as log_every
        (range(41, 51), 1.0, True),  # the end of the run
        (range(1, 6), 11.9, False),
        (range(1, 6), 12.0, True),  # slow steps: nobody waits longer than a minute
    ],
)
def test_a_line_is_due(iterations: range, seconds: float, due: bool) -> None:
    interval = Interval(step(iteration, seconds) for iteration in iterations)
    assert interval.is_due(20, 50) == due


def test_a_line_has_the_means_of_its_steps() -> None:
    record = Interval([step(1, 3.0), step(2, 1.0)]).record(per_epoch=4, max_iterations=8)
    assert record == {
        "iteration": 2, "max_iterations": 8, "epoch": 0.5, "learning_rate": 0.1, "loss_box": 1.5,
        "images_per_second": 1.0, "data_wait": 0.25, "skipped_steps": 0,
    }  # fmt: skip
