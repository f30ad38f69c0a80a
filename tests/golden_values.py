"""Reading goldens and comparing with their sampled values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

Golden = dict[str, np.ndarray]


def read_golden(path: Path) -> Golden:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def read_picture(golden_dir: Path, number: int) -> Tensor:
    picture = Image.open(golden_dir / "yolact" / "inputs" / f"image{number}.png").convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def check_samples(golden: Golden, name: str, tensor: Tensor) -> None:
    """Sampled values within 5 x what rounding alone does, or 1e-4."""
    assert tuple(tensor.shape) == tuple(golden[f"{name}.shape"]), name
    got = tensor.contiguous().flatten()[torch.from_numpy(golden[f"{name}.idx"].astype(np.int64))]
    tolerance = max(5 * float(golden[f"{name}.maxdiff64"]), 1e-4)
    assert np.abs(got.numpy() - golden[f"{name}.val"]).max() <= tolerance, name
    assert float(tensor.double().mean()) == pytest.approx(float(golden[f"{name}.mean"]), abs=1e-4), name


def same_order(got: list[tuple[int, int]], wanted: list[tuple[int, int]], scores: np.ndarray) -> bool:
    """Equal lists up to swaps of entries whose scores differ by less than 1e-4."""
    if len(got) != len(wanted):
        return False
    place = {item: index for index, item in enumerate(wanted)}
    edge = scores[-1] + 1e-4 if len(scores) else 0.0
    for index, item in enumerate(got):
        if item == wanted[index]:
            continue
        if item in place:
            if abs(scores[place[item]] - scores[index]) >= 1e-4:
                return False
        elif scores[index] > edge:
            return False
    return True
