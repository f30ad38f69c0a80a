"""One owner for every pixel: for label maps, areas that add up, and counts."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from protomask.masks.depth import depths
from protomask.masks.runs import MaskWindow, Runs, mask_runs, move_runs
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import RunMasks

Owner = Literal["score", "depth"]
_Value = TypeVar("_Value", bound=np.generic)


def give_pixels_one_owner(found: Instances, by: Owner) -> Instances:
    """Give each pixel to one instance; instances that are left without pixels are dropped.

    Boxes and scores stay as they were.

    Args:
        found: N instances, best first.
        by: "score": a pixel belongs to the best instance that has it; "depth": to the one in whose mask it lies
            deepest, by the distance from its outline, and among equals to the best.

    """
    windows = list(found.windows())
    owner = np.full(found.image_size, -1, dtype=np.int32)
    if by == "score":
        for index in range(len(windows) - 1, -1, -1):
            _part(owner, windows[index])[windows[index].mask] = index
    else:
        deepest = np.zeros(found.image_size, dtype=np.float32)
        for index, window in enumerate(windows):
            depth, best = depths(window.mask), _part(deepest, window)
            deeper = depth > best
            best[deeper] = depth[deeper]
            _part(owner, window)[deeper] = index
    own = [mask_runs(_part(owner, window) == index) for index, window in enumerate(windows)]
    left = np.array([index for index, runs in enumerate(own) if len(runs)], dtype=np.int64)
    masks = RunMasks([_in_frame(own[index], windows[index], found.image_size[0]) for index in left.tolist()])
    return found[left].replace(masks=masks)


def _part(frame: NDArray[_Value], window: MaskWindow) -> NDArray[_Value]:
    height, width = window.mask.shape
    return frame[window.top : window.top + height, window.left : window.left + width]


def _in_frame(runs: Runs, window: MaskWindow, height: int) -> Runs:
    return move_runs(runs, window.mask.shape[0], left=window.left, top=window.top, frame_height=height)
