"""One owner of the way from an image to a network's input and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class ImageGeometry:
    """Resize to a fixed size (aspect ratio not kept, as YOLACT) and normalise; and the way back for boxes.

    Attributes:
        image_size: (H, W) of the network's input.
        mean: per RGB channel, 0..255 scale.
        std: per RGB channel, 0..255 scale.
        antialias: low-pass filter before shrinking. The official weights were trained without.

    Masks need no inverse of their own: the prototype grid covers the whole image, so enlarging the grid to the original
    size undoes the resize.

    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = False

    def __post_init__(self) -> None:
        if min(self.image_size) < 1:
            raise ConfigError(f"image_size: expected two positive numbers, got {self.image_size}")
        if min(self.std) <= 0:
            raise ConfigError(f"std: expected positive numbers, got {self.std}")

    def resize(self, image: Tensor) -> Tensor:
        """Resize one image.

        Args:
            image: (3, H, W) uint8 RGB, any size.

        Returns:
            (3, *image_size) float32, 0..255.

        """
        if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            got = f"{image.dtype} of shape {tuple(image.shape)}"
            raise DataError(f"image: expected uint8 of shape (3, H, W), got {got}")
        if 0 in image.shape:
            raise DataError(f"image: expected at least one pixel, got shape {tuple(image.shape)}")
        if tuple(image.shape[1:]) == self.image_size:
            return image.float()
        # Bilinear interpolation of large pictures is much cheaper on uint8, but rounds; the filter hides that rounding,
        # the unfiltered official transform must not have it. Only the CPU filters uint8.
        source = image if self.antialias and image.is_cpu else image.float()
        resized = F.interpolate(
            source[None], self.image_size, mode="bilinear", align_corners=False, antialias=self.antialias
        )
        return resized[0].float()

    def normalize(self, images: Tensor) -> Tensor:
        """(x - mean) / std per channel.

        Args:
            images: (..., 3, H, W) uint8 or float, RGB, 0..255.

        Returns:
            float32, same shape.

        """
        mean = torch.tensor(self.mean, dtype=torch.float32, device=images.device)[:, None, None]
        std = torch.tensor(self.std, dtype=torch.float32, device=images.device)[:, None, None]
        return (images.float() - mean) / std

    def preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB of any size to (3, *image_size) float32, normalised."""
        return self.normalize(self.resize(image))
