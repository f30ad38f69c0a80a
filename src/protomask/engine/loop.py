"""The training step and the evaluation pass, as plain code."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protomask.data.loader import TrainBatch, ValidationBatch
from protomask.engine.optim import Schedule, set_learning_rate
from protomask.models.zoo import Network
from protomask.structures.geometry import Geometry
from protomask.structures.instances import Instances, Target

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.coco import CocoEvaluator, CocoMetrics

Criterion = Callable[[Any, Sequence[Target]], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one training step did.

    Attributes:
        iteration: steps done so far in the run, this one included.
        learning_rate: rate this step used.
        losses: every term of the criterion.
        image_ids: images of the batch.
        skipped: the total loss was not finite and the weights were left alone.
        seconds: duration of the step, waiting for its data included.
        data_seconds: time spent waiting for the data.

    """

    iteration: int
    learning_rate: float
    losses: dict[str, float]
    image_ids: tuple[int | None, ...]
    skipped: bool
    seconds: float
    data_seconds: float


def train_one_epoch(
    network: nn.Module,
    criterion: Criterion,
    batches: Iterable[TrainBatch],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    *,
    geometry: Geometry,
    schedule: Schedule,
    iteration: int,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[StepResult]:
    """Train on the batches, one step per item taken from this generator.

    Args:
        network: as prepared by the accelerator.
        criterion: takes the network's output and the targets; ``loss_total`` is minimised.
        batches: images (B, 3, H, W) uint8 RGB and B targets in their frames.
        optimizer: as prepared by the accelerator.
        accelerator: knows device and precision.
        geometry: normalises the images.
        schedule: learning rate of every iteration.
        iteration: steps done before.
        memory_format: order in which the images are laid out.

    """
    network.train()
    step_start = time.perf_counter()
    for images, targets in batches:
        data_seconds = time.perf_counter() - step_start
        learning_rate = schedule.learning_rate_at(iteration)
        set_learning_rate(optimizer, learning_rate)

        images = images.to(accelerator.device, memory_format=memory_format, non_blocking=True)
        targets = [target.to(accelerator.device, non_blocking=True) for target in targets]
        batch = geometry.normalize_batch(images, [target.image_size for target in targets])
        losses = criterion(network(batch), targets)
        values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
        terms = dict(zip(losses, values, strict=True))
        finite = math.isfinite(terms["loss_total"])
        if finite:
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(losses["loss_total"])
            optimizer.step()

        iteration += 1
        yield StepResult(
            iteration=iteration,
            learning_rate=learning_rate,
            losses=terms,
            image_ids=tuple(target.image_id for target in targets),
            skipped=not finite,
            seconds=time.perf_counter() - step_start,
            data_seconds=data_seconds,
        )
        step_start = time.perf_counter()


def evaluate(
    network: Network,
    batches: Iterable[ValidationBatch],
    evaluator: CocoEvaluator,
    *,
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
        device: where the network is.
        max_detections: instances kept per image.
        memory_format: order in which the images are laid out.
        seen_only: measure on the images of ``batches`` alone, not on all of the evaluator's annotation file.
        on_image: called with the id and the instances of every image as it is done.

    """
    was_training = network.training
    network.train(False)
    try:
        with torch.no_grad():  # inference tensors could not be used by a later training step
            for images, original_sizes, image_ids in batches:
                output = network(images.to(device, memory_format=memory_format, non_blocking=True))
                found = network.postprocess(output, original_sizes, max_detections=max_detections)
                for image_id, instances in zip(image_ids, found, strict=True):
                    evaluator.update(image_id, instances)
                    if on_image is not None:
                        on_image(image_id, instances)
    finally:
        network.train(was_training)
    return evaluator.evaluate(seen_only=seen_only)
