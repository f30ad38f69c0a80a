"""Coordination of the processes of one run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import nn

from protomask.data.training.loader import Share
from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.models.network import Network

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_first_process() -> bool:
    """Whether this is the process that reports and writes files for the whole run."""
    return os.environ.get("RANK", "0") == "0"


def share_of(accelerator: Accelerator, config: TrainConfig) -> Share:
    """The part of every step that this process takes."""
    return Share(accelerator.process_index, accelerator.num_processes, config.accumulate)


def in_any_process(accelerator: Accelerator, *here: bool) -> list[bool]:
    """Whether each of these holds in any process, so that all of them act together or none does."""
    if accelerator.num_processes == 1:
        return list(here)
    flags = torch.tensor(here, dtype=torch.float32, device=accelerator.device)
    return [count > 0 for count in accelerator.reduce(flags, "sum").tolist()]


def mean_of_processes(accelerator: Accelerator, *here: float) -> list[float]:
    """Mean of each of these numbers over all processes, the same in all of them."""
    if accelerator.num_processes == 1:
        return list(here)
    values = torch.tensor(here, dtype=torch.float32, device=accelerator.device)
    return [float(value) for value in accelerator.reduce(values, "mean").tolist()]


def share_statistics(network: Network, config: TrainConfig, accelerator: Accelerator) -> None:
    """Make batch norms take their statistics over all processes.

    Raises:
        ConfigError: the devices do not support it, or batch norm does not learn.

    """
    if accelerator.device.type != "cuda":
        raise ConfigError(f"sync_batch_norm: expected CUDA devices, got {accelerator.device.type}")
    if config.freezes_batch_norm or config.train_only is not None:
        raise ConfigError("sync_batch_norm: expected batch norm that learns, got a fixed one (freeze_bn, train_only)")
    # In place, except for a batch norm that is the whole network.
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
