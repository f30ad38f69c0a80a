"""Where the masks of instances come from: they become dense arrays only when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protomask.masks.grids import (
    PASTE_THRESHOLDS,
    GridWindow,
    MaskPaste,
    assemble_windows,
    cut_windows,
    interpolate_runs,
    region_lines,
    resized_line,
)
from protomask.masks.runs import Runs, mask_runs

_MASKS_AT_ONCE = 16
"""Masks computed together: enough for speed, few enough for the memory of masks that are all noise."""
Chosen = NDArray[np.int64]
"""(K,) which masks, not negative."""


class MaskSource(Protocol):
    """Where the masks of N instances come from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Chosen) -> MaskSource: ...

    def runs(self) -> Iterator[Runs]:
        """The masks in order, each as the runs of its pixels in the original frame."""
        ...


class DenseMasks:
    """Masks that are already an (N, H, W) bool array."""

    def __init__(self, masks: NDArray[np.bool_]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Chosen) -> DenseMasks:
        return DenseMasks(self._masks[index])

    def runs(self) -> Iterator[Runs]:
        return map(mask_runs, self._masks)


class RunMasks:
    """Masks that are already runs of pixels in the original frame."""

    def __init__(self, masks: Sequence[Runs]) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: Chosen) -> RunMasks:
        return RunMasks([self._masks[place] for place in index.tolist()])

    def runs(self) -> Iterator[Runs]:
        return iter(self._masks)


class GridMasks:
    """Mask probabilities on the prototype grid, enlarged to the original frame when asked.

    Kept are the cells that decide what a mask is, not whole grids. The masks are those of bilinear interpolation of the
    whole grid (as `torch.nn.functional.interpolate` with align_corners=False) and ``> threshold``, except for pixels
    whose interpolated value is within 1e-6 of the threshold, where the rounding of either decides.

    Args:
        mask_probs: (N, h, w) float32 in [0, 1], cropped to the boxes, on the prototype grid of the whole image.
        image_size: (H, W) of the original image.
        threshold: a pixel belongs to the mask if its interpolated probability is above this; at least 0.

    """

    def __init__(self, mask_probs: NDArray[np.float32], image_size: tuple[int, int], threshold: float = 0.5) -> None:
        self._grid_size = (mask_probs.shape[1], mask_probs.shape[2])
        self._windows = cut_windows(mask_probs, threshold=threshold)
        self.image_size = image_size
        self.threshold = threshold

    @classmethod
    def assemble(
        cls,
        prototypes: NDArray[np.float32],
        mask_coefficients: NDArray[np.float32],
        boxes: NDArray[np.float32],
        image_size: tuple[int, int],
    ) -> GridMasks:
        """Combine prototypes, only inside the boxes; see `protomask.masks.grids.assemble_windows`."""
        windows = assemble_windows(prototypes, mask_coefficients, boxes)
        return cls.of_windows(windows, (prototypes.shape[0], prototypes.shape[1]), image_size)

    @classmethod
    def of_windows(
        cls, windows: Sequence[GridWindow], grid_size: tuple[int, int], image_size: tuple[int, int]
    ) -> GridMasks:
        """Build from the cells of each mask that are not zero, on a grid (h, w)."""
        masks = cls(np.zeros((0, *grid_size), dtype=np.float32), image_size)
        masks._windows = list(windows)
        return masks

    @property
    def windows(self) -> list[GridWindow]:
        """The cells of each mask that decide what it is."""
        return list(self._windows)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: Chosen) -> GridMasks:
        chosen = copy(self)
        chosen._windows = [self._windows[place] for place in index.tolist()]
        return chosen

    def runs(self) -> Iterator[Runs]:
        rows, columns = (resized_line(*sizes) for sizes in zip(self._grid_size, self.image_size, strict=True))
        for start in range(0, len(self), _MASKS_AT_ONCE):
            windows = self._windows[start : start + _MASKS_AT_ONCE]
            yield from interpolate_runs(windows, rows, columns, self.image_size[0], threshold=self.threshold)


class RegionMasks:
    """Mask probabilities on a grid of each box, enlarged to the original frame when asked.

    Args:
        mask_probs: (N, m, m) float32 in [0, 1].
        boxes: (N, 4) float32 xyxy, pixels of the original image.
        image_size: (H, W) of the original image.
        paste: see `protomask.masks.grids.region_lines`; it also says which probability is enough.

    """

    def __init__(
        self,
        mask_probs: NDArray[np.float32],
        boxes: NDArray[np.float32],
        image_size: tuple[int, int],
        *,
        paste: MaskPaste,
    ) -> None:
        self.mask_probs = mask_probs
        self.boxes = boxes
        self.image_size = image_size
        self.paste = paste

    def __len__(self) -> int:
        return len(self.mask_probs)

    def __getitem__(self, index: Chosen) -> RegionMasks:
        return RegionMasks(self.mask_probs[index], self.boxes[index], self.image_size, paste=self.paste)

    def runs(self) -> Iterator[Runs]:
        threshold = PASTE_THRESHOLDS[self.paste]
        for probs, (x1, y1, x2, y2) in zip(self.mask_probs, self.boxes.tolist(), strict=True):
            rows, columns = region_lines((x1, y1, x2, y2), len(probs), self.image_size, paste=self.paste)
            window = GridWindow(0, 0, probs)
            yield from interpolate_runs([window], rows, columns, self.image_size[0], threshold=threshold)
