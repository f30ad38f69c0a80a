"""Synthetic weights of the goldens, made from the recipe in CONFIG.state_dict.json."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def golden_weights(recipe_file: Path) -> dict[str, Tensor]:
    """Every tensor of the recipe under its official key."""
    recipe = json.loads(recipe_file.read_text())
    return {entry["key"]: _tensor(entry, recipe["salt"]) for entry in recipe["state_dict"]}


def _tensor(entry: dict[str, Any], salt: str) -> Tensor:
    if entry["kind"] == "zero_int64":
        return torch.zeros((), dtype=torch.int64)
    if entry["kind"] == "values":
        return torch.tensor(entry["values"], dtype=torch.float32).reshape(entry["shape"])
    rng = np.random.default_rng(zlib.crc32((salt + entry["key"]).encode()))
    shape, scale = entry["shape"], entry["scale"]
    if entry["kind"] in ("conv_weight", "fc_weight", "deconv_weight"):
        # Of a transposed convolution the inputs come first.
        summed = (0,) if entry["kind"] == "deconv_weight" else tuple(range(1, len(shape)))
        values = rng.standard_normal(shape)
        if entry.get("center"):
            values -= values.mean(axis=summed, keepdims=True)
        values = values * (scale * np.sqrt(2 / np.prod([shape[axis] for axis in summed])))
    elif entry["kind"] in ("norm_weight", "running_var"):
        values = rng.uniform(0.5, 1.5, shape) * scale
    else:
        values = rng.standard_normal(shape) * scale + entry.get("shift", 0.0)
        if "add" in entry:
            start, step, value = entry["add"]
            values[start::step] += value
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
