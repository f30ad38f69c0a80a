"""One training run: parts from the settings, then epochs, validations and saved states until it ends or is stopped."""

from __future__ import annotations

import os
import random
import time
import warnings
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from protomask.checkpoints.io import save_weights
from protomask.data.augmentation import AugmentationConfig
from protomask.data.coco import CocoDataset, DataWarning, open_dataset
from protomask.data.loader import Share, TrainingDataset, batches_per_epoch, training_batches, validation_batches
from protomask.data.mixing import TrainingImages
from protomask.engine.config import TrainConfig
from protomask.engine.folder import Progress, RunFolder, random_state, without_folders
from protomask.engine.log import Interval, NoLog, Reporter, SilentReporter, open_log, validation_record
from protomask.engine.loop import Criterion, StepResult, TrainingStep, evaluate, train_one_epoch
from protomask.engine.network_input import network_input
from protomask.engine.optim import (
    AveragedWeights,
    build_optimizer,
    freeze_all_but,
    freeze_batch_norm,
    freeze_stages,
    schedule_for_run,
)
from protomask.engine.processes import in_any_process, share_statistics
from protomask.engine.setup import accelerator_for, check_data, network_for, optional_part, variety_of
from protomask.engine.stop import StopRequest
from protomask.engine.trackers import external_trackers
from protomask.errors import ConfigError, ProtomaskError
from protomask.models.zoo import Network, build_criterion

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.tables import CocoMetrics

_KEPT_BAD_BATCHES = 10


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        output: run folder.
        iteration: steps done, over all parts of the run.
        epoch: passes completed.
        metrics: the last validation, None if there was none in this part of the run.
        best_mask_ap: mask AP in [0, 1] of ``best_weights``, None while no validation found one.
        best_weights: file, None while no validation found a mask AP.
        last_weights: file.
        skipped_steps: steps left out because their loss or gradient was not finite.
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


def train(config: TrainConfig, *, reporter: Reporter | None = None) -> TrainResult:
    """Train as the settings say.

    Raises:
        ConfigError: a setting does not fit the data, the machine or the run to be continued.
        MissingExtraError: a tracker is not installed.
        DataError: the data set cannot be used.
        CheckpointError: weights or the saved state cannot be used, or cannot be written.
        ProtomaskError: loss or gradient were not finite for too many steps in a row.

    """
    # Every process looks at the data, so that an error ends all of them; one tells what it sees.
    if reporter is None or os.environ.get("RANK", "0") != "0":
        reporter = SilentReporter()
    RunFolder(Path(config.output)).check(config)
    external_trackers(config)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    report = check_data(config) if config.check_data else None
    paths = open_dataset(config.data)
    with warnings.catch_warnings():
        if report is not None:  # it tells more
            warnings.simplefilter("ignore", DataWarning)
        train_dataset = CocoDataset(paths.train_annotations, paths.train_images)
        classes = train_dataset.class_names
        if config.overfit is None:
            augmentation = config.augmentation
            val_dataset = CocoDataset(paths.val_annotations, paths.val_images, class_names=classes)
        else:
            augmentation = AugmentationConfig.off()
            val_dataset = CocoDataset(paths.train_annotations, paths.train_images)
            for dataset in (train_dataset, val_dataset):
                dataset.keep_first(config.overfit)
    network = network_for(config, classes, reporter)
    if report is not None:
        for problem in report.with_network(network_input(network)).of("warning"):
            reporter.message(f"warning: {problem.message}")
    return fit(
        config,
        network=network,
        criterion=build_criterion(network, label_smoothing=config.label_smoothing),
        train_dataset=TrainingImages(train_dataset, augmentation, network.geometry),
        val_dataset=val_dataset,
        reporter=reporter,
    )


def fit(
    config: TrainConfig,
    *,
    network: Network,
    criterion: Criterion,
    train_dataset: TrainingDataset,
    val_dataset: CocoDataset,
    reporter: Reporter,
) -> TrainResult:
    """Train a network on data sets: the part of `train` after everything is built."""
    if len(train_dataset) == 0:
        raise ConfigError(f"data: expected at least one training image, got none in {config.data}")
    from accelerate.utils import gather_object

    accelerator = accelerator_for(config)
    # One process speaks and writes for all.
    is_main = accelerator.is_main_process
    reporter = reporter if is_main else SilentReporter()
    folder = RunFolder(Path(config.output))
    if is_main:
        folder.open(config)
    device = accelerator.device
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    if config.train_only is not None:
        part = optional_part(network, config.train_only, "train_only")
        if part is None:
            raise ConfigError(f"train_only: the model has no {config.train_only} yet (--add {config.train_only})")
        freeze_all_but(network, part)
        reporter.message(f"everything but {config.train_only} stays as it is")
    elif config.freezes_batch_norm:
        frozen = freeze_batch_norm(network)
        reporter.message(f"batch norm: {frozen} layers fixed (freeze_bn {config.freeze_bn}, batch {config.batch_size})")
    freeze_stages(network.backbone, config.frozen_stages)

    if config.sync_batch_norm:
        share_statistics(network, config, accelerator)
    share = Share(accelerator.process_index, accelerator.num_processes, config.accumulate)
    batch_size = min(config.batch_size, len(train_dataset) // share.batches_per_step)
    if batch_size == 0:
        raise ConfigError(
            f"data: expected at least one image for each of {share.batches_per_step} batches per step "
            f"({share.processes} processes, accumulate {share.accumulate}), got {len(train_dataset)}"
        )
    images_per_step = batch_size * share.batches_per_step
    per_epoch = batches_per_epoch(len(train_dataset), images_per_step)
    max_iterations = config.iterations or config.epochs * per_epoch
    schedule = schedule_for_run(
        max_iterations,
        base_lr=config.learning_rate,
        batch_size=images_per_step,
        step_fractions=config.lr_steps,
        warmup_iterations=config.warmup_iterations,
        warmup_init=config.warmup_init,
        kind=config.schedule,
    )
    optimizer = build_optimizer(
        network,
        learning_rate=schedule.base_lr,
        kind=config.optimizer,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        bias_learning_rate_factor=config.bias_learning_rate_factor,
        bias_weight_decay=config.bias_weight_decay,
    )
    average = None if config.ema_decay is None else AveragedWeights(network, config.ema_decay)
    learned = network if average is None else average.network
    training_step, optimizer = accelerator.prepare(TrainingStep(network, criterion), optimizer)
    parts = {"network": network, "optimizer": optimizer, "scaler": accelerator.scaler, "average": average}
    progress = Progress()
    if config.resume and folder.state_file.is_file():
        progress = folder.load_state(parts, process=share.process, processes=share.processes)
        reporter.message(f"continuing {folder.path} at iteration {progress.iteration} of {max_iterations}")
    batches = iter(
        training_batches(
            train_dataset,
            batch_size=batch_size,
            seed=config.seed,
            first_iteration=progress.iteration,
            last_iteration=max_iterations,
            num_workers=config.num_workers,
            share=share,
            variety=variety_of(config, max_iterations),
            pad_multiple=network.geometry.pad_multiple,
            pin_memory=device.type == "cuda",
        )
    )

    def save(*weights: Path) -> None:
        random_states = gather_object([random_state()])
        if not is_main:
            return
        folder.save_state(parts, progress, random_states)
        provenance = {
            "source": "protomask train",
            "iteration": progress.iteration,
            "best_mask_ap": progress.best_mask_ap,
            # Weights travel: they tell how they were made, not where on whose machine.
            "settings": without_folders(config),
        }
        for path in weights:
            save_weights(learned, path, provenance=provenance)

    metrics: CocoMetrics | None = None
    interval = Interval()
    saved_at = time.monotonic()
    with (
        closing(open_log(config, progress, accelerator, reporter) if is_main else NoLog()) as log,
        StopRequest() as signals,
    ):
        stops = False
        while not stops:
            epoch, position = divmod(progress.iteration, per_epoch)
            finished = progress.iteration >= max_iterations
            validates = finished or (position == 0 and epoch > 0 and epoch % config.validate_every == 0)
            if validates and progress.validated_iteration != progress.iteration:
                started = time.perf_counter()
                metrics = _validate(config, learned, val_dataset, accelerator, share, memory_format)
                improved = progress.validated(metrics)
                save(folder.last_weights, *([folder.best_weights] if improved else []))
                saved_at = time.monotonic()
                record = validation_record(metrics, progress, epoch, time.perf_counter() - started)
                log.write("validation", record)
                reporter.on_validation(record)
            if config.patience is not None and progress.stale_validations >= config.patience and not finished:
                reporter.message(f"no better mask AP in {progress.stale_validations} validations: the run ends here")
                finished = True
            if finished:
                break

            left_in_epoch = min((epoch + 1) * per_epoch, max_iterations) - progress.iteration
            for step in train_one_epoch(
                training_step,
                islice(batches, left_in_epoch * config.accumulate),
                optimizer,
                accelerator,
                geometry=network.geometry,
                schedule=schedule,
                iteration=progress.iteration,
                accumulate=config.accumulate,
                clip_gradient=config.clip_gradient,
                memory_format=memory_format,
            ):
                progress.iteration = step.iteration
                interval.add(step)
                if step.problem is not None:
                    _on_bad_step(step, step.problem, folder, progress, config, reporter, share)
                else:
                    progress.bad_steps = 0
                    if average is not None:
                        average.update(network)
                if step.iteration % config.log_every == 0 or step.iteration == max_iterations:
                    record = interval.record(per_epoch, max_iterations)
                    log.write("train", record)
                    reporter.on_step(record)
                    interval = Interval()
                is_late = time.monotonic() - saved_at > 60 * config.checkpoint_minutes
                stops, saves = in_any_process(accelerator, signals.requested(), is_late)
                if stops:
                    break
                if saves:
                    save(folder.last_weights)
                    saved_at = time.monotonic()
        if stops:
            save(folder.last_weights)
            reporter.message(f"stopped at iteration {progress.iteration} of {max_iterations}, saved; resume continues")

    return TrainResult(
        output=folder.path,
        iteration=progress.iteration,
        epoch=progress.iteration // per_epoch,
        metrics=metrics,
        best_mask_ap=progress.best_mask_ap,
        best_weights=None if progress.best_mask_ap is None else folder.best_weights,
        last_weights=folder.last_weights,
        skipped_steps=progress.skipped_steps,
        interrupted=stops,
    )


def _validate(
    config: TrainConfig,
    network: Network,
    dataset: CocoDataset,
    accelerator: Accelerator,
    share: Share,
    memory_format: torch.memory_format,
) -> CocoMetrics:
    from protomask.evaluation.evaluator import CocoEvaluator

    device = accelerator.device
    batches = validation_batches(
        dataset,
        network.geometry,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        share=share,
        pin_memory=device.type == "cuda",
    )
    evaluator = CocoEvaluator(
        dataset.annotation_file, category_ids=dataset.category_ids, max_detections=config.max_detections
    )
    return evaluate(
        network,
        batches,
        evaluator,
        accelerator=accelerator,
        device=device,
        max_detections=config.max_detections,
        memory_format=memory_format,
        seen_only=config.overfit is not None,
    )


def _on_bad_step(
    step: StepResult,
    problem: str,
    folder: RunFolder,
    progress: Progress,
    config: TrainConfig,
    reporter: Reporter,
    share: Share,
) -> None:
    """Tell of a step that could not be taken, keep what it saw, and give up if it is one of many."""
    progress.skipped_steps += 1
    progress.bad_steps += 1
    images = ", ".join(map(str, step.image_ids))
    kept = ""
    if progress.skipped_steps <= _KEPT_BAD_BATCHES:
        path = folder.save_bad_batch(step.iteration, problem, step.batches, process=share.process)
        kept = f" and kept in {path}"
    reporter.message(f"iteration {step.iteration}: {problem}, on images {images}; the step was left out{kept}")
    if progress.bad_steps >= config.max_bad_steps:
        raise ProtomaskError(
            f"{problem}: {progress.bad_steps} steps in a row, the last on images {images}; what they saw is in "
            f"{folder.path}/bad_batches. Try a lower learning_rate (now {config.learning_rate:g}), clip_gradient 10, "
            "or mixed_precision no"
        )
