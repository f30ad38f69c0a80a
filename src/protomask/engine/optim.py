"""The optimizer and the learning rate of every iteration, as the published recipe has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from protomask.errors import ConfigError

OFFICIAL_BATCH_SIZE = 8


def learning_rate_at(
    iteration: int,
    *,
    base_lr: float,
    warmup_iterations: int,
    warmup_init: float,
    steps: Sequence[float],
    gamma: float = 0.1,
) -> float:
    """Learning rate in force at an iteration of the published schedule: linear warm-up, then steps.

    Args:
        iteration: counts from 0.
        base_lr: learning rate between the warm-up and the first step.
        warmup_iterations: the warm-up reaches ``base_lr`` at this iteration; 0 for none.
        warmup_init: learning rate of iteration 0.
        steps: ascending iterations; from each on (itself included) the rate is ``gamma`` times the one before.
        gamma: factor of one step.

    """
    passed = sum(iteration >= step for step in steps)
    if warmup_iterations > 0 and (iteration <= warmup_iterations or passed == 0):
        progress = min(iteration, warmup_iterations) / warmup_iterations
        return (base_lr - warmup_init) * progress + warmup_init
    return base_lr * gamma**passed


def cosine_learning_rate_at(
    iteration: int, *, base_lr: float, warmup_iterations: int, warmup_init: float, max_iterations: int
) -> float:
    """Learning rate of half a cosine from ``base_lr`` (after the same warm-up) to zero at ``max_iterations``."""
    if warmup_iterations > 0 and iteration <= warmup_iterations:
        return (base_lr - warmup_init) * (iteration / warmup_iterations) + warmup_init
    length = max(max_iterations - warmup_iterations, 1)
    progress = min((iteration - warmup_iterations) / length, 1.0)
    return base_lr * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate over one run.

    Attributes:
        base_lr: learning rate after the warm-up.
        max_iterations: length of the run.
        steps: iterations at which the rate is divided by ten (``kind`` "step").
        warmup_iterations: length of the linear warm-up, 0 for none.
        warmup_init: learning rate of iteration 0.
        kind: "step" (published) or "cosine".

    """

    base_lr: float
    max_iterations: int
    steps: tuple[float, ...] = ()
    warmup_iterations: int = 500
    warmup_init: float = 1e-4
    kind: Literal["step", "cosine"] = "step"

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate in force at an iteration, counted from 0."""
        if self.kind == "cosine":
            return cosine_learning_rate_at(
                iteration,
                base_lr=self.base_lr,
                warmup_iterations=self.warmup_iterations,
                warmup_init=self.warmup_init,
                max_iterations=self.max_iterations,
            )
        return learning_rate_at(
            iteration,
            base_lr=self.base_lr,
            warmup_iterations=self.warmup_iterations,
            warmup_init=self.warmup_init,
            steps=self.steps,
        )


def autoscale_schedule(schedule: Schedule, batch_size: int) -> Schedule:
    """The published schedule, written for batch 8, at another batch size.

    The learning rate grows with the batch; the length and the steps shrink by the same factor, rounded down; the
    warm-up keeps its iterations and its first rate.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    factor = batch_size / OFFICIAL_BATCH_SIZE
    return replace(
        schedule,
        base_lr=schedule.base_lr * factor,
        max_iterations=int(schedule.max_iterations // factor),
        steps=tuple(step // factor for step in schedule.steps),
    )


def schedule_for_run(
    max_iterations: int,
    *,
    base_lr: float,
    batch_size: int,
    step_fractions: Sequence[float],
    warmup_iterations: int,
    warmup_init: float,
    kind: Literal["step", "cosine"] = "step",
) -> Schedule:
    """The published schedule stretched to a run of any length.

    The steps come at the same fractions of the run, the warm-up takes at most a tenth of it, and ``base_lr``, meant for
    batch 8, is multiplied by ``batch_size`` / 8. The length is the caller's and is not scaled again.
    """
    return Schedule(
        base_lr=base_lr * (batch_size / OFFICIAL_BATCH_SIZE),
        max_iterations=max_iterations,
        steps=tuple(float(round(fraction * max_iterations)) for fraction in step_fractions),
        warmup_iterations=min(warmup_iterations, max_iterations // 10),
        warmup_init=warmup_init,
        kind=kind,
    )


def build_optimizer(
    network: nn.Module, *, learning_rate: float, momentum: float = 0.9, weight_decay: float = 5e-4
) -> torch.optim.SGD:
    """SGD with momentum over every parameter that learns; weight decay on all of them, biases included, as published.

    The fused update is used where PyTorch has one: on a CPU it takes less than half the time of the plain one.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("network: expected at least one parameter that requires a gradient, got none")
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=fused)


def freeze_batch_norm(network: nn.Module) -> int:
    """Fix every batch norm: running statistics are used and kept, weight and bias get no gradient.

    A later ``network.train()`` does not undo it. Keys of the state dict stay the same.

    Returns:
        Number of layers frozen.

    """
    count = 0
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _FrozenBatchNorm2d
            module.requires_grad_(False).eval()
            count += 1
    return count


def freeze_all_but(network: nn.Module, part: nn.Module) -> None:
    """Leave only one part of a network to be trained: the rest gets no gradient and its batch norm is fixed."""
    freeze_batch_norm(network)
    network.requires_grad_(False)
    part.requires_grad_(True)


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        super().train(False)
        return self
