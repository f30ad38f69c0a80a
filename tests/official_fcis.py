"""The official FCIS with the weights of its goldens."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protomask.checkpoints import fcis_format
from protomask.checkpoints.foreign import ForeignFile
from protomask.models.fcis.model import FCIS


def golden_tensors(golden_dir: Path) -> dict[str, Tensor]:
    """Every tensor of an official checkpoint of ResNet-50, by the recipe of the goldens."""
    recipe = json.loads((golden_dir / "fcis" / "fcis_resnet50.state_dict.json").read_text())
    return {key: torch.from_numpy(_values(key, entry)) for key, entry in recipe["tensors"].items()}


def official_fcis(golden_dir: Path) -> FCIS:
    """In evaluation mode."""
    network = fcis_format.load(Path("golden.params"), ForeignFile(tensors=golden_tensors(golden_dir)), None, None)
    assert isinstance(network, FCIS)
    return network


def _values(key: str, entry: dict[str, Any]) -> NDArray[np.float32]:
    shape, scale, kind = tuple(entry["shape"]), entry["scale"], entry["kind"]
    numbers = np.random.default_rng(zlib.crc32(key.encode()))
    if kind == "conv":
        values = _filters(numbers, shape, entry)
    elif kind in ("bn_weight", "bn_var"):
        values = numbers.uniform(0.5, 1.5, shape) * scale
    else:
        values = numbers.standard_normal(shape) * scale + entry.get("shift", 0.0)
        if "blob" in entry:  # more inside than outside in the middle
            y, x = np.mgrid[-3.0:4.0, -3.0:4.0]
            values.reshape(-1, 2, 7, 7)[:, 1] += entry["blob"] * (1 - (y**2 + x**2) / 6)
        for index, more in entry.get("add", []):
            values[index] += more
    return np.ascontiguousarray(values, dtype=np.float32)


def _filters(numbers: np.random.Generator, shape: tuple[int, ...], entry: dict[str, Any]) -> NDArray[np.float64]:
    values = numbers.standard_normal(shape)
    if entry.get("center"):
        values -= values.mean(axis=(1, 2, 3), keepdims=True)
    spread = np.sqrt(2.0 / entry["fan_in"])
    values = values * entry["scale"] * spread
    if "shared" in entry:  # the same for all maps of a class
        common = numbers.standard_normal((shape[0] // 98, 1, shape[1]))
        common = (common - common.mean(axis=2, keepdims=True)) * entry["shared"] * spread
        values = (values.reshape(-1, 98, shape[1]) + common).reshape(shape)
    return np.asarray(values)
