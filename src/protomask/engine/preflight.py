"""What can be said of a run's settings before PyTorch is imported: names, paths, and whether the folder is free."""

from __future__ import annotations

from pathlib import Path

from protomask.data.coco.layout import open_dataset
from protomask.defaults import DEFAULT_NETWORK
from protomask.engine.config import TrainConfig
from protomask.engine.folder import RunFolder
from protomask.errors import CheckpointError, ConfigError
from protomask.models.config import ModelConfig
from protomask.models.naming import find_model
from protomask.models.pretrained import check_pretrained
from protomask.models.zoo import zoo_entry


def check_names(config: TrainConfig) -> None:
    """Check every name and path of a run, so that a wrong one is answered at once.

    Raises:
        ConfigError: unknown model or model option, or the output folder holds another run.
        DataError: a part of the data set is missing.
        CheckpointError: there are no such weights, or they are neither here nor reachable.

    """
    open_dataset(config.data)
    folder = RunFolder(Path(config.output))
    if folder.path.exists() and not folder.path.is_dir():
        raise ConfigError(f"output: expected a folder, got the file {folder.path}")
    folder.check(config)
    if config.teacher is not None:
        found = find_model(config.teacher)
        if found.kind == "exported":
            raise ConfigError(f"teacher: expected weights to learn from, got the exported file {config.teacher}")
        found.fetched()
    if config.resume and folder.state_file.is_file():
        return  # the run has its network
    if config.model is not None:
        zoo_entry(config.model)
    if config.weights is not None:
        found = find_model(config.weights)
        if found.kind == "exported":
            raise ConfigError(f"weights: expected some to train, got the exported file {config.weights}")
        found.fetched()
    else:
        model = _model_config(config)
        if config.pretrained_backbone and config.backbone_weights is None:
            check_pretrained(model.backbone)
    if config.backbone_weights is not None and not Path(config.backbone_weights).is_file():
        raise CheckpointError(f"{config.backbone_weights}: no such file with weights of a backbone")


def _model_config(config: TrainConfig) -> ModelConfig:
    size = {} if config.image_size is None else {"image_size": config.image_size}
    return zoo_entry(config.model or DEFAULT_NETWORK).preset().override(**config.model_options, **size)
