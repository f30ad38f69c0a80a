"""What a run is made of, from its settings: the checked data, the network, and the accelerator it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from protomask.checkpoints.backbones import load_backbone
from protomask.checkpoints.io import load_matching, load_network, load_weights
from protomask.data.check import CheckReport, check_dataset
from protomask.data.loader import NO_VARIETY, Variety
from protomask.engine.config import Part, TrainConfig
from protomask.engine.folder import RunFolder
from protomask.engine.log import Reporter
from protomask.engine.trackers import external_trackers
from protomask.errors import ConfigError
from protomask.models.config import ModelConfig
from protomask.models.zoo import (
    DEFAULT_MODEL,
    OPTIONAL_PARTS,
    ZOO,
    Network,
    build_network,
    zoo_entry,
)

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_data(config: TrainConfig) -> CheckReport:
    """A quick look at the data set, at all that the run will use; errors raise."""
    report = check_dataset(config.data, splits=("train", "val") if config.overfit is None else ("train",), quick=True)
    report.raise_errors()
    return report


def variety_of(config: TrainConfig, max_iterations: int) -> Variety:
    """What differs from step to step of the run."""
    if config.overfit is not None:
        return NO_VARIETY
    plain_from = round((1 - config.augmentation.plain_end) * max_iterations)
    return Variety(config.augmentation.multi_scale, plain_from)


def network_for(config: TrainConfig, class_names: tuple[str, ...], reporter: Reporter) -> Network:
    """The network to train: of the run to be continued, of the weights to start from, or a new one.

    Raises:
        ConfigError: the settings do not fit the network or the classes.
        CheckpointError: weights cannot be found or read, or belong to another network.

    """
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
    if config.add is not None and optional_part(source, config.add, "add") is not None:
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


def optional_part(network: Network, name: Part, setting: str) -> nn.Module | None:
    """A part that some networks of the family have, None where this one lacks it.

    Raises:
        ConfigError: no network of this family can have it; the message names the setting.

    """
    _options_of_part(name, setting, network.config)
    part: nn.Module | None = getattr(network, OPTIONAL_PARTS[name].attribute)
    return part


def accelerator_for(config: TrainConfig) -> Accelerator:
    """The accelerator of a run.

    Raises:
        ConfigError: this machine lacks the device, or the device the precision.

    """
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
