"""One training run: parts from the settings, then epochs, validations and saved states until it ends or is stopped."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from protomask.checkpoints.backbones import load_backbone
from protomask.checkpoints.io import load_matching, load_network, load_weights, save_weights
from protomask.data.augmentation import AugmentationConfig
from protomask.data.check import CheckReport, check_dataset
from protomask.data.coco import CocoDataset, DataWarning, open_dataset
from protomask.data.loader import (
    NO_VARIETY,
    Share,
    TrainingDataset,
    Variety,
    batches_per_epoch,
    training_batches,
    validation_batches,
)
from protomask.data.mixing import TrainingImages
from protomask.engine.config import Part, TrainConfig
from protomask.engine.folder import MetricsLog, Progress, RunFolder, random_state
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
from protomask.engine.trackers import Trackers, external_trackers
from protomask.errors import ConfigError, ProtomaskError
from protomask.models.config import ModelConfig
from protomask.models.zoo import (
    DEFAULT_MODEL,
    OPTIONAL_PARTS,
    ZOO,
    Network,
    build_criterion,
    build_network,
    zoo_entry,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.tables import CocoMetrics

Metrics = Mapping[str, Any]
_KEPT_BAD_BATCHES = 10


class Reporter(Protocol):
    """Who is told how the run goes; the engine itself prints nothing."""

    def on_step(self, metrics: Metrics) -> None:
        """A training line of metrics.jsonl, every ``log_every`` iterations; see `Interval.record` for its names."""
        ...

    def on_validation(self, metrics: Metrics) -> None:
        """A validation line of metrics.jsonl: iteration, epoch, {box,mask}_{AP,AP50,AP75}, best_mask_AP, seconds."""
        ...

    def message(self, text: str) -> None:
        """Something worth a line."""
        ...


class SilentReporter:
    """Tells nobody."""

    def on_step(self, metrics: Metrics) -> None:
        """Nothing."""

    def on_validation(self, metrics: Metrics) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""


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
    report = _checked(config) if config.check_data else None
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
    network = _network_for(config, classes, reporter)
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


def _variety(config: TrainConfig, max_iterations: int) -> Variety:
    if config.overfit is not None:
        return NO_VARIETY
    plain_from = round((1 - config.augmentation.plain_end) * max_iterations)
    return Variety(config.augmentation.multi_scale, plain_from)


def _checked(config: TrainConfig) -> CheckReport:
    """A quick look at the data set, at all that the run will use; errors raise."""
    report = check_dataset(config.data, splits=("train", "val") if config.overfit is None else ("train",), quick=True)
    report.raise_errors()
    return report


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

    accelerator = _accelerator(config)
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
        part = _part(network, config.train_only, "train_only")
        if part is None:
            raise ConfigError(f"train_only: the model has no {config.train_only} yet (--add {config.train_only})")
        freeze_all_but(network, part)
        reporter.message(f"everything but {config.train_only} stays as it is")
    elif config.freezes_batch_norm:
        frozen = freeze_batch_norm(network)
        reporter.message(f"batch norm: {frozen} layers fixed (freeze_bn {config.freeze_bn}, batch {config.batch_size})")
    freeze_stages(network.backbone, config.frozen_stages)

    if config.sync_batch_norm:
        _share_statistics(network, config, accelerator)
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
            variety=_variety(config, max_iterations),
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
            "settings": _without_folders(config),
        }
        for path in weights:
            save_weights(learned, path, provenance=provenance)

    metrics: CocoMetrics | None = None
    interval = Interval()
    saved_at = time.monotonic()
    with (
        closing(_open_log(config, progress, accelerator, reporter) if is_main else NoLog()) as log,
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
                record = _validation_record(metrics, progress, epoch, time.perf_counter() - started)
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
                stops, saves = _in_any_process(accelerator, signals.requested(), is_late)
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


class Interval:
    """Steps since the last line of metrics.jsonl."""

    def __init__(self) -> None:
        self.steps: list[StepResult] = []

    def add(self, step: StepResult) -> None:
        """Count one more step."""
        self.steps.append(step)

    def record(self, per_epoch: int, max_iterations: int) -> dict[str, Any]:
        """Means over the steps.

        Returns:
            iteration, max_iterations, epoch (fraction), learning_rate (of the last step), every loss (mean of the
            finite steps, None without any), images_per_second, data_wait (share of the time), skipped_steps.

        """
        last = self.steps[-1]
        finite = [step for step in self.steps if step.problem is None]
        seconds = sum(step.seconds for step in self.steps)
        losses = {
            name: sum(step.losses[name] for step in finite) / len(finite) if finite else None for name in last.losses
        }
        return {
            "iteration": last.iteration,
            "max_iterations": max_iterations,
            "epoch": last.iteration / per_epoch,
            "learning_rate": last.learning_rate,
            **losses,
            "images_per_second": sum(len(step.image_ids) for step in self.steps) / seconds,
            "data_wait": sum(step.data_seconds for step in self.steps) / seconds,
            "skipped_steps": len(self.steps) - len(finite),
        }


def _open_log(config: TrainConfig, progress: Progress, accelerator: Accelerator, reporter: Reporter) -> MetricsLog:
    trackers = Trackers(accelerator, config, reporter)
    has_tensorboard = "tensorboard" in config.trackers
    return MetricsLog(Path(config.output), progress.iteration, trackers=trackers, tensorboard=has_tensorboard)


class NoLog:
    """In the place of `MetricsLog` where another process keeps the log."""

    def write(self, kind: str, record: Metrics) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class StopRequest:
    """Within its block Ctrl-C and SIGTERM ask the run to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self._requested = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be handled
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def requested(self) -> bool:
        """Whether a signal came."""
        return self._requested

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True


def _network_for(config: TrainConfig, class_names: tuple[str, ...], reporter: Reporter) -> Network:
    folder = RunFolder(Path(config.output))
    if config.resume and folder.state_file.is_file():
        network = load_weights(folder.last_weights)
        if network.class_names != class_names:
            raise ConfigError(
                f"resume: the run in {folder.path} learns {', '.join(network.class_names)}, "
                f"got a data set with {', '.join(class_names)}"
            )
        return network
    options = dict(config.model_options)
    if config.image_size is not None:
        options["image_size"] = config.image_size
    if config.weights is None:
        model = zoo_entry(config.model or DEFAULT_MODEL).preset()
        network = build_network(
            config.model or DEFAULT_MODEL,
            class_names=class_names,
            pretrained_backbone=config.pretrained_backbone and config.backbone_weights is None,
            **{**_options_of_part(config.add, "add", model), **options},
        )
        if config.backbone_weights is not None:
            load_backbone(network.backbone, config.backbone_weights)
        return network
    source = load_network(config.weights, model=config.model)
    if config.add is not None and _part(source, config.add, "add") is not None:
        raise ConfigError(f"add: {config.weights} already has {config.add}; leave --add out to train it further")
    options = {**_options_of_part(config.add, "add", source.config), **options, "num_classes": len(class_names)}
    network = build_network(source.config.override(**options), class_names=class_names)
    anew = load_matching(network, source.state_dict())
    kept = len(network.state_dict()) - len(anew)
    reporter.message(f"{config.weights}: {kept} tensors taken" + (f", made anew: {', '.join(anew)}" if anew else ""))
    if config.train_only is not None:
        own = f"{OPTIONAL_PARTS[config.train_only].attribute}."
        foreign = [key for key in anew if not key.startswith(own)]
        if foreign:
            raise ConfigError(
                f"train_only: {config.weights} does not fit the data set or the options, and only {config.train_only} "
                f"would learn; made anew: {', '.join(foreign)}"
            )
    return network


def _options_of_part(name: Part | None, setting: str, model: ModelConfig) -> dict[str, Any]:
    """Config fields that give a model of this family a part."""
    if name is None:
        return {}
    part = OPTIONAL_PARTS[name]
    if not isinstance(model, part.family):
        fitting = ", ".join(known for known, entry in ZOO.items() if isinstance(entry.preset(), part.family))
        raise ConfigError(f"{setting}: {name} is a part of {fitting}; {model.name} cannot have it")
    return dict(part.options)


def _part(network: Network, name: Part, setting: str) -> nn.Module | None:
    _options_of_part(name, setting, network.config)
    part: nn.Module | None = getattr(network, OPTIONAL_PARTS[name].attribute)
    return part


def _without_folders(config: TrainConfig) -> dict[str, Any]:
    settings = config.to_dict()
    for key in ("data", "output", "weights", "backbone_weights"):
        value = settings[key]
        if value is not None and "://" not in value:
            settings[key] = Path(value).name
    return settings


def _accelerator(config: TrainConfig) -> Accelerator:
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(config.device, True):
        raise ConfigError(f"device: expected one this machine has, got {config.device}")
    if config.device == "mps" and available["cuda"]:
        raise ConfigError("device: expected cuda or cpu on a machine with a CUDA GPU, got mps")
    # accelerate remembers device and precision for the whole process; every run states its own.
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.mixed_precision,
            log_with=external_trackers(config) or None,
            # A batch without objects leaves the mask branch without a gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise ConfigError(
            f"mixed_precision: got {config.mixed_precision}, which does not work here: {error}"
        ) from error
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("mixed_precision: expected no or bf16 on a CPU, got fp16")
    return accelerator


def _share_statistics(network: Network, config: TrainConfig, accelerator: Accelerator) -> None:
    if accelerator.device.type != "cuda":
        raise ConfigError(f"sync_batch_norm: expected CUDA devices, got {accelerator.device.type}")
    if config.freezes_batch_norm or config.train_only is not None:
        raise ConfigError("sync_batch_norm: expected batch norm that learns, got a fixed one (freeze_bn, train_only)")
    # In place, but for a batch norm that stands alone.
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


def _in_any_process(accelerator: Accelerator, *here: bool) -> list[bool]:
    """Which of these are so in any process: what they do together, all must begin or none."""
    if accelerator.num_processes == 1:
        return list(here)
    flags = torch.tensor(here, dtype=torch.float32, device=accelerator.device)
    return [count > 0 for count in accelerator.reduce(flags, "sum").tolist()]


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


def _validation_record(metrics: CocoMetrics, progress: Progress, epoch: int, seconds: float) -> dict[str, Any]:
    values = {
        f"{kind}_{name}": getattr(table, name)
        for kind, table in metrics.tables.items()
        for name in ("AP", "AP50", "AP75")
    }
    return {
        "iteration": progress.iteration,
        "epoch": epoch,
        **values,
        "best_mask_AP": progress.best_mask_ap,
        "seconds": seconds,
    }


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
