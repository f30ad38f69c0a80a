"""What key maps of foreign formats share: reading a table of names, and moving the background's rows to the front."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

KeyMap = tuple[tuple[str, str], ...]
"""Pattern of a whole foreign key, and our name for it with the pattern's groups; the first that matches counts."""


def rename_by(tensors: Mapping[str, Tensor], key_map: KeyMap, *, ignored: str) -> dict[str, Tensor]:
    """Tensors under our names.

    Args:
        tensors: as in the file.
        key_map: the table; a key that no pattern matches keeps its name.
        ignored: pattern of whole keys that have no place in a network of ours.

    """
    kept = {key: tensor for key, tensor in tensors.items() if not re.fullmatch(ignored, key)}
    return {rename_key(key, key_map): tensor for key, tensor in kept.items()}


def rename_key(key: str, key_map: KeyMap) -> str:
    """Our name of one key; a key that no pattern matches keeps its name."""
    for pattern, replacement in key_map:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return key


def last_row_first(tensors: dict[str, Tensor], layer: str) -> None:
    """Move the background, the last row of a layer, to where it is with us, in place."""
    for key in _keys_of(tensors, layer):
        tensors[key] = tensors[key].roll(1, dims=0)


def add_background_rows(tensors: dict[str, Tensor], layer: str, *, rows: int = 1) -> None:
    """Put zeros before the rows of a layer that predicts nothing for the background, in place."""
    for key in _keys_of(tensors, layer):
        tensor = tensors[key]
        tensors[key] = torch.cat([tensor.new_zeros(rows, *tensor.shape[1:]), tensor])


def keep_rows(tensors: dict[str, Tensor], layer: str, *, rows: int) -> None:
    """Cut the rows of a layer after the given number, in place."""
    for key in _keys_of(tensors, layer):
        tensors[key] = tensors[key][:rows]


def _keys_of(tensors: Mapping[str, Tensor], layer: str) -> Iterable[str]:
    return [key for key in (f"{layer}.weight", f"{layer}.bias") if key in tensors]
