"""Reading goldens and comparing with their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from protomask.images.decode import Pixels, read_image
from protomask.masks.rle import decode_rle
from protomask.structures.instances import Instances

Golden = dict[str, NDArray[Any]]
CPU = torch.device("cpu")


def read_golden(path: Path) -> Golden:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def golden_image(golden_dir: Path, number: int) -> Pixels:
    """1 or 2: what the goldens of YOLACT and MMDetection were computed from."""
    return read_image(golden_dir / "yolact" / "inputs" / f"image{number}.png")


def official_rcnn_image(golden_dir: Path, number: int) -> Pixels:
    """0 or 1: what the goldens of Mask Scoring R-CNN were computed from."""
    return read_image(golden_dir / "msrcnn" / f"img{number}.png")


def check_samples(golden: Golden, name: str, tensor: Tensor) -> None:
    """Sampled values within 5 x what rounding alone does, or 1e-4."""
    assert tuple(tensor.shape) == tuple(golden[f"{name}.shape"]), name
    got = tensor.contiguous().flatten()[torch.from_numpy(golden[f"{name}.idx"].astype(np.int64))]
    tolerance = max(5 * float(golden[f"{name}.maxdiff64"]), 1e-4)
    assert np.abs(got.numpy() - golden[f"{name}.val"]).max() <= tolerance, name
    assert float(tensor.double().mean()) == pytest.approx(float(golden[f"{name}.mean"]), abs=1e-4), name


def same_order(got: list[tuple[int, int]], wanted: list[tuple[int, int]], scores: NDArray[Any]) -> bool:
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


def places_of(found: Instances, boxes: NDArray[Any], labels: NDArray[Any], tolerance: float) -> NDArray[np.int64]:
    """For each wanted detection the place of ours: the same class, the nearest box."""
    assert len(found) == len(boxes)
    distance = np.abs(boxes[:, None] - found.boxes).max(axis=2) + 1e6 * (labels[:, None] != found.labels)
    places: NDArray[np.int64] = distance.argmin(axis=1)
    assert float(distance.min(axis=1).max()) <= tolerance
    assert len(set(places.tolist())) == len(boxes)
    return places


def golden_mask(size: tuple[int, int], code: Any) -> NDArray[np.bool_]:
    """(H, W) from one run-length code of a golden."""
    return decode_rle({"size": list(size), "counts": bytes(code)})


@torch.inference_mode()
def outputs_of(network: Any, images: Tensor, *parts: str) -> dict[str, Any]:
    """What these parts of a network, and with the name "" the whole, give for a batch in one run."""
    kept: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: kept.__setitem__(name, output)

    handles = [network.get_submodule(name).register_forward_hook(keep(name)) for name in ("", *parts)]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return kept
