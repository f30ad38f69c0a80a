"""The resizes of `protomask.images.resize` as operations of a graph.

There sizes are numbers and Pillow does a part; here sizes may be known only when the graph runs, whose numbers may have
no more than 32 bits. Images are (C, H, W) uint8, ``size`` is (h, w), and resized images are (C, h, w) float32 of whole
numbers.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from protomask.ops.geometry import ShortSideGeometry

_LARGEST_SIDE = 1 << 14
_BLOCK = 16  # rows: larger blocks have larger matrices, smaller ones share fewer pixels


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


def resize_as_opencv(
    image: Tensor, size: tuple[int, int], *, step: tuple[int | Tensor, int | Tensor] | None = None
) -> Tensor:
    """See `protomask.images.resize.resize_opencv`: for sides up to some 6000 pixels few values are one off.

    ``step`` is numerator and denominator of the inverse of its ``scale``, whole numbers.
    """
    upper, lower, (upper_share, lower_share) = _taps(image.shape[1], size[0], step)
    left, right, shares = _taps(image.shape[2], size[1], step)
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


def _taps(
    source: int, target: int, step: tuple[int | Tensor, int | Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``target`` pixels the two of ``source`` it lies between, (target,) int64, and their 2048ths of it.

    A pixel beyond an edge has the same neighbour twice. One pixel is ``step`` (a fraction) wide in the source, by
    default ``source / target``.
    """
    over, under = step or (source, target)
    # OpenCV divides in double precision. A runtime may even multiply by the inverse, but of whole numbers that float32
    # holds what is left of a division is exact.
    parts = ((torch.arange(target) * 2 + 1) * over - under).float()
    whole = (parts / (2 * under)).floor()
    place = whole + (parts - whole * (2 * under)) / (2 * under)
    first = place.floor()
    share = place - first
    shares = (torch.stack((1 - share, share)) * 2048).round()
    return first.long().clamp(min=0), (first.long() + 1).clamp(max=source - 1), shares


def interpolate_as_torch(image: Tensor, size: tuple[int, int]) -> Tensor:
    """`F.interpolate` with ``mode="bilinear"`` of (1, 3, H, W) float32, to the last digits.

    A runtime's own Resize places its samples up to 1e-4 px elsewhere, of which a deep network makes other scores.
    """
    for axis in (3, 2):
        first, second, share = _places(image.shape[axis], size[axis - 2])
        share = share if axis == 3 else share[:, None]
        image = image.index_select(axis, first) * (1 - share) + image.index_select(axis, second) * share
    return image


def _places(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``target`` pixels the two of ``source`` it lies between, (target,) int64, and the second's share.

    PyTorch has ``source / target * (pixel + 0.5) - 0.5`` in float32, rounded three times; only with a single thread, or
    for small images, does it fuse the last two steps. So has this, whatever a runtime makes of a division or of a
    product and a sum: the ratio is corrected by what is left, and its products are cut into parts that float32 holds
    exactly.
    """
    steps = torch.arange(target).float() + 0.5
    sides = torch.stack((torch.arange(target) * 0 + source, torch.arange(target) * 0 + target)).float()
    ratio = sides[0] / sides[1]
    left = sides[0]
    for part in _twelve_bits_each(ratio):
        left = left - part * sides[1]
    coarse, middle, fine = (part * steps for part in _twelve_bits_each(ratio + left / sides[1]))
    product = coarse + middle
    lost = middle - (product - coarse)
    place = ((product + (lost + fine)) - 0.5).clamp(min=0)
    first = place.floor()
    return first.long(), (first.long() + 1).clamp(max=source - 1), place - first


def _twelve_bits_each(ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three numbers whose sum is a ratio below 16."""
    coarse = (ratio * 2.0**8).floor() / 2.0**8
    middle = ((ratio - coarse) * 2.0**20).floor() / 2.0**20
    return coarse, middle, ratio - coarse - middle


def resize_as_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `protomask.images.resize.resize_pillow`: the same for sides up to some 4000 pixels.

    Of pictures more than twice as high as wide that shrink, Pillow 13 resizes the height first, this never: there a
    fourth of the values are one off.
    """
    wide = _rows(image.transpose(1, 2), size[1])
    return _rows(wide.transpose(1, 2), size[0])


def _rows(image: Tensor, target: int) -> Tensor:
    """(C, H, W) to (C, target, W): every row is a weighted mean of those around it.

    A pixel's weight is the height of a triangle as wide as two pixels of the smaller image. One matrix for all rows
    would be zero almost everywhere, hence one for each block of them.
    """
    source = image.shape[1]
    reach = 2 * _larger(source, target)
    # In the 2 * target-th part of a source pixel all distances are whole. Rows beyond the last are like the last.
    blocks = (target + _BLOCK - 1) // _BLOCK
    steps = torch.arange(blocks * _BLOCK).clamp(max=target - 1)
    centre = ((steps * 2 + 1) * source).view(blocks, _BLOCK, 1)
    count = (2 * (_BLOCK - 1) * source + 2 * reach) // (2 * target) + 2
    around = centre[:, :1].sub(reach).div(2 * target, rounding_mode="floor") + torch.arange(count)
    height = (reach - ((around * 2 + 1) * target - centre).abs()).clamp(min=0)
    height = height * ((around >= 0) & (around < source))
    pixels = image.index_select(1, around.clamp(min=0).clamp(max=source - 1).flatten())
    means = _in_22_bits(height.float(), pixels.float().view(image.shape[0], blocks, count, image.shape[2]))
    return means.flatten(1, 2).index_select(1, torch.arange(target))


def _larger(side: int | Tensor, other: int) -> int:
    """The larger of two sides.

    `torch.jit.trace`, by which OpenVINO reads a network, makes tensors of sizes; `torch.export` makes numbers of which
    it cannot write the absolute value.
    """
    if isinstance(side, Tensor):
        return cast(int, torch.maximum(side, torch.full_like(side, other)))
    return cast(int, torch.sym_max(side, other))


def _in_22_bits(height: Tensor, pixels: Tensor) -> Tensor:
    """Whole mean of pixels as Pillow has it.

    Its weights are whole numbers of 22 bits. Here are two of 11, whose products with pixels float32 can add up.
    """
    whole = height.sum(dim=-1, keepdim=True)
    coarse = (height * 2048 / whole).floor()
    fine = ((height * 2048 - coarse * whole) * 2048 / whole + 0.5).floor()
    return ((coarse @ pixels + ((fine @ pixels + (1 << 21)) / 2048).floor()) / 2048).floor()
