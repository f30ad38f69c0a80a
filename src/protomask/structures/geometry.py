"""One owner of the way from an image to a network's input and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from protomask.errors import ConfigError
from protomask.structures.resize import RESIZE_METHODS, ResizeMethod, check_image, resize_opencv, resize_pillow


@dataclass(frozen=True, kw_only=True)
class ImageGeometry:
    """Resize to a fixed size (aspect ratio not kept, as YOLACT) and normalise; and the way back for boxes.

    Attributes:
        image_size: (H, W) of the network's input.
        mean: per RGB channel, 0..255 scale.
        std: per RGB channel, 0..255 scale.
        antialias: low-pass filter before shrinking. The official weights were trained without.
        resize_method: "float" is bilinear in floating point, "opencv" gives OpenCV's whole grey levels (no filter).

    Masks need no inverse of their own: the prototype grid covers the whole image, so enlarging the grid to the original
    size undoes the resize.

    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = False
    resize_method: ResizeMethod = "float"

    def __post_init__(self) -> None:
        if min(self.image_size) < 1:
            raise ConfigError(f"image_size: expected two positive numbers, got {self.image_size}")
        if min(self.std) <= 0:
            raise ConfigError(f"std: expected positive numbers, got {self.std}")
        if self.resize_method not in RESIZE_METHODS:
            raise ConfigError(f"resize_method: expected one of {', '.join(RESIZE_METHODS)}, got {self.resize_method!r}")
        if self.antialias and self.resize_method == "opencv":
            raise ConfigError("antialias: expected False with resize_method opencv, which has no filter, got True")

    pad_multiple: ClassVar[None] = None
    """Images of a batch all have one size."""

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) to which an image of another size is brought: always the network's."""
        return self.image_size

    def batch(self, images: Sequence[Tensor]) -> Tensor:
        """Stack preprocessed images."""
        return torch.stack(list(images))

    def normalize_batch(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """`normalize` for a batch whose images have their sizes."""
        return self.normalize(images)

    def resize(self, image: Tensor) -> Tensor:
        """Resize one image.

        Args:
            image: (3, H, W) uint8 RGB, any size.

        Returns:
            (3, *image_size) float32, 0..255.

        """
        check_image(image)
        if tuple(image.shape[1:]) == self.image_size:
            return image.float()
        if self.resize_method == "opencv":
            return resize_opencv(image, self.image_size).float()
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
        return _normalized(images, self.mean, self.std)

    def preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB of any size to (3, *image_size) float32, normalised."""
        return self.normalize(self.resize(image))


@dataclass(frozen=True)
class PaddedImages:
    """Images of different sizes as one batch.

    Attributes:
        tensors: (B, 3, H, W) float32, normalised, zero right of and below each image.
        sizes: (h, w) of each image within.

    """

    tensors: Tensor
    sizes: tuple[tuple[int, int], ...]

    def to(self, *args: Any, **options: Any) -> PaddedImages:
        """`torch.Tensor.to` for the tensors."""
        return PaddedImages(self.tensors.to(*args, **options), self.sizes)

    def contiguous(self, **options: Any) -> PaddedImages:
        """`torch.Tensor.contiguous` for the tensors."""
        return PaddedImages(self.tensors.contiguous(**options), self.sizes)

    def pin_memory(self) -> PaddedImages:
        """`torch.Tensor.pin_memory` for the tensors."""
        return PaddedImages(self.tensors.pin_memory(), self.sizes)


@dataclass(frozen=True, kw_only=True)
class ShortSideGeometry:
    """Resize to a short side (aspect ratio kept), normalise and pad; and the way back for boxes.

    Attributes:
        image_size: of the short side, network pixels.
        max_image_size: the long side is at most (about) this, then the short one is smaller.
        mean: per RGB channel, 0..255 scale.
        std: per RGB channel, 0..255 scale.
        channel_order: of the network's input.
        resize_method: "float" interpolates normalised values without a filter, "pillow" and "opencv" as those libraries
            do with uint8.
        rounding: of the sides, see `protomask.models.rcnn.conventions.Conventions`.
        pad_multiple: sides of a batch are multiples of this.

    """

    image_size: int
    max_image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    resize_method: Literal["float", "pillow", "opencv"] = "float"
    rounding: Literal["floor", "half_up", "short_side"] = "floor"
    pad_multiple: int = 32

    @property
    def antialias(self) -> bool:
        """Whether shrinking filters."""
        return self.resize_method == "pillow"

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) to which an image of a size (H, W) is brought; at least one pixel each."""
        short, long = sorted(size)
        if self.rounding == "short_side":
            target = self.image_size
            if long / short * target > self.max_image_size:
                target = round(self.max_image_size * short / long)
            sides = (target if side == short else int(target * side / short) for side in size)
        else:
            scale = min(self.image_size / short, self.max_image_size / long)
            rest = 0.5 if self.rounding == "half_up" else 0.0
            sides = (int(side * scale + rest) for side in size)
        height, width = (max(side, 1) for side in sides)
        return height, width

    def normalize(self, images: Tensor) -> Tensor:
        """(x - mean) / std per channel, in the network's channel order.

        Args:
            images: (..., 3, H, W) uint8 or float, RGB, 0..255.

        Returns:
            float32, same shape.

        """
        normalized = _normalized(images, self.mean, self.std)
        return normalized.flip(-3) if self.channel_order == "BGR" else normalized

    def preprocess(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB of any size to (3, h, w) float32, resized and normalised."""
        if self.resize_method != "float":
            return self.normalize(self.resize(image))
        check_image(image)
        size = self.resized_size((image.shape[1], image.shape[2]))
        if tuple(image.shape[1:]) == size:
            return self.normalize(image)
        return F.interpolate(self.normalize(image)[None], size, mode="bilinear", align_corners=False)[0]

    def resize(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 RGB of any size to (3, h, w) uint8, as the library of ``resize_method`` does.

        Raises:
            ConfigError: ``resize_method`` is "float", which has no whole grey levels.

        """
        if self.resize_method == "float":
            raise ConfigError("resize_method: expected pillow or opencv, got float")
        check_image(image)
        size = self.resized_size((image.shape[1], image.shape[2]))
        if tuple(image.shape[1:]) == size:
            return image
        return (resize_pillow if self.resize_method == "pillow" else resize_opencv)(image, size)

    def batch(self, images: Sequence[Tensor]) -> PaddedImages:
        """Pad preprocessed images, right and below, to their common size."""
        sizes = tuple((image.shape[1], image.shape[2]) for image in images)
        height, width = padded_size(sizes, self.pad_multiple)
        padded = images[0].new_zeros(len(images), 3, height, width)
        for image, (h, w), out in zip(images, sizes, padded, strict=True):
            out[:, :h, :w] = image
        return PaddedImages(padded, sizes)

    def normalize_batch(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> PaddedImages:
        """Normalise resized images that already share a padded frame; the padding becomes zero.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            sizes: (h, w) of each image within.

        """
        normalized = self.normalize(images)
        for image, (height, width) in zip(normalized, sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return PaddedImages(normalized, tuple(sizes))


Geometry = ImageGeometry | ShortSideGeometry


def padded_size(sizes: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
    """(H, W) that holds images of these sizes, both sides multiples of a number."""
    # Without negative numbers: ONNX would round their quotients up.
    height, width = ((max(size[axis] for size in sizes) + multiple - 1) // multiple * multiple for axis in range(2))
    return height, width


def _normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device)[:, None, None]
    scale = torch.tensor(std, dtype=torch.float32, device=images.device)[:, None, None]
    return (images.float() - shift) / scale
