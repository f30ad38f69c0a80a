"""The state of a training run in progress, and everything that changes it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.checkpoints.io import save_weights
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import DataWarning
from protomask.data.training.loader import TrainBatch, TrainingDataset, training_batches, validation_batches
from protomask.engine.config import TrainConfig
from protomask.engine.course import Course
from protomask.engine.folder import Progress, RunFolder, random_state, without_folders
from protomask.engine.log import Interval, Log, Reporter, validation_record
from protomask.engine.loop import Criterion, StepResult, TrainingStep, evaluate, train_one_epoch
from protomask.engine.optim import AveragedWeights
from protomask.engine.plan import Plan
from protomask.engine.processes import in_any_process
from protomask.engine.result import TrainResult
from protomask.engine.setup import memory_format, optimizer_for
from protomask.engine.stop import StopRequest
from protomask.engine.stretch import Addition
from protomask.engine.teaching import Teacher
from protomask.errors import ProtomaskError
from protomask.models.network import Network

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.evaluation.tables import CocoMetrics
    from protomask.evaluation.truth import GroundTruth

_KEPT_BAD_BATCHES = 10


class Session:
    """The state of a run in progress."""

    def __init__(
        self,
        config: TrainConfig,
        course: Course,
        accelerator: Accelerator,
        network: Network,
        criterion: Criterion,
        reporter: Reporter,
        teacher: Teacher | None = None,
    ) -> None:
        self.config, self.course, self.accelerator, self.reporter = config, course, accelerator, reporter
        self.folder = RunFolder(Path(config.output))
        self.network = network
        self.average = None if config.ema_decay is None else AveragedWeights(network, config.ema_decay)
        # The network that is validated and saved.
        self.learned = network if self.average is None else self.average.network
        optimizer = optimizer_for(network, config, course.plan.schedule.base_lr)
        if teacher is not None:
            teacher.to(accelerator.device, memory_format(config))
        self.step, self.optimizer = accelerator.prepare(TrainingStep(network, criterion, teacher), optimizer)
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

    @property
    def plan(self) -> Plan:
        """The course that the run takes, as far as it is known."""
        return self.course.plan

    def resume(self, addition: Addition | None) -> None:
        """Continue from the saved state, if there is one, and prolong the run if that is asked for.

        Raises:
            ConfigError: the run is to be prolonged, and is not at its end.

        """
        if not self.folder.state_file.is_file():
            return
        share = self.plan.share
        self.progress, pending = self.folder.load_state(self.parts, process=share.process, processes=share.processes)
        self._interval = Interval.from_plain(pending["interval"])
        self._validation = pending["validation"]
        self._is_continued = True
        progress = self.progress
        done, stretch = progress.iteration, progress.stretch or self.course.stretch
        self.course.restore(stretch, iteration=done, seconds=progress.seconds, pace=progress.pace)
        until = "" if stretch.end is None else f" of {stretch.end}"
        self.reporter.message(f"continuing {self.folder.path} at iteration {done}{until}")
        if addition is None:
            if stretch.end is not None and done >= stretch.end:
                self.reporter.message("this run is at its end; epochs, iterations or minutes of +N prolong it")
        elif self.course.prolong(addition, iteration=done, ended=self._has_ended()):
            progress.stale_validations = progress.bad_steps = 0

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
        if not self._has_ended():
            return False
        if self.progress.iteration < self.plan.max_iterations:
            self.reporter.message(
                f"no better mask AP in {self.progress.stale_validations} validations: the run ends here"
            )
        return True

    def _has_ended(self) -> bool:
        patience = self.config.patience
        is_stale = patience is not None and self.progress.stale_validations >= patience
        return is_stale or self.progress.iteration >= self.plan.max_iterations

    def batches(self, dataset: TrainingDataset) -> Iterator[TrainBatch]:
        """What the run sees from here to its end."""
        plan, config = self.plan, self.config
        self.course.pace.start(new_loader=True)
        return iter(
            training_batches(
                dataset,
                batch_size=plan.batch_size,
                seed=config.seed,
                first_iteration=self.progress.iteration,
                last_iteration=plan.max_iterations,
                num_workers=config.num_workers,
                share=plan.share,
                variety=plan.variety,
                pad_multiple=self.network.geometry.pad_multiple,
                pin_memory=self.accelerator.device.type == "cuda",
            )
        )

    def train_epoch(self, batches: Iterator[TrainBatch], log: Log, request: StopRequest) -> bool:
        """Train to the end of the epoch, or until the clock is due; returns whether a stop was requested before it."""
        config, pace = self.config, self.course.pace
        left = self.course.steps_ahead(self.progress.iteration)
        pace.start(new_loader=False)
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
            pace.step()
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
        started = self.course.clock.elapsed()
        self.metrics = self._measure(dataset)
        progress.validated(self.metrics)
        epoch, seconds = progress.iteration // self.plan.per_epoch, self.course.clock.elapsed() - started
        self.course.validated(progress.iteration, seconds)
        times = self.course.times(progress.iteration, validated=True)
        record = self._validation = {**validation_record(self.metrics, progress, epoch, seconds), **times}
        self.save()
        log.write("validation", record)
        self.reporter.on_validation(record)

    def save(self) -> None:
        """Write the state from which the run continues, and the weights as they are now."""
        from accelerate.utils import gather_object

        random_states = gather_object([random_state()])
        self.progress.stretch, self.progress.pace = self.course.stretch, self.course.pace.to_plain()
        self.progress.seconds = self.course.clock.elapsed()
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
        if self._interval.is_due(self.config.log_every, self.plan.max_iterations):
            record = self._interval.record(self.plan.per_epoch, self.plan.known_end)
            record |= self.course.times(step.iteration)
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
