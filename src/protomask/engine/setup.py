"""The parts of a run, built from its settings: checked data, network, accelerator, optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from protomask.checkpoints.backbones import build_on_backbone
from protomask.checkpoints.carry import Carried, carry_weights
from protomask.checkpoints.sources import load_network
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.coco.shard_layout import find_shards
from protomask.data.doctor.check import check_dataset
from protomask.data.doctor.report import CheckReport
from protomask.data.shards.opening import dataset_of_split
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.repeating import repeated_images
from protomask.defaults import DEFAULT_NETWORK
from protomask.engine.config import Part, TrainConfig
from protomask.engine.folder import RunFolder
from protomask.engine.log import Reporter
from protomask.engine.optim import OptimizerOptions, build_optimizer, freeze_all_but, freeze_batch_norm, freeze_stages
from protomask.engine.processes import share_statistics
from protomask.engine.trackers import external_trackers
from protomask.errors import ConfigError
from protomask.models.build import build_network
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.models.zoo import ZOO, zoo_entry

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_data(config: TrainConfig) -> CheckReport | None:
    """Check quickly everything that the run will use of the data set; one in Parquet was checked when it was written.

    Raises:
        DataError: the check found an error.

    """
    splits = ("train", "val") if config.overfit is None else ("train",)
    if Path(config.data).suffix.lower() not in (".yaml", ".yml") and find_shards(config.data) is not None:
        return None
    report = check_dataset(config.data, splits=splits, classes=config.classes, quick=True)
    report.raise_errors()
    return report


class RunData(NamedTuple):
    """The images that a run learns from, which of them a pass shows, and those that it is validated on."""

    train: CocoDataset
    val: CocoDataset
    augmentation: AugmentationConfig
    shown: NDArray[np.int64]


def open_data(config: TrainConfig) -> RunData:
    """Open the images of a run.

    Raises:
        ConfigError: a weight is for masks that the data set has not got.
        DataError: the data set cannot be used.

    """
    paths = open_dataset(config.data, classes=config.classes)
    train = dataset_of_split(paths, "train")
    train.weigh_masks(config.mask_weights)
    if config.overfit is None:
        val = dataset_of_split(paths, "val", class_names=train.class_names)
        labels = [train.labels_of(index) for index in range(len(train))] if config.repeat_rare else [set()] * len(train)
        shown = repeated_images(labels, config.repeat_rare, seed=config.seed)
        return RunData(train, val, config.augmentation, shown)
    val = dataset_of_split(paths, "train")
    for dataset in (train, val):
        dataset.keep_first(config.overfit)
    return RunData(train, val, AugmentationConfig.off(), np.arange(len(train)))


def network_for(config: TrainConfig, class_names: tuple[str, ...], reporter: Reporter) -> Network:
    """Load or build the network to train: that of a resumed run, that of the given weights, or a new one.

    Raises:
        ConfigError: the settings do not fit the network or the classes.
        CheckpointError: weights cannot be found or read, or belong to another network.

    """
    folder = RunFolder(Path(config.output))
    if config.resume and folder.state_file.is_file():
        network = folder.saved_network()
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
        model = zoo_entry(config.model or DEFAULT_NETWORK).preset()
        options = {**_options_of_part(config.add, "add", model), **options}
        if config.pretrained_backbone or config.backbone_weights is not None:
            return build_on_backbone(model, class_names=class_names, weights=config.backbone_weights, **options)
        return build_network(model, class_names=class_names, **options)
    source = load_network(config.weights, model=config.model)
    if config.add is not None and optional_part(source, config.add, "add") is not None:
        raise ConfigError(f"add: {config.weights} already has {config.add}; leave this setting out to train it further")
    options = {**_options_of_part(config.add, "add", source.config), **options, "num_classes": len(class_names)}
    network = build_network(source.config.override(**options), class_names=class_names)
    carried = carry_weights(network, source)
    for line in carried.describe(config.weights):
        reporter.message(line)
    if config.train_only is not None:
        _check_all_else_is_trained(network, carried, config.weights, config.train_only)
    return network


def _check_all_else_is_trained(network: Network, carried: Carried, weights: str, part: Part) -> None:
    """Raise the ConfigError of weights that leave something untrained beside the part that is to learn."""
    own = f"{family_of(network.config).parts[part].attribute}."
    untrained = [key for key in (*carried.initialised, *carried.partial) if not key.startswith(own)]
    if untrained:
        new = f" (new classes: {', '.join(carried.new)})" if carried.new else ""
        raise ConfigError(
            f"train_only: {weights} does not fit the data set{new} or the options, and only {part} would learn; "
            f"re-initialised: {', '.join(untrained)}"
        )


def _options_of_part(name: Part | None, setting: str, model: ModelConfig) -> dict[str, Any]:
    """Config fields that give a model of this family a part."""
    if name is None:
        return {}
    parts = family_of(model).parts
    if name not in parts:
        fitting = ", ".join(known for known, entry in ZOO.items() if name in family_of(entry.preset()).parts)
        raise ConfigError(f"{setting}: {name} is a part of {fitting}; {model.name} cannot have it")
    return dict(parts[name].options)


def optional_part(network: Network, name: Part, setting: str) -> nn.Module | None:
    """An optional part of the network, None if it has none.

    Raises:
        ConfigError: no network of this family can have this part; the message names the setting.

    """
    _options_of_part(name, setting, network.config)
    part: nn.Module | None = getattr(network, family_of(network.config).parts[name].attribute)
    return part


def accelerator_for(config: TrainConfig) -> Accelerator:
    """Make the accelerator of a run.

    Raises:
        ConfigError: this machine does not have the device, or the device does not support the precision.

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
    precision = config.mixed_precision
    if precision == "auto":
        on_cpu = config.device == "cpu" or not any(available.values())
        precision = "bf16" if on_cpu and _has_amx() else "no"
    try:
        accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=precision,
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


def _has_amx() -> bool:
    """Whether the CPU multiplies matrices in bfloat16 by instructions of its own."""
    # torch.cpu.get_capabilities is public, but older releases of PyTorch that are supported do not have it.
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and bool(supported())


def prepare_network(network: Network, config: TrainConfig, accelerator: Accelerator, reporter: Reporter) -> None:
    """Move a network to its device, and freeze the layers that must not learn.

    Raises:
        ConfigError: a setting does not fit the network or the device.

    """
    network.to(accelerator.device, memory_format=memory_format(config))
    if config.mixed_precision == "auto" and accelerator.mixed_precision == "bf16":
        reporter.message("mixed precision: bf16, for which this CPU has instructions")
    if config.train_only is not None:
        part = optional_part(network, config.train_only, "train_only")
        if part is None:
            raise ConfigError(f"train_only: the model has no {config.train_only} yet; the setting add gives it one")
        freeze_all_but(network, part)
        reporter.message(f"only {config.train_only} is trained")
    elif config.freezes_batch_norm:
        frozen = freeze_batch_norm(network, affine=config.freeze_bn != "statistics")
        reporter.message(f"batch norm: {frozen} layers fixed (freeze_bn {config.freeze_bn}, batch {config.batch_size})")
    freeze_stages(network.backbone, config.frozen_stages)
    if config.sync_batch_norm:
        share_statistics(network, config, accelerator)


def memory_format(config: TrainConfig) -> torch.memory_format:
    """The memory layout of images and weights."""
    return torch.channels_last if config.channels_last else torch.contiguous_format


def optimizer_for(network: Network, config: TrainConfig, learning_rate: float) -> torch.optim.Optimizer:
    """Build the optimizer that the settings ask for."""
    options = OptimizerOptions(
        kind=config.optimizer,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        bias_learning_rate_factor=config.bias_learning_rate_factor,
        bias_weight_decay=config.bias_weight_decay,
        norm_weight_decay=config.norm_weight_decay,
        backbone_learning_rate_factor=config.backbone_learning_rate_factor,
        head_learning_rate_factor=family_of(network.config).head_learning_rate_factor,
    )
    return build_optimizer(network, learning_rate=learning_rate, options=options)
