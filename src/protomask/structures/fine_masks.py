"""Masks whose outlines are worked out in pixels, from logits on the prototype grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.masks.fine import fine_runs
from protomask.masks.grids import GridWindow, resized_line
from protomask.masks.runs import Runs
from protomask.structures.mask_sources import Chosen


class FineMasks:
    """Logits of masks on the prototype grid, evaluated at native resolution along their outlines when asked.

    Args:
        windows: logits of N masks, on the cells around their crops.
        crops: (N, 4) int64, left, top, right and bottom of the pixels of the original image that may belong to each
            mask, right and bottom excluded.
        grid_size: (h, w) of the grid.
        image_size: (H, W) of the original image.

    """

    def __init__(
        self,
        windows: Sequence[GridWindow],
        crops: NDArray[np.int64],
        grid_size: tuple[int, int],
        image_size: tuple[int, int],
    ) -> None:
        self._windows = list(windows)
        self._crops = crops
        self._grid_size = grid_size
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: Chosen) -> FineMasks:
        windows = [self._windows[place] for place in index.tolist()]
        return FineMasks(windows, self._crops[index], self._grid_size, self.image_size)

    def runs(self) -> Iterator[Runs]:
        rows, columns = (resized_line(*sizes) for sizes in zip(self._grid_size, self.image_size, strict=True))
        for window, crop in zip(self._windows, self._crops.tolist(), strict=True):
            left, top, right, bottom = crop
            yield fine_runs(window, rows, columns, (left, top, right, bottom), self.image_size[0])
