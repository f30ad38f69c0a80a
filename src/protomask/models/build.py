"""Networks and training losses, made from a config or a name of the zoo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from protomask.errors import ConfigError
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.models.zoo import zoo_entry
from protomask.settings import shown


def build_network(
    model: str | ModelConfig,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    pretrained_backbone: bool = False,
    **overrides: Any,
) -> Network:
    """An untrained network.

    Args:
        model: zoo name or config.
        class_names: names of the classes.
        num_classes: number of classes where they have no names yet: they become "class_0", "class_1" and so on.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).
        overrides: config fields to change, for example ``image_size=400``.

    Raises:
        ConfigError: unknown name or field, wrong value, or names and number that disagree.

    """
    if class_names is not None:
        class_names = checked_names(class_names)
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise ConfigError(f"num_classes: expected {len(class_names)} as there are class_names, got {num_classes}")
    if not isinstance(model, str | ModelConfig):
        raise ConfigError(f"model: expected the name of a model or its config, got {shown(model)}")
    if isinstance(model, str):
        entry = zoo_entry(model)
        config = entry.preset()
        names: Sequence[str] | None = entry.class_names
    else:
        config, names = model, None
    if class_names is not None:
        names = class_names
    elif num_classes is not None or names is None:
        count = config.num_classes if num_classes is None else config.checked("num_classes", num_classes)
        if names is None or len(names) != count:
            names = placeholder_names(count)
    if not names:
        raise ConfigError("class_names: expected at least one name")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        raise ConfigError(f"class_names: expected different names, got repeated {repeated}")
    config = config.override(num_classes=len(names), **overrides)
    with _single_precision():
        return family_of(config).network(config, names, pretrained_backbone=pretrained_backbone)


def placeholder_names(count: int) -> tuple[str, ...]:
    """Names of classes that have no names yet: "class_0", "class_1" and so on."""
    return tuple(f"class_{index}" for index in range(count))


@contextmanager
def _single_precision() -> Iterator[None]:
    """Networks are float32 whatever the caller's default is."""
    former = torch.get_default_dtype()
    if former == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


def checked_names(class_names: Any) -> tuple[str, ...]:
    """Class names from a caller.

    Raises:
        ConfigError: anything but a list of texts.

    """
    names = class_names.tolist() if hasattr(class_names, "tolist") else class_names
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names: expected a list of names, got {shown(class_names)}")
    return tuple(names)


def build_criterion(network: Network, *, label_smoothing: float = 0.0) -> nn.Module:
    """The training loss that belongs to a network, see `protomask.models.families.Family`."""
    return family_of(network.config).criterion(network, label_smoothing=label_smoothing)
