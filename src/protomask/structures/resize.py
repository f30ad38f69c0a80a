"""Resizing of 8-bit images the way other libraries do it, to the last grey level, for weights trained that way.

Images are (3, H, W) uint8 (any channel order), ``size`` is (h, w); each channel and image is resized by itself, and an
image that has the size already comes back unchanged.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from protomask.errors import ConfigError, DataError

ResizeMethod = Literal["float", "opencv"]
"""Bilinear in floating point, or `resize_opencv`."""
RESIZE_METHODS: tuple[str, ...] = get_args(ResizeMethod)
_COEFFICIENT_ONE = 1 << 11  # OpenCV's INTER_RESIZE_COEF_SCALE: shares of a pixel are whole 2048ths


def resize_opencv(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as ``cv2.resize(..., interpolation=cv2.INTER_LINEAR)`` does: fixed-point bilinear, no antialiasing.

    The results are the same bytes as OpenCV's own. They differ by at most one grey level from the rounded result of
    bilinear interpolation in floating point.

    Args:
        image: (3, H, W) uint8, any device.
        size: (h, w) of the result.

    Returns:
        (3, h, w) uint8, same device.

    Raises:
        DataError: the image has another type or shape, or no pixel.
        ConfigError: the size is not positive.

    """
    check_image(image)
    _check_size(size)
    _, height, width = image.shape
    if (height, width) == tuple(size):
        return image.clone()
    rows, row_shares = _taps(height, size[0])
    columns, column_shares = (tap.to(image.device) for tap in _taps(width, size[1]))
    # Beyond the left and right edge the edge pixel counts whole. (Beyond the upper and lower edge its two shares are
    # cut to whole numbers apart, which can cost a grey level: OpenCV does not treat these edges alike.)
    outside = (columns < 0) | (columns >= width - 1)
    left_share, right_share = torch.where(outside, column_shares.new_tensor([[_COEFFICIENT_ONE], [0]]), column_shares)
    # The horizontal pass is made once for every row that takes part.
    both = torch.stack((rows, rows + 1)).clamp(0, height - 1).to(image.device)
    used, row_of = torch.unique(both, return_inverse=True)
    source = image.index_select(1, used).int()
    left, right = columns.clamp(0, width - 1), (columns + 1).clamp(0, width - 1)
    wide = _columns(source, left).mul_(left_share).add_(_columns(source, right).mul_(right_share))
    wide >>= 4
    upper_share, lower_share = row_shares.to(image.device)[:, :, None]
    resized = wide.index_select(1, row_of[0]).mul_(upper_share).bitwise_right_shift_(16)
    resized += wide.index_select(1, row_of[1]).mul_(lower_share).bitwise_right_shift_(16)
    return resized.add_(2).bitwise_right_shift_(2).to(torch.uint8)


def resize_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize by Pillow with its ``BILINEAR`` filter, which antialiases when it shrinks an image.

    Args:
        image: (3, H, W) uint8, any device; the work is done on the CPU.
        size: (h, w) of the result.

    Returns:
        (3, h, w) uint8, same device.

    Raises:
        DataError: the image has another type or shape, or no pixel.
        ConfigError: the size is not positive.

    """
    check_image(image)
    _check_size(size)
    # Pillow calls any three channels RGB.
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    resized = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
    return pixels.view(*size, 3).permute(2, 0, 1).contiguous().to(image.device)


def _taps(source: int, target: int) -> tuple[Tensor, Tensor]:
    """For each of ``target`` pixels the first of the two source pixels it lies between, and what each contributes.

    Returns:
        first: (target,) int64, from -1.
        shares: (2, target) int32, 2048ths.

    """
    # OpenCV's precision at every step: the scale is the inverse of a quotient, the place is rounded to float32.
    scale = 1.0 / (target / source)
    place = ((torch.arange(target, dtype=torch.float64) + 0.5) * scale - 0.5).float()
    first = place.floor()
    share = place - first
    shares = (torch.stack((1 - share, share)) * _COEFFICIENT_ONE).round()
    return first.long(), shares.int()


def _columns(source: Tensor, index: Tensor) -> Tensor:
    """``source[:, :, index]``, several times faster than by that expression."""
    return source.gather(2, index.expand(*source.shape[:2], len(index)))


def check_image(image: Tensor) -> None:
    """Raises: DataError if an image is not (3, H, W) uint8 with at least one pixel."""
    if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise DataError(f"image: expected uint8 of shape (3, H, W), got {image.dtype} of shape {tuple(image.shape)}")
    if 0 in image.shape:
        raise DataError(f"image: expected at least one pixel, got shape {tuple(image.shape)}")


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"size: expected two positive numbers, got {size}")
