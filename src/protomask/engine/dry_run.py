"""A run tried for a few steps, to say how fast it would be, how much memory it takes and how long it would last."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from protomask.data.training.loader import training_batches, validation_batches
from protomask.detection.options import PredictOptions
from protomask.engine.config import TrainConfig
from protomask.engine.folder import RunFolder
from protomask.engine.log import Reporter, SilentReporter
from protomask.engine.loop import StepResult, TrainingStep, train_one_epoch
from protomask.engine.optim import AveragedWeights
from protomask.engine.pace import clock_time, end_on_time, epochs_between_validations
from protomask.engine.plan import Plan
from protomask.engine.processes import is_first_process, mean_of_processes, share_of
from protomask.engine.run import Materials, gather
from protomask.engine.setup import accelerator_for, memory_format, optimizer_for, prepare_network
from protomask.errors import ConfigError
from protomask.memory import peak_mib
from protomask.models.families import read_output

if TYPE_CHECKING:
    from accelerate import Accelerator

STEPS = 10
_WARM_UP = 2
"""Number of first steps that are not timed, because they wait for data and memory."""
_VALIDATION_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a few steps say about a run.

    Attributes:
        images_per_second: of all processes together, in training.
        step_seconds: time of a step.
        data_wait: share of it spent waiting for data.
        validation_seconds: time of a validation, estimated from a few of its images.
        iterations: number of steps of the whole run.
        epochs: number of passes over the training images.
        validations: number of validations.
        seconds: duration of the whole run, without the report.
        peak_mib: largest memory of the training process; None on Windows. Processes that load images come on top.
        gpu_peak_mib: largest memory that PyTorch took on the GPU; None without one.
        losses: of the last step.
        steps: number of steps tried.

    """

    images_per_second: float
    step_seconds: float
    data_wait: float
    validation_seconds: float
    iterations: int
    epochs: float
    validations: int
    seconds: float
    peak_mib: float | None
    gpu_peak_mib: float | None
    losses: dict[str, float]
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def as_text(self) -> str:
        """The same in lines."""
        gpu = "" if self.gpu_peak_mib is None else f", {self.gpu_peak_mib:.0f} MiB of the GPU"
        memory = "unknown" if self.peak_mib is None else f"{self.peak_mib:.0f} MiB in the training process{gpu}"
        waiting = f", {self.data_wait:.0%} of the time waiting for data" if self.data_wait > 0.1 else ""
        return "\n".join(
            (
                f"rate: {self.images_per_second:.1f} images/s, {self.step_seconds:.2f} s per step{waiting}",
                f"memory: {memory}",
                f"length: {self.iterations} steps, {self.epochs:.1f} epochs",
                f"validations: {self.validations} of about {clock_time(self.validation_seconds)}",
                f"duration: about {clock_time(self.seconds)}, by {self.steps} steps",
            )
        )


def dry_run(config: TrainConfig, *, reporter: Reporter | None = None, steps: int = STEPS) -> DryRun:
    """Take the first steps of a run and leave nothing behind.

    Args:
        config: settings of the run, which must be a new one.
        reporter: receives messages.
        steps: number of steps, more than two.

    Raises:
        ConfigError: as `protomask.engine.run.train`, or the settings continue a run.
        ProtomaskError: as `protomask.engine.run.train`.

    """
    if config.resume:
        raise ConfigError("resume: expected a new run for a dry run, got one that is to be continued")
    if reporter is None or not is_first_process():
        reporter = SilentReporter()
    RunFolder(Path(config.output)).check(config)
    materials = gather(config, reporter)
    accelerator = accelerator_for(config)
    plan = Plan.of(config, len(materials.train_dataset), share_of(accelerator, config))
    prepare_network(materials.network, config, accelerator, reporter)
    on_gpu = accelerator.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    results = _train(config, plan, accelerator, materials, steps)
    timed = results[min(_WARM_UP, len(results) - 1) :]
    step, validation = mean_of_processes(
        accelerator,
        sum(result.seconds for result in timed) / len(timed),
        _validation_seconds(config, plan, accelerator, materials),
    )
    plan = _with_length(config, plan, len(materials.train_dataset), step, validation)
    return DryRun(
        images_per_second=plan.images_per_step / step,
        step_seconds=step,
        data_wait=sum(result.data_seconds for result in timed) / sum(result.seconds for result in timed),
        validation_seconds=validation,
        iterations=plan.max_iterations,
        epochs=plan.max_iterations / plan.per_epoch,
        validations=plan.validations_left(0),
        seconds=plan.seconds_left(0, step=step, validation=validation) or 0.0,
        peak_mib=peak_mib(),
        gpu_peak_mib=torch.cuda.max_memory_allocated(accelerator.device) / 2**20 if on_gpu else None,
        losses=results[-1].losses,
        steps=len(results),
    )


def _train(
    config: TrainConfig, plan: Plan, accelerator: Accelerator, materials: Materials, steps: int
) -> list[StepResult]:
    network = materials.network
    average = None if config.ema_decay is None else AveragedWeights(network, config.ema_decay)
    optimizer = optimizer_for(network, config, plan.schedule.base_lr)
    if materials.teacher is not None:
        materials.teacher.to(accelerator.device, memory_format(config))
    step, optimizer = accelerator.prepare(TrainingStep(network, materials.criterion, materials.teacher), optimizer)
    batches = training_batches(
        materials.train_dataset,
        batch_size=plan.batch_size,
        seed=config.seed,
        first_iteration=0,
        last_iteration=plan.max_iterations,
        num_workers=config.num_workers,
        share=plan.share,
        variety=plan.variety,
        pad_multiple=network.geometry.pad_multiple,
        pin_memory=accelerator.device.type == "cuda",
    )
    results = []
    for result in train_one_epoch(
        step,
        islice(batches, steps * config.accumulate),
        optimizer,
        accelerator,
        geometry=network.geometry,
        schedule=plan.schedule,
        iteration=0,
        accumulate=config.accumulate,
        clip_gradient=config.clip_gradient,
        memory_format=memory_format(config),
    ):
        if average is not None:
            average.update(network)
        results.append(result)
    return results


def _validation_seconds(config: TrainConfig, plan: Plan, accelerator: Accelerator, materials: Materials) -> float:
    """Time of a whole validation, by its first batches."""
    network = materials.network.eval()
    options = PredictOptions(score_threshold=0.0, max_detections=config.max_detections)
    batches = validation_batches(
        materials.val_dataset, network.geometry, batch_size=config.batch_size, num_workers=0, share=plan.share
    )
    started, seen = time.perf_counter(), 0
    with torch.no_grad():
        for images, sizes, _ in islice(batches, _VALIDATION_BATCHES):
            output = network(images.to(accelerator.device, memory_format=memory_format(config)))
            for found in read_output(network, output, sizes, options):
                found.rle()
            seen += len(sizes)
    seconds = time.perf_counter() - started
    return seconds * len(materials.val_dataset) / max(seen * plan.share.processes, 1)


def _with_length(config: TrainConfig, plan: Plan, num_images: int, step: float, validation: float) -> Plan:
    """The plan of a run whose length is a time, once its speed is known; any other as it is."""
    minutes = plan.stretch.minutes
    if minutes is None:
        return plan
    epochs = epochs_between_validations(config.validate_every, step * plan.per_epoch, validation)
    end = end_on_time(60 * minutes, 0, plan.per_epoch * epochs, step=step, validation=validation)
    timed = Plan.of(config, num_images, plan.share, replace(plan.stretch, end=end))
    return replace(timed, validate_every=epochs)
