from __future__ import annotations

from typing import Any

import pytest

from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import NO_VARIETY, Share
from protomask.engine.config import TrainConfig
from protomask.engine.plan import Plan
from protomask.errors import ConfigError


def plan_of(num_images: int, share: Share | None = None, **changes: Any) -> Plan:
    settings: dict[str, Any] = {"data": "shapes", "output": "run", "batch_size": 4, "epochs": 3, **changes}
    return Plan.of(TrainConfig(**settings), num_images, share or Share())


def test_a_run_of_some_epochs() -> None:
    plan = plan_of(10, validate_every=2)
    assert (plan.batch_size, plan.per_epoch, plan.max_iterations) == (4, 2, 6)
    assert plan.schedule.max_iterations == 6
    assert [iteration for iteration in range(8) if plan.validates_at(iteration)] == [4, 6, 7]
    assert [plan.left_in_epoch(iteration) for iteration in range(7)] == [2, 1, 2, 1, 2, 1, 0]


def test_a_run_of_some_iterations_ends_within_an_epoch() -> None:
    plan = plan_of(40, iterations=13)
    assert (plan.per_epoch, plan.max_iterations) == (10, 13)
    assert plan.left_in_epoch(10) == 3
    assert [iteration for iteration in range(14) if plan.validates_at(iteration)] == [10, 13]


def test_processes_and_accumulated_batches_share_the_images_of_a_step() -> None:
    plan = plan_of(20, Share(1, 2, 3), batch_size=8)
    assert (plan.batch_size, plan.per_epoch) == (3, 1)
    assert plan.share.process == 1


@pytest.mark.parametrize(
    ("num_images", "message"),
    [
        (0, "data: expected at least one training image, got none in shapes"),
        (5, r"each of 6 batches per step \(2 processes, accumulate 3\), got 5"),
    ],
)
def test_too_few_images(num_images: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(num_images, Share(0, 2, 3))


def test_augmentation_ends_before_the_run_does() -> None:
    augmentation = AugmentationConfig(multi_scale=0.25, plain_end=0.5)
    variety = plan_of(8, augmentation=augmentation).variety
    assert (variety.multi_scale, variety.plain_from) == (0.25, 3)
    assert plan_of(8, augmentation=augmentation, overfit=2).variety == NO_VARIETY
