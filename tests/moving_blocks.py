"""Frames of rectangles that move and hide each other, as `Instances`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances

SIZE = (60, 120)
NAMES = ("cat", "dog")


class Block(NamedTuple):
    """A rectangle: its place (left, top) px at each frame, its size, and how it is detected."""

    place: Callable[[int], tuple[float, float]]
    width: int = 20
    height: int = 20
    label: int = 0
    score: float = 0.9


def frame_of(blocks: Sequence[Block], index: int, *, size: tuple[int, int] = SIZE) -> tuple[Instances, list[int]]:
    """What is seen at a frame, and the number of the block behind each instance; blocks lie from front to back."""
    taken = np.zeros(size, dtype=np.bool_)
    masks, numbers = [], []
    for number, block in enumerate(blocks):
        left, top = (round(value) for value in block.place(index))
        mask = np.zeros(size, dtype=np.bool_)
        mask[max(top, 0) : max(top + block.height, 0), max(left, 0) : max(left + block.width, 0)] = True
        mask &= ~taken
        taken |= mask
        if mask.any():
            masks.append(mask)
            numbers.append(number)
    seen = np.stack(masks) if masks else np.zeros((0, *size), dtype=np.bool_)
    return Instances(
        boxes=boxes_of_masks(seen),
        labels=np.array([blocks[number].label for number in numbers], dtype=np.int64),
        class_scores=np.array([blocks[number].score for number in numbers], dtype=np.float32),
        masks=seen,
        image_size=size,
        class_names=NAMES,
    ), numbers
