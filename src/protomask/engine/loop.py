"""The training step and the evaluation pass, as plain code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protomask.data.training.loader import TrainBatch, ValidationBatch
from protomask.detection.options import PredictOptions
from protomask.engine.optim import Schedule, set_learning_rate
from protomask.engine.teaching import Teacher
from protomask.models.families import read_output
from protomask.models.layers.module import Module
from protomask.models.network import Network
from protomask.ops.depthwise import DepthwiseGradientsInFloat32
from protomask.ops.geometry import Geometry
from protomask.structures.instances import Instances
from protomask.structures.target import Target

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.coco import CocoEvaluator
    from protomask.evaluation.tables import CocoMetrics

Criterion = Callable[[Any, Sequence[Target]], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one training step did.

    Attributes:
        iteration: steps done so far in the run, this one included.
        learning_rate: rate this step used.
        losses: every term of the criterion, mean over all batches of the step.
        image_ids: images that this process saw.
        problem: what was not finite, for which the weights were left alone; None if all was well.
        batches: what this process saw where there was a problem.
        seconds: duration of the step, waiting for its data included.
        data_seconds: time spent waiting for the data.

    """

    iteration: int
    learning_rate: float
    losses: dict[str, float]
    image_ids: tuple[int | None, ...]
    problem: str | None
    batches: tuple[TrainBatch, ...]
    seconds: float
    data_seconds: float


class TrainingStep(nn.Module):
    """Network and criterion as one module, for in some models the criterion runs heads of the network.

    What distributes the training must see the whole way from the images to the losses.

    Args:
        network: in training mode where it learns.
        criterion: takes the network's output and the targets; ``loss_total`` is minimised.
        teacher: adds terms of its own.

    """

    def __init__(self, network: Module, criterion: Criterion, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.teacher = teacher  # no module of this one: nothing of it learns or is synchronised

    def forward(self, images: Any, targets: Sequence[Target]) -> dict[str, Tensor]:
        """A batch of the geometry and its truth to the losses."""
        with DepthwiseGradientsInFloat32() if torch.is_autocast_enabled("cpu") else nullcontext():
            output = self.network(images)
        losses = self.criterion(output, targets)
        if self.teacher is not None:
            taught = self.teacher.losses(images, output)
            losses = {**losses, **taught, "loss_total": torch.stack([losses["loss_total"], *taught.values()]).sum()}
        return losses


def train_one_epoch(
    step: nn.Module,
    batches: Iterable[TrainBatch],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    *,
    geometry: Geometry,
    schedule: Schedule,
    iteration: int,
    accumulate: int = 1,
    clip_gradient: float | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[StepResult]:
    """Train on the batches, one step per item taken from this generator.

    Args:
        step: a `TrainingStep` as prepared by the accelerator.
        batches: images (B, 3, H, W) uint8 RGB and B targets in their frames, ``accumulate`` of them for each step.
        optimizer: as prepared by the accelerator.
        accelerator: knows device, precision and the other processes.
        geometry: normalises the images.
        schedule: learning rate of every iteration.
        iteration: steps done before.
        accumulate: batches whose gradients are averaged.
        clip_gradient: the gradient is shortened to at most this norm.
        memory_format: order in which the images are laid out.

    """
    step.train()
    batches = iter(batches)
    step_start = time.perf_counter()
    while group := tuple(islice(batches, accumulate)):
        data_seconds = time.perf_counter() - step_start
        learning_rate = schedule.learning_rate_at(iteration)
        set_learning_rate(optimizer, learning_rate)

        optimizer.zero_grad(set_to_none=True)
        terms: dict[str, float] = {}
        problem = None
        for number, (images, targets) in enumerate(group, start=1):
            images = images.to(accelerator.device, memory_format=memory_format, non_blocking=True)
            targets = [target.to(accelerator.device, non_blocking=True) for target in targets]
            batch = geometry.normalize_batch(images, [target.image_size for target in targets])
            # The processes average their gradients with the last batch.
            with accelerator.no_sync(step) if number < len(group) else nullcontext():
                losses = step(batch, targets)
                values = accelerator.reduce(torch.stack([loss.detach().float() for loss in losses.values()]), "mean")
                for name, value in zip(losses, values.tolist(), strict=True):
                    terms[name] = terms.get(name, 0.0) + value / len(group)
                if not math.isfinite(terms["loss_total"]):
                    problem = "loss is not finite: " + ", ".join(f"{name} {value}" for name, value in terms.items())
                    break
                accelerator.backward(losses["loss_total"] / len(group))
        if problem is None:
            problem = _limit_gradient(step, accelerator, clip_gradient)
        if problem is None:
            optimizer.step()

        iteration += 1
        yield StepResult(
            iteration=iteration,
            learning_rate=learning_rate,
            losses=terms,
            image_ids=tuple(target.image_id for _, targets in group for target in targets),
            problem=problem,
            batches=() if problem is None else group,
            seconds=time.perf_counter() - step_start,
            data_seconds=data_seconds,
        )
        step_start = time.perf_counter()


def _limit_gradient(step: nn.Module, accelerator: Accelerator, limit: float | None) -> str | None:
    """Shorten the gradient and return which weights have one that is not finite."""
    learning = {name: value.grad for name, value in step.named_parameters() if value.grad is not None}
    if accelerator.scaler is None:  # a loss scaler leaves such steps out by itself
        finite = torch.stack([gradient.norm().isfinite() for gradient in learning.values()]).tolist()
        bad = [name for name, is_finite in zip(learning, finite, strict=True) if not is_finite]
        if bad:
            names = ", ".join(name.removeprefix("module.").removeprefix("network.") for name in bad[:3])
            return f"gradient is not finite: in {len(bad)} of {len(learning)} tensors, first {names}"
    if limit is not None:
        accelerator.clip_grad_norm_(step.parameters(), limit)
    return None


def evaluate(
    network: Network,
    batches: Iterable[ValidationBatch],
    evaluator: CocoEvaluator,
    *,
    accelerator: Accelerator | None = None,
    device: torch.device | str = "cpu",
    max_detections: int = 100,
    memory_format: torch.memory_format = torch.contiguous_format,
    seen_only: bool = False,
    on_image: Callable[[int, Instances], None] | None = None,
) -> CocoMetrics:
    """Predict every image and compare with the truth in the original frame.

    Args:
        network: left in the mode it came in.
        batches: batches of the network's geometry, original sizes (H, W), image ids.
        evaluator: fresh one for the same images.
        accelerator: knows the other processes, each of which has batches of its own; none without.
        device: where the network is.
        max_detections: instances kept per image.
        memory_format: order in which the images are laid out.
        seen_only: measure only on the images of ``batches``, not on all of the evaluator's annotation file.
        on_image: called with the id and the instances of every image as it is done.

    """
    options = PredictOptions(score_threshold=0.0, max_detections=max_detections)
    was_training = network.training
    network.train(False)
    try:
        with torch.no_grad():  # inference tensors could not be used by a later training step
            for images, original_sizes, image_ids in batches:
                output = network(images.to(device, memory_format=memory_format, non_blocking=True))
                found = read_output(network, output, original_sizes, options)
                for image_id, instances in zip(image_ids, found, strict=True):
                    evaluator.update(image_id, instances)
                    if on_image is not None:
                        on_image(image_id, instances)
    finally:
        network.train(was_training)
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        evaluator.exchange(gather_object)
    return evaluator.evaluate(seen_only=seen_only)
