"""What prototypes know of their place in the image, measured over many images, and the toy that shows how they can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from protomask.explaining.results import Floats

Padding = Literal["zeros", "reflect", "replicate", "circular"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)
_FUNCTIONAL_NAME = {"zeros": "constant"}
_COMPARED = 20
"""Images whose prototypes are kept to be compared with those of the shifted images."""


def toy_layers(padding: Padding, *, columns: int = 24, layers: int = 12) -> Floats:
    """Convolve a row of ones again and again with the kernel [1, 0] and a padding of 1.

    Each layer moves its input by one column; what enters at the edge is up to the padding. With zeros, layer n knows
    which columns are further than n from the edge, and the sum of the layers is a ramp: the column itself. (Bolya et
    al. 2019, section 5, name this kernel as a way for padding to tell a network where it is.)

    Returns:
        (layers + 1, columns) float32, the input first.

    """
    kernel = torch.tensor([[[1.0, 0.0]]])
    row = torch.ones(1, 1, columns)
    rows = [row]
    for _ in range(layers):
        padded = F.pad(rows[-1], (1, 1), mode=_FUNCTIONAL_NAME.get(padding, padding))
        rows.append(F.conv1d(padded, kernel)[:, :, :columns])
    stacked: Floats = torch.cat(rows)[:, 0].numpy()
    return stacked


@dataclass
class PrototypeRecord:
    """Sums over the prototypes of many images, all on one grid.

    Attributes:
        count: images so far.
        first: (h, w, k) float16 prototypes of the first images.

    """

    count: int = 0
    first: list[NDArray[np.float16]] = field(default_factory=list)
    _sum: NDArray[np.float64] | None = None
    _squares: NDArray[np.float64] | None = None

    def add(self, prototypes: Floats) -> None:
        """Take the (h, w, k) prototypes of one more image."""
        exact = prototypes.astype(np.float64)
        if self._sum is None or self._squares is None:
            self._sum, self._squares = np.zeros_like(exact), np.zeros_like(exact)
        self._sum += exact
        self._squares += exact**2
        self.count += 1
        if len(self.first) < _COMPARED:
            self.first.append(prototypes.astype(np.float16))

    @property
    def mean(self) -> Floats:
        """(h, w, k) mean over the images: what is left is what depends on the place only."""
        assert self._sum is not None
        return (self._sum / self.count).astype(np.float32)

    def place_share(self) -> NDArray[np.float64]:
        """(k,) share of each prototype's variance that the place in the image explains, in [0, 1]; 0 for flat ones.

        The variance over images and cells is that of the mean map plus that around it. A mean of N images varies by
        1 / (N - 1) of the latter even where the place says nothing, which is taken off. At least two images.
        """
        assert self._sum is not None
        assert self._squares is not None
        mean = self._sum / self.count
        around = (self._squares / self.count - mean**2).mean(axis=(0, 1)).clip(0)
        by_place = mean.var(axis=(0, 1))
        total = by_place + around
        known = by_place - around / (self.count - 1)
        share: NDArray[np.float64] = np.divide(known, total, out=np.zeros_like(total), where=total > 1e-12)
        return share.clip(0, 1)


def staying(
    originals: Sequence[NDArray[np.float16]], shifted: Sequence[NDArray[np.float16]], shift: float
) -> NDArray[np.bool_]:
    """Which prototypes stay where they are when the image moves, instead of moving with it.

    Args:
        originals: (h, w, k) of each image.
        shifted: of the same images, moved to the right and down by ``shift`` of their sides.
        shift: share of the sides.

    Returns:
        (k,) bool: the correlation with the original at the same cell is higher than that at the moved cell. A flat
        prototype does not stay.

    """
    height, width, count = originals[0].shape
    down, right = round(height * shift), round(width * shift)
    stay, move = np.zeros(count), np.zeros(count)
    for before, after in zip(originals, shifted, strict=False):
        seen = after[down:, right:].reshape(-1, count).astype(np.float64)
        stay += _correlations(seen, before[down:, right:].reshape(-1, count).astype(np.float64))
        move += _correlations(seen, before[: height - down, : width - right].reshape(-1, count).astype(np.float64))
    result: NDArray[np.bool_] = stay > move
    return result


def _correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) correlation of (L, k) columns; 0 where one is flat."""
    one, other = first - first.mean(axis=0), second - second.mean(axis=0)
    norm = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    result: NDArray[np.float64] = np.divide((one * other).sum(axis=0), norm, out=np.zeros(one.shape[1]), where=norm > 0)
    return result
