"""Which models can be looked into; answered before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from protomask.errors import ConfigError
from protomask.models.naming import find_model


def refuse_exported(name: str | Path | None) -> None:
    """Raise the ConfigError of a model that is an exported file; None is the shipped default.

    Raises:
        ConfigError: an exported file, or no model of this name.
        CheckpointError: no such file.

    """
    if name is not None and find_model(name).kind == "exported":
        raise ConfigError(f"model: expected a name or weights to explain, got the exported file {name}")
