"""A trained network that a run learns from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from protomask.checkpoints.sources import load_network
from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.models.families import at_image_size, family_of
from protomask.models.network import Network


class Teacher:
    """A network whose predictions another one learns beside the annotations.

    Args:
        network: the trained one, which stays as it is.
        terms: (output of the network that learns, output of the teacher) to losses.
        weight: factor of these losses.

    """

    def __init__(self, network: Network, terms: Callable[[Any, Any], dict[str, Tensor]], *, weight: float) -> None:
        self.network = network.requires_grad_(False).eval()
        self._terms, self._weight = terms, weight

    def to(self, device: torch.device, memory_format: torch.memory_format) -> None:
        """Move the network to where the other one is."""
        self.network.to(device, memory_format=memory_format)

    def losses(self, images: Any, output: Any) -> dict[str, Tensor]:
        """The terms for a batch: the images as the network got them, and what it said."""
        with torch.no_grad():
            taught = self.network(images)
        return {name: self._weight * value for name, value in self._terms(output, taught).items()}


def teacher_for(config: TrainConfig, network: Network) -> Teacher | None:
    """The teacher that the settings name, at the image size of the network; None for none.

    Raises:
        ConfigError: the family of the network learns from no teacher, or this one does not fit.
        CheckpointError: its weights cannot be found or read.

    """
    if config.teacher is None:
        return None
    family = family_of(network.config)
    if family.teaching is None:
        raise ConfigError(f"teacher: {network.config.name} cannot learn from one; models like protomask_n can")
    teacher = load_network(config.teacher)
    if family_of(teacher.config) is not family:
        raise ConfigError(f"teacher: expected a model of the family {family.name}, got {teacher.config.name}")
    if teacher.config.image_size != network.config.image_size:
        teacher = at_image_size(teacher, network.config.image_size)
    return Teacher(teacher, family.teaching(network, teacher), weight=config.teacher_weight)
