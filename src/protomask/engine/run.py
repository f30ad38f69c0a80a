"""A training run: epochs, validations and saved states until it ends or is stopped."""

from __future__ import annotations

import random
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import DataWarning
from protomask.data.training.loader import TrainingDataset
from protomask.data.training.mixing import TrainingImages
from protomask.engine.allocation import keeping_freed_memory
from protomask.engine.config import TrainConfig
from protomask.engine.course import Course
from protomask.engine.folder import RunFolder
from protomask.engine.log import Reporter, SilentReporter, open_log
from protomask.engine.loop import Criterion
from protomask.engine.pace import Clock
from protomask.engine.plan import Plan
from protomask.engine.processes import is_first_process, share_of
from protomask.engine.result import TrainResult
from protomask.engine.session import Session
from protomask.engine.setup import accelerator_for, check_data, network_for, open_data, prepare_network
from protomask.engine.sharing import share_run
from protomask.engine.stop import StopRequest
from protomask.engine.stretch import Addition
from protomask.engine.teaching import Teacher, teacher_for
from protomask.engine.trackers import external_trackers
from protomask.models.build import build_criterion
from protomask.models.families import family_of
from protomask.models.network import Network

if TYPE_CHECKING:
    from accelerate import Accelerator


class Materials(NamedTuple):
    """What a run is made of, once its settings have been read."""

    network: Network
    criterion: Criterion
    train_dataset: TrainingDataset
    val_dataset: CocoDataset
    teacher: Teacher | None = None


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
    clock = Clock()
    folder = RunFolder(Path(config.output))
    folder.check(config)
    addition = Addition.of(config)
    if addition is not None:
        config = folder.without_addition(config)
    # Every process looks at the data, so that an error ends all of them; only one reports what it sees.
    if reporter is None or not is_first_process():
        reporter = SilentReporter()
    materials = gather(config, reporter)
    accelerator = accelerator_for(config)
    if config.resume:
        share_run(accelerator, folder)
    plan = Plan.of(config, len(materials.train_dataset), share_of(accelerator, config))
    # One process speaks and writes for all.
    if not accelerator.is_main_process:
        return _fit(config, addition, plan, accelerator, materials, clock, SilentReporter())
    with folder.opened(config):
        return _fit(config, addition, plan, accelerator, materials, clock, reporter)


def gather(config: TrainConfig, reporter: Reporter) -> Materials:
    """Check and open the data of a run, and build its network.

    Raises:
        ConfigError: a setting does not fit the data or the network.
        MissingExtraError: a tracker is not installed.
        DataError: the data set cannot be used.
        CheckpointError: weights cannot be found or read, or do not fit.

    """
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
    return Materials(
        network=network,
        criterion=build_criterion(network, label_smoothing=config.label_smoothing),
        train_dataset=TrainingImages(data.train, data.augmentation, network.geometry, shown=data.shown),
        val_dataset=data.val,
        teacher=teacher_for(config, network),
    )


@keeping_freed_memory()
def _fit(
    config: TrainConfig,
    addition: Addition | None,
    plan: Plan,
    accelerator: Accelerator,
    materials: Materials,
    clock: Clock,
    reporter: Reporter,
) -> TrainResult:
    network, criterion, train_dataset, val_dataset, teacher = materials
    prepare_network(network, config, accelerator, reporter)
    course = Course(
        config,
        plan,
        num_images=len(train_dataset),
        validation_images=len(val_dataset),
        accelerator=accelerator,
        clock=clock,
        message=reporter.message,
    )
    run = Session(config, course, accelerator, network, criterion, reporter, teacher)
    run.prepare_truth(val_dataset)
    if config.resume:
        run.resume(addition)
    steps, stopped = run.batches(train_dataset), False
    with closing(open_log(config, run.progress, accelerator, reporter)) as log, StopRequest() as request:
        run.write_pending(log)
        while not stopped:
            if run.plan.validates_at(run.progress.iteration):
                run.validate(val_dataset, log)
            if run.is_finished():
                break
            if course.follow_clock(run.progress.iteration):
                steps = run.batches(train_dataset)
            stopped = run.train_epoch(steps, log, request)
        if stopped:
            run.save()
            until = "" if run.plan.known_end is None else f" of {run.plan.known_end}"
            reporter.message(f"stopped at iteration {run.progress.iteration}{until}, saved; resume continues")
    return run.result(interrupted=stopped)
