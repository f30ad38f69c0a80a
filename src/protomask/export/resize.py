"""The resizes of `protomask.structures` as operations of a graph.

There sizes are numbers and Pillow does a part; here sizes may be known only when the graph runs, whose numbers may have
no more than 32 bits. Images are (3, H, W) uint8, ``size`` is (h, w), and resized images are (3, h, w) float32 of whole
numbers.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from protomask.structures.geometry import ShortSideGeometry

_LARGEST_SIDE = 1 << 14


def resized_size(sides: Tensor, geometry: ShortSideGeometry, shortfalls: Tensor) -> Tensor:
    """See `ShortSideGeometry.resized_size`, whose double precision this does without.

    Of about one in ten thousand sizes a side is a pixel longer than there.

    Args:
        sides: (2,) int64, (H, W).
        geometry: of the network.
        shortfalls: see `shortfalls`.

    Returns:
        (2,) int64, (h, w).

    """
    short, long = sides.min(), sides.max()
    is_limited = geometry.image_size * long > geometry.max_image_size * short
    if geometry.rounding == "short_side":
        limited = (geometry.max_image_size * short / long).round().long()
        target = torch.where(is_limited, limited, geometry.image_size)
        resized = torch.where(sides == short, target, target * sides // short)
    else:
        target = torch.where(is_limited, geometry.max_image_size, geometry.image_size)
        basis = torch.where(is_limited, long, short)
        rest = basis // 2 if geometry.rounding == "half_up" else 0
        shortfall = shortfalls[is_limited.long(), basis.clamp(max=_LARGEST_SIDE)]
        resized = (sides * target + rest) // basis - (sides == basis) * shortfall
    return resized.clamp(min=1)


def shortfalls(geometry: ShortSideGeometry) -> Tensor:
    """(2, largest side + 1) uint8: where rounding n * (target / n) loses a pixel of the target, in double precision.

    The first row is for the target of the short side, the second for that of the long one.
    """
    rest = 0.5 if geometry.rounding == "half_up" else 0.0
    targets = (geometry.image_size, geometry.max_image_size)
    rows = [[0, *(target - int(n * (target / n) + rest) for n in range(1, _LARGEST_SIDE + 1))] for target in targets]
    return torch.tensor(rows, dtype=torch.uint8)


def resize_as_opencv(image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `protomask.structures.resize.resize_opencv`: for sides up to some 6000 pixels few values are one off."""
    upper, lower, (upper_share, lower_share) = _taps(image.shape[1], size[0])
    left, right, shares = _taps(image.shape[2], size[1])
    # Beyond the left and right edge the edge pixel counts whole, beyond the others its shares are cut apart.
    left_share, right_share = torch.where(left == right, shares.new_tensor([[2048.0], [0.0]]), shares)
    pixels = image.float()
    wide = ((pixels[:, :, left] * left_share + pixels[:, :, right] * right_share) / 16).floor()
    high = _part(wide[:, upper], upper_share[:, None]) + _part(wide[:, lower], lower_share[:, None])
    return ((high + 2) / 4).floor()


def _part(wide: Tensor, share: Tensor) -> Tensor:
    """``wide * share / 65536``, rounded down, of 15 and 12 bits: in two steps, since float32 holds 24."""
    coarse = (share / 64).floor()
    fine = share - coarse * 64
    return ((wide * coarse + (wide * fine / 64).floor()) / 1024).floor()


def _taps(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``target`` pixels the two of ``source`` it lies between, (target,) int64, and their 2048ths of it.

    A pixel beyond an edge has the same neighbour twice.
    """
    # OpenCV divides in double precision. A runtime may even multiply by the inverse, but of whole numbers that float32
    # holds what is left of a division is exact.
    parts = ((torch.arange(target) * 2 + 1) * source - target).float()
    whole = (parts / (2 * target)).floor()
    place = whole + (parts - whole * (2 * target)) / (2 * target)
    first = place.floor()
    share = place - first
    shares = (torch.stack((1 - share, share)) * 2048).round()
    return first.long().clamp(min=0), (first.long() + 1).clamp(max=source - 1), shares


def resize_as_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `protomask.structures.resize.resize_pillow`: the same for sides up to some 4000 pixels.

    Of pictures more than twice as high as wide that shrink, Pillow 13 resizes the height first, this never: there a
    fourth of the values are one off.
    """
    wide = image.float()
    coarse, fine = _shares(image.shape[2], size[1])
    wide = _rounded(wide @ coarse.T, wide @ fine.T)
    coarse, fine = _shares(image.shape[1], size[0])
    return _rounded(coarse @ wide, fine @ wide)


def _shares(source: int, target: int) -> tuple[Tensor, Tensor]:
    """What each source pixel contributes, a triangle as wide as two pixels of the smaller image.

    Pillow has whole numbers of 22 bits for it. Here are two of 11, whose products with pixels float32 can add up.

    Returns:
        coarse: (target, source) 2048ths.
        fine: (target, source) what is missing, 2048ths of these.

    """
    # In the 2 * target-th part of a source pixel all distances are whole.
    centre = (torch.arange(target) * 2 + 1) * source
    place = (torch.arange(source) * 2 + 1) * target
    reach = 2 * cast(int, torch.sym_max(source, target))
    height = (reach - (place - centre[:, None]).abs()).clamp(min=0).float()
    whole = height.sum(dim=1, keepdim=True)
    coarse = (height * 2048 / whole).floor()
    rest = height * 2048 - coarse * whole
    return coarse, (rest * 2048 / whole + 0.5).floor()


def _rounded(coarse: Tensor, fine: Tensor) -> Tensor:
    """(coarse * 2048 + fine) / 2**22, halves rounded up."""
    return ((coarse + ((fine + (1 << 21)) / 2048).floor()) / 2048).floor()
