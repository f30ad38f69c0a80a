"""A training run: epochs, validations and saved states until it ends or is stopped."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from protomask.checkpoints.io import save_weights
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import DataWarning
from protomask.data.training.loader import TrainBatch, TrainingDataset, training_batches, validation_batches
from protomask.data.training.mixing import TrainingImages
from protomask.engine.config import TrainConfig
from protomask.engine.folder import Progress, RunFolder, random_state, without_folders
from protomask.engine.log import Interval, Log, Reporter, SilentReporter, open_log, validation_record
from protomask.engine.loop import Criterion, StepResult, TrainingStep, evaluate, train_one_epoch
from protomask.engine.optim import AveragedWeights
from protomask.engine.plan import Plan
from protomask.engine.processes import in_any_process, is_first_process, share_of
from protomask.engine.setup import (
    accelerator_for,
    check_data,
    memory_format,
    network_for,
    open_data,
    optimizer_for,
    prepare_network,
)
from protomask.engine.stop import StopRequest
from protomask.engine.trackers import external_trackers
from protomask.errors import ProtomaskError
from protomask.models.build import build_criterion
from protomask.models.families import family_of
from protomask.models.network import Network

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.tables import CocoMetrics
    from protomask.evaluation.truth import GroundTruth

_KEPT_BAD_BATCHES = 10


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        output: run folder.
        iteration: number of steps done, over all parts of the run.
        epoch: number of passes completed.
        metrics: the last validation, None if this part of the run had none.
        best_mask_ap: mask AP in [0, 1] of ``best_weights``, None if no validation found one.
        best_weights: file with the weights of the best validation, None if no validation found a mask AP.
        last_weights: file with the weights after the last step.
        skipped_steps: number of steps left out because their loss or gradient was not finite.
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

    @property
    def best(self) -> Path:
        """The weights to use: the best ones, or the last ones where no validation found a mask AP."""
        return self.best_weights or self.last_weights


def train(config: TrainConfig, *, reporter: Reporter | None = None) -> TrainResult:
    """Train as the settings say.

    Args:
        config: settings of the run.
        reporter: receives the progress of the run; by default nothing is reported.

    Raises:
        ConfigError: a setting does not fit the data, the machine or the run to be continued.
        MissingExtraError: a tracker is not installed.
        DataError: the data set cannot be used.
        CheckpointError: weights or the saved state cannot be used, or cannot be written.
        ProtomaskError: loss or gradient were not finite for too many steps in a row.

    """
    # Every process looks at the data, so that an error ends all of them; only one reports what it sees.
    if reporter is None or not is_first_process():
        reporter = SilentReporter()
    RunFolder(Path(config.output)).check(config)
    external_trackers(config)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    report = check_data(config) if config.check_data else None
    with warnings.catch_warnings():
        if report is not None:  # it says more
            warnings.simplefilter("ignore", DataWarning)
        data = open_data(config)
    network = network_for(config, data.train.class_names, reporter)
    if report is not None:
        network_input = family_of(network.config).network_input
        if network_input is not None:
            report = report.with_network(network_input(network.config))
        for problem in report.of("warning"):
            reporter.message(f"warning: {problem.message}")
    return fit(
        config,
        network=network,
        criterion=build_criterion(network, label_smoothing=config.label_smoothing),
        train_dataset=TrainingImages(data.train, data.augmentation, network.geometry),
        val_dataset=data.val,
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
    """Train a network: the part of `train` after the data and the network are built."""
    accelerator = accelerator_for(config)
    plan = Plan.of(config, len(train_dataset), share_of(accelerator, config))
    # One process speaks and writes for all.
    if not accelerator.is_main_process:
        return _fit(config, plan, accelerator, network, criterion, train_dataset, val_dataset, SilentReporter())
    with RunFolder(Path(config.output)).opened(config):
        return _fit(config, plan, accelerator, network, criterion, train_dataset, val_dataset, reporter)


def _fit(
    config: TrainConfig,
    plan: Plan,
    accelerator: Accelerator,
    network: Network,
    criterion: Criterion,
    train_dataset: TrainingDataset,
    val_dataset: CocoDataset,
    reporter: Reporter,
) -> TrainResult:
    prepare_network(network, config, accelerator, reporter)
    run = _Run(config, plan, accelerator, network, criterion, reporter)
    run.prepare_truth(val_dataset)
    if config.resume:
        run.resume()
    batches = training_batches(
        train_dataset,
        batch_size=plan.batch_size,
        seed=config.seed,
        first_iteration=run.progress.iteration,
        last_iteration=plan.max_iterations,
        num_workers=config.num_workers,
        share=plan.share,
        variety=plan.variety,
        pad_multiple=network.geometry.pad_multiple,
        pin_memory=accelerator.device.type == "cuda",
    )
    steps, stopped = iter(batches), False
    with closing(open_log(config, run.progress, accelerator, reporter)) as log, StopRequest() as request:
        run.write_pending(log)
        while not stopped:
            if plan.validates_at(run.progress.iteration):
                run.validate(val_dataset, log)
            if run.is_finished():
                break
            stopped = run.train_epoch(steps, log, request)
        if stopped:
            run.save()
            done = run.progress.iteration
            reporter.message(f"stopped at iteration {done} of {plan.max_iterations}, saved; resume continues")
    return run.result(interrupted=stopped)


class _Run:
    """The state of a run in progress."""

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        accelerator: Accelerator,
        network: Network,
        criterion: Criterion,
        reporter: Reporter,
    ) -> None:
        self.config, self.plan, self.accelerator, self.reporter = config, plan, accelerator, reporter
        self.folder = RunFolder(Path(config.output))
        self.network = network
        self.average = None if config.ema_decay is None else AveragedWeights(network, config.ema_decay)
        # The network that is validated and saved.
        self.learned = network if self.average is None else self.average.network
        optimizer = optimizer_for(network, config, plan.schedule.base_lr)
        self.step, self.optimizer = accelerator.prepare(TrainingStep(network, criterion), optimizer)
        self.parts = {
            "network": network,
            "optimizer": self.optimizer,
            "scaler": accelerator.scaler,
            "average": self.average,
        }
        self.progress = Progress()
        self.metrics: CocoMetrics | None = None
        self._interval = Interval()
        self._validation: dict[str, Any] | None = None
        self._is_continued = False
        self._saved_at = time.monotonic()
        self._truth: GroundTruth

    def resume(self) -> None:
        """Continue from the saved state, if there is one."""
        if not self.folder.state_file.is_file():
            return
        share = self.plan.share
        self.progress, pending = self.folder.load_state(self.parts, process=share.process, processes=share.processes)
        self._interval = Interval.from_plain(pending["interval"])
        self._validation = pending["validation"]
        self._is_continued = True
        done, all_steps = self.progress.iteration, self.plan.max_iterations
        self.reporter.message(f"continuing {self.folder.path} at iteration {done} of {all_steps}")
        if done >= all_steps:
            self.reporter.message(f"this run is at its end; {self.folder.how_to_train_longer()}")

    def write_pending(self, log: Log) -> None:
        """Write what belongs to the saved state: the run may have been killed after it and before them."""
        if not self._is_continued:
            return
        if self.accelerator.is_main_process:
            self._save_weights(self._weights_now())
        if self._validation is not None and not log.has("validation", self._validation["iteration"]):
            log.write("validation", self._validation)

    def _weights_now(self) -> list[Path]:
        """The files that hold the weights as they are now."""
        is_best = self.progress.best_iteration == self.progress.iteration
        return [self.folder.last_weights, *([self.folder.best_weights] if is_best else [])]

    def is_finished(self) -> bool:
        """Whether all steps are done, or validations have stopped improving."""
        if self.progress.iteration >= self.plan.max_iterations:
            return True
        stale, patience = self.progress.stale_validations, self.config.patience
        if patience is None or stale < patience:
            return False
        self.reporter.message(f"no better mask AP in {stale} validations: the run ends here")
        return True

    def train_epoch(self, batches: Iterator[TrainBatch], log: Log, request: StopRequest) -> bool:
        """Train to the end of the epoch; returns whether a stop was requested before it."""
        config = self.config
        left = self.plan.left_in_epoch(self.progress.iteration)
        for step in train_one_epoch(
            self.step,
            islice(batches, left * config.accumulate),
            self.optimizer,
            self.accelerator,
            geometry=self.network.geometry,
            schedule=self.plan.schedule,
            iteration=self.progress.iteration,
            accumulate=config.accumulate,
            clip_gradient=config.clip_gradient,
            memory_format=memory_format(config),
        ):
            self._count(step, log)
            is_late = time.monotonic() - self._saved_at > 60 * config.checkpoint_minutes
            stops, saves = in_any_process(self.accelerator, request.requested(), is_late)
            if stops:
                return True
            if saves:
                self.save()
        return False

    def validate(self, dataset: CocoDataset, log: Log) -> None:
        """Validate and save the network, unless this iteration has been validated."""
        progress = self.progress
        if progress.validated_iteration == progress.iteration:
            return
        started = time.perf_counter()
        self.metrics = self._measure(dataset)
        progress.validated(self.metrics)
        epoch = progress.iteration // self.plan.per_epoch
        record = self._validation = validation_record(self.metrics, progress, epoch, time.perf_counter() - started)
        self.save()
        log.write("validation", record)
        self.reporter.on_validation(record)

    def save(self) -> None:
        """Write the state from which the run continues, and the weights as they are now."""
        from accelerate.utils import gather_object

        random_states = gather_object([random_state()])
        if self.accelerator.is_main_process:
            pending = {"interval": self._interval.to_plain(), "validation": self._validation}
            self.folder.save_state(self.parts, self.progress, random_states, network=self.network, pending=pending)
            self._save_weights(self._weights_now())
        self._saved_at = time.monotonic()

    def result(self, *, interrupted: bool) -> TrainResult:
        """The result of the run."""
        progress = self.progress
        return TrainResult(
            output=self.folder.path,
            iteration=progress.iteration,
            epoch=progress.iteration // self.plan.per_epoch,
            metrics=self.metrics,
            best_mask_ap=progress.best_mask_ap,
            best_weights=None if progress.best_mask_ap is None else self.folder.best_weights,
            last_weights=self.folder.last_weights,
            skipped_steps=progress.skipped_steps,
            interrupted=interrupted,
        )

    def _save_weights(self, paths: Sequence[Path]) -> None:
        provenance = {
            "source": "protomask train",
            "iteration": self.progress.iteration,
            "best_mask_ap": self.progress.best_mask_ap,
            # Weights travel: they say how they were made, not where on whose machine.
            "settings": without_folders(self.config),
        }
        for path in paths:
            save_weights(self.learned, path, provenance=provenance)

    def _count(self, step: StepResult, log: Log) -> None:
        """Count a step, and report if a line is due."""
        self.progress.iteration = step.iteration
        self._interval.add(step)
        if step.problem is not None:
            self._leave_out(step, step.problem)
        else:
            self.progress.bad_steps = 0
            if self.average is not None:
                self.average.update(self.network)
        if step.iteration % self.config.log_every == 0 or step.iteration == self.plan.max_iterations:
            record = self._interval.record(self.plan.per_epoch, self.plan.max_iterations)
            log.write("train", record)
            self.reporter.on_step(record)
            self._interval = Interval()

    def _leave_out(self, step: StepResult, problem: str) -> None:
        """Report a step that could not be taken, save its batches, and raise after too many in a row."""
        progress, config = self.progress, self.config
        progress.skipped_steps += 1
        progress.bad_steps += 1
        images = ", ".join(map(str, step.image_ids))
        kept = ""
        if progress.skipped_steps <= _KEPT_BAD_BATCHES:
            process = self.plan.share.process
            path = self.folder.save_bad_batch(step.iteration, problem, step.batches, process=process)
            kept = f" and kept in {path}"
        self.reporter.message(f"iteration {step.iteration}: {problem}, on images {images}; the step was left out{kept}")
        if progress.bad_steps >= config.max_bad_steps:
            raise ProtomaskError(
                f"{problem}: {progress.bad_steps} steps in a row, the last on images {images}; what they saw is in "
                f"{self.folder.path}/bad_batches. Try a lower learning_rate (now {config.learning_rate:g}), "
                "clip_gradient 10, or mixed_precision no"
            )

    def prepare_truth(self, dataset: CocoDataset) -> None:
        """Prepare the truth of the validation images, once: what is wrong with it is told before the first step."""
        from protomask.evaluation.truth import GroundTruth

        with warnings.catch_warnings():
            if self.config.check_data:  # it has told more
                warnings.simplefilter("ignore", DataWarning)
            self._truth = GroundTruth.load(dataset, masks=True)

    def _measure(self, dataset: CocoDataset) -> CocoMetrics:
        from protomask.evaluation.coco import CocoEvaluator

        config, geometry, device = self.config, self.network.geometry, self.accelerator.device
        batches = validation_batches(
            dataset,
            geometry,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
            share=self.plan.share,
            pin_memory=device.type == "cuda",
        )
        evaluator = CocoEvaluator(self._truth, category_ids=dataset.category_ids, max_detections=config.max_detections)
        return evaluate(
            self.learned,
            batches,
            evaluator,
            accelerator=self.accelerator,
            device=device,
            max_detections=config.max_detections,
            memory_format=memory_format(config),
            seen_only=config.overfit is not None,
        )
