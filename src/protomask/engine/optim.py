"""The optimizer and the learning rate of every iteration, as the published recipe has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from protomask.errors import ConfigError
from protomask.models.layers.backbone import Backbone
from protomask.models.layers.module import Module
from protomask.models.network import Network

OFFICIAL_BATCH_SIZE = 8
ScheduleKind = Literal["step", "cosine", "flat_cosine", "one_cycle"]
OptimizerKind = Literal["sgd", "adamw"]


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


def flat_cosine_learning_rate_at(
    iteration: int, *, base_lr: float, warmup_iterations: int, warmup_init: float, max_iterations: int
) -> float:
    """The full rate for half of the run, then half a cosine down to a twentieth (Lyu et al. 2022, section 3.4)."""
    flat = max_iterations // 2
    if iteration <= max(flat, warmup_iterations):
        return learning_rate_at(
            iteration, base_lr=base_lr, warmup_iterations=warmup_iterations, warmup_init=warmup_init, steps=()
        )
    progress = min((iteration - flat) / max(max_iterations - flat, 1), 1.0)
    return base_lr * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * progress)))


def one_cycle_learning_rate_at(iteration: int, *, base_lr: float, max_iterations: int) -> float:
    """One cycle (Smith & Topin 2018): half cosines from 1/25 of ``base_lr`` up to it, then down to nearly nothing.

    The way up takes three tenths of the run.
    """
    top = max(0.3 * max_iterations, 1.0)
    if iteration <= top:
        start, end, progress = base_lr / 25, base_lr, iteration / top
    else:
        start, end, progress = base_lr, base_lr / 250_000, (iteration - top) / max(max_iterations - top, 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate over one run.

    Attributes:
        base_lr: learning rate after the warm-up.
        max_iterations: number of iterations.
        steps: of those, the ones at which the rate is divided by ten (``kind`` "step").
        warmup_iterations: length of the linear warm-up, 0 for none.
        warmup_init: learning rate of iteration 0.
        kind: "step" (published), "cosine", "flat_cosine" or "one_cycle" (without the warm-up, it has its own).
        start: first iteration; that of a run which is prolonged later.

    """

    base_lr: float
    max_iterations: int
    steps: tuple[float, ...] = ()
    warmup_iterations: int = 500
    warmup_init: float = 1e-4
    kind: ScheduleKind = "step"
    start: int = 0

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate in force at an iteration of the run, counted from 0."""
        iteration -= self.start
        if self.kind == "one_cycle":
            return one_cycle_learning_rate_at(iteration, base_lr=self.base_lr, max_iterations=self.max_iterations)
        if self.kind in ("cosine", "flat_cosine"):
            follow = cosine_learning_rate_at if self.kind == "cosine" else flat_cosine_learning_rate_at
            return follow(
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
    kind: ScheduleKind = "step",
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


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How each kind of parameter learns.

    Attributes:
        kind: "sgd" (published) or "adamw" (Loshchilov & Hutter 2019).
        momentum: of SGD, and of AdamW's first moment.
        weight_decay: on all parameters, biases included, as published for YOLACT.
        bias_learning_rate_factor: factor on the learning rate of biases: 2 as published for Mask R-CNN.
        bias_weight_decay: whether weight decay holds for biases too: it does not for Mask R-CNN.
        norm_weight_decay: whether it holds for the weights of batch norm and other normalisation.
        backbone_learning_rate_factor: factor on the learning rate of the backbone.
        head_learning_rate_factor: everything but the backbone does, see `protomask.models.families.Family`.

    """

    kind: OptimizerKind = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_learning_rate_factor: float = 1.0
    bias_weight_decay: bool = True
    norm_weight_decay: bool = True
    backbone_learning_rate_factor: float = 1.0
    head_learning_rate_factor: float = 1.0

    def group_of(self, name: str, *, is_norm: bool) -> tuple[float, float]:
        """Factor of the learning rate, and weight decay, of the parameter of this name."""
        is_bias = name.endswith("bias")
        factor = self.bias_learning_rate_factor if is_bias else 1.0
        of_backbone = name.startswith("backbone.")
        factor *= self.backbone_learning_rate_factor if of_backbone else self.head_learning_rate_factor
        decays = self.bias_weight_decay if is_bias else self.norm_weight_decay or not is_norm
        return factor, self.weight_decay if decays else 0.0


_PLAIN = OptimizerOptions()


def build_optimizer(
    network: Module, *, learning_rate: float, options: OptimizerOptions = _PLAIN
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over every parameter that learns.

    The fused update is used where PyTorch has one: on a CPU it takes less than half the time of the plain one.

    Args:
        network: whose parameters are taken.
        learning_rate: of the first step; `set_learning_rate` changes it.
        options: how each kind of parameter learns.

    """
    learning = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not learning:
        raise ConfigError("network: expected at least one parameter that requires a gradient, got none")
    norms = _norm_weights(network)
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in learning:
        parts.setdefault(options.group_of(name, is_norm=id(parameter) in norms), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": own, "factor": factor, "weight_decay": decay} for (factor, decay), own in parts.items()
    ]
    fused = all(parameter.device.type in ("cpu", "cuda") for _, parameter in learning)
    optimizer: torch.optim.Optimizer
    if options.kind == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(options.momentum, 0.999), fused=fused)
    else:
        optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=options.momentum, fused=fused)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def _norm_weights(network: Module) -> set[int]:
    """Ids of the parameters that normalisation scales with."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    return {id(module.weight) for module in network.modules() if isinstance(module, kinds)}


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Let every parameter learn at a rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("factor", 1.0)


def freeze_stages(backbone: Backbone, count: int) -> None:
    """Fix the first layers of a backbone: with 1 those of stride 2 (the stem), with 2 those of stride 4 too, and so on.

    Raises:
        ConfigError: the backbone has no layers of these strides, or does not tell.

    """
    if count == 0:
        return
    frozen = [module.requires_grad_(False) for stride, module in backbone.layers() if stride <= 2**count]
    if not any(True for module in frozen for _ in module.parameters()):
        first = min((stride for stride, _ in backbone.layers()), default=None)
        why = "does not tell the strides of its layers" if first is None else f"has no layers below stride {first}"
        raise ConfigError(f"frozen_stages: expected 0, as the backbone {why}, got {count}")


def freeze_batch_norm(network: Module, *, affine: bool = True) -> int:
    """Fix every batch norm: running statistics are used and kept, and with ``affine`` weight and bias get no gradient.

    A later ``network.train()`` does not undo it. Keys of the state dict stay the same.

    Returns:
        Number of layers frozen.

    """
    count = 0
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _FrozenBatchNorm2d
            module.requires_grad_(module.weight.requires_grad and not affine).eval()
            count += 1
    return count


def freeze_all_but(network: Module, part: nn.Module) -> None:
    """Leave only one part of a network to be trained: the rest gets no gradient and its batch norm is fixed."""
    freeze_batch_norm(network)
    network.requires_grad_(False)
    part.requires_grad_(True)


class AveragedWeights:
    """Exponential moving average of a network's weights and statistics (Polyak & Juditsky 1992).

    Args:
        network: whose weights are averaged.
        decay: weight of the past in each step, in (0, 1); the first steps use less.

    Attributes:
        network: a copy with the averaged weights, in evaluation mode.
        steps: taken so far.

    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Take one more step of the network into the average."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """What belongs to the state of a run."""
        return {"steps": self.steps, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.steps = state["steps"]
        self.network.load_state_dict(state["network"])


class _FrozenBatchNorm2d(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> _FrozenBatchNorm2d:
        super().train(False)
        return self
