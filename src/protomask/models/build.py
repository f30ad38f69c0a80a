"""Networks and training losses, made from a config or a name of the zoo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from protomask.errors import ConfigError
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.models.zoo import zoo_entry


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
    if isinstance(class_names, str):
        raise ConfigError(f"class_names: expected a list of names, got the string {class_names!r}")
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise ConfigError(f"num_classes: expected {len(class_names)} as there are class_names, got {num_classes}")
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
            names = [f"class_{index}" for index in range(count)]
    if not names:
        raise ConfigError("class_names: expected at least one name")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        raise ConfigError(f"class_names: expected different names, got repeated {repeated}")
    config = config.override(num_classes=len(names), **overrides)
    return family_of(config).network(config, names, pretrained_backbone=pretrained_backbone)


def build_criterion(network: Network, *, label_smoothing: float = 0.0) -> nn.Module:
    """The training loss that belongs to a network, see `protomask.models.families.Family`."""
    return family_of(network.config).criterion(network, label_smoothing=label_smoothing)
