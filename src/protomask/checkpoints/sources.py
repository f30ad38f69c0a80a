"""Where weights come from: a name, an address, a run folder or a file becomes a network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from protomask.checkpoints.formats import load_foreign
from protomask.checkpoints.io import load_exactly, load_weights
from protomask.errors import CheckpointError, ConfigError
from protomask.models.build import build_network, checked_names
from protomask.models.config import ModelConfig
from protomask.models.naming import ModelSource, find_model
from protomask.models.network import Network
from protomask.models.zoo import zoo_entry


def load_network(
    source: str | Path | ModelSource, *, model: str | None = None, class_names: Sequence[str] | None = None
) -> Network:
    """A trained network in evaluation mode, from wherever its weights are.

    Args:
        source: what `protomask.models.naming.find_model` takes, or found.
        model: zoo name of the network in a file from another codebase, if it cannot be recognised.
        class_names: class names of a file from another codebase that was trained on classes other than the zoo model's.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown model, or names that contradict the file.

    """
    if class_names is not None:
        class_names = checked_names(class_names)
    if model is not None:
        zoo_entry(model)
    found = source if isinstance(source, ModelSource) else find_model(source)
    if found.kind == "exported":
        raise CheckpointError(f"{found.name}: expected weights, got an exported file, which holds no network")
    found = found.fetched()
    if found.packaged is not None:
        with as_file(files("protomask") / "weights" / found.packaged) as path:
            return _load_own(path, model, class_names)
    assert found.path is not None  # fetched
    if found.kind == "own":
        return _load_own(found.path, model, class_names)
    return load_foreign(found.path, model=found.name if found.kind == "zoo" else model, class_names=class_names)


def read_config(source: str | Path | ModelSource) -> ModelConfig:
    """The config of a model, from wherever it is; that of a zoo name is its preset.

    Raises:
        CheckpointError: as `load_network`.

    """
    found = source if isinstance(source, ModelSource) else find_model(source)
    return zoo_entry(found.name).preset() if found.kind == "zoo" else load_network(found).config


def _load_own(path: Path, model: str | None, class_names: Sequence[str] | None) -> Network:
    """A file of ours says itself what it holds: what the caller says must agree."""
    network = load_weights(path)
    if model is not None and model != network.config.name:
        other = build_network(model, class_names=network.class_names)
        load_exactly(other, network.state_dict(), source=f"{path}: holds {network.config.name}, got model {model}")
        raise ConfigError(f"model: {path} holds {network.config.name}, got {model}")
    if class_names is not None and tuple(class_names) != network.class_names:
        raise ConfigError(
            f"class_names: {path} brings its own, {', '.join(network.class_names)}; got {', '.join(class_names)}"
        )
    return network
