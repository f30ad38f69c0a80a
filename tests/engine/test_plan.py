from __future__ import annotations

from typing import Any

import pytest

from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import NO_VARIETY, Share
from protomask.engine.config import TrainConfig
from protomask.engine.plan import Plan
from protomask.engine.stretch import Stretch
from protomask.errors import ConfigError


def plan_of(num_images: int, share: Share | None = None, stretch: Stretch | None = None, **changes: Any) -> Plan:
    settings: dict[str, Any] = {"data": "shapes", "output": "run", "batch_size": 4, "epochs": 3, **changes}
    return Plan.of(TrainConfig(**settings), num_images, share or Share(), stretch)


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


@pytest.mark.parametrize("kind", ["step", "cosine", "flat_cosine", "one_cycle"])
def test_the_schedule_of_a_prolonged_run_starts_over(kind: str) -> None:
    settings: dict[str, Any] = {"schedule": kind, "warmup_iterations": 3, "learning_rate": 0.1}
    augmentation = AugmentationConfig(plain_end=0.25)
    first = plan_of(80, iterations=40, augmentation=augmentation, **settings)
    longer = Stretch(start=40, end=80, learning_rate=0.01, added="+2 epochs")
    second = plan_of(80, stretch=longer, iterations=40, augmentation=augmentation, **{**settings, "warmup_init": 1e-5})
    assert (second.max_iterations, second.variety.plain_from) == (80, 70)
    same = plan_of(80, iterations=40, **{**settings, "learning_rate": 0.01, "warmup_init": 1e-5})
    for iteration in range(40):
        assert second.schedule.learning_rate_at(40 + iteration) == same.schedule.learning_rate_at(iteration)
    assert first.schedule.learning_rate_at(39) < second.schedule.learning_rate_at(50)
    assert [iteration for iteration in range(41, 81) if second.validates_at(iteration)] == [60, 80]


def test_a_length_that_is_not_known_yet() -> None:
    plan = plan_of(40, minutes=3)
    assert plan.known_end is None
    assert plan.left_in_epoch(7) == 3
    assert not plan.validates_at(10)
    assert plan.seconds_left(5, step=1, validation=1) is None
    assert plan.schedule.learning_rate_at(0) == pytest.approx(1e-4)


def test_time_left() -> None:
    plan = plan_of(40, iterations=25)
    assert plan.validations_left(0) == 3
    assert plan.seconds_left(10, step=2, validation=7) == 15 * 2 + 2 * 7
