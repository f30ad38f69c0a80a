"""One owner of the way from an image to a network's input and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from protomask.errors import ConfigError, DataError
from protomask.images.resize import AnyRounding, resize_opencv, resize_pillow, short_side_scale, short_side_size

ResizeMethod = Literal["float", "opencv"]
"""Bilinear in floating point, or OpenCV's whole grey levels."""
RESIZE_METHODS: tuple[str, ...] = get_args(ResizeMethod)
ByteMethod = Literal["pillow", "opencv"]
_RESIZE: dict[ByteMethod, Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]]] = {
    "pillow": resize_pillow,
    "opencv": resize_opencv,
}


@dataclass(frozen=True, kw_only=True)
class ImageGeometry:
    """Resize to a fixed size (aspect ratio not kept, as YOLACT) and normalise; and the way back for boxes.

    Attributes:
        image_size: (H, W) of the network's input.
        mean: per RGB channel, 0..255 scale.
        std: per RGB channel, 0..255 scale.
        antialias: low-pass filter before shrinking, as Pillow does it. The official weights were trained without.
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
        if self.byte_method is not None:
            return _resized(image, self.image_size, self.byte_method).float()
        return F.interpolate(image[None].float(), self.image_size, mode="bilinear", align_corners=False)[0]

    def resize_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) to (*image_size, 3) by the ``byte_method``, which must not be None."""
        assert self.byte_method is not None
        return _RESIZE[self.byte_method](pixels, self.image_size)

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

    @property
    def byte_method(self) -> ByteMethod | None:
        """The method of resizing that has whole grey levels; None where it is floating point."""
        return "pillow" if self.antialias else "opencv" if self.resize_method == "opencv" else None


@dataclass(frozen=True)
class PaddedImages:
    """Images of different sizes as one batch.

    Attributes:
        tensors: (B, 3, H, W) float32, normalised, zero right of and below each image.
        sizes: (h, w) of each image within.

    """

    tensors: Tensor
    sizes: tuple[tuple[int, int], ...]

    def to(self, *args: Any, **kwargs: Any) -> PaddedImages:
        """`torch.Tensor.to` for the tensors."""
        return PaddedImages(self.tensors.to(*args, **kwargs), self.sizes)

    def contiguous(self, **kwargs: Any) -> PaddedImages:
        """`torch.Tensor.contiguous` for the tensors."""
        return PaddedImages(self.tensors.contiguous(**kwargs), self.sizes)

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
        rounding: of the sides, see `protomask.images.resize.short_side_size`; with "half_even" OpenCV samples in steps
            of the inverse scale.
        pad_multiple: sides of a batch are multiples of this.

    """

    image_size: int
    max_image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    resize_method: Literal["float", "pillow", "opencv"] = "float"
    rounding: AnyRounding = "floor"
    pad_multiple: int = 32

    @property
    def antialias(self) -> bool:
        """Whether shrinking filters."""
        return self.resize_method == "pillow"

    @property
    def byte_method(self) -> ByteMethod | None:
        """The method of resizing that has whole grey levels; None where it is floating point."""
        return None if self.resize_method == "float" else self.resize_method

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) to which an image of a size (H, W) is brought; at least one pixel each."""
        return short_side_size(size, self.image_size, self.max_image_size, rounding=self.rounding)

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
        pixels = self.resize_pixels(image.permute(1, 2, 0).cpu().numpy())
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(image.device)

    def resize_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`resize` for an (H, W, 3) array."""
        original = (pixels.shape[0], pixels.shape[1])
        size = self.resized_size(original)
        if self.resize_method == "opencv":
            scaled = self.rounding == "half_even"
            scale = short_side_scale(original, self.image_size, self.max_image_size) if scaled else None
            return resize_opencv(pixels, size, scale=scale)
        return resize_pillow(pixels, size)

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


def preprocess_pixels(pixels: NDArray[np.uint8], geometry: Geometry, device: torch.device) -> Tensor:
    """The network's input for one image as it is read.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        geometry: of the network.
        device: where the input is wanted; what is resized in floating point is resized there.

    Returns:
        (3, h, w) float32, resized and normalised.

    """
    if geometry.byte_method is not None:
        # Before the channels come first: the array is smaller then.
        pixels = geometry.resize_pixels(pixels)
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    if device.type == "cuda":
        image = image.pin_memory().to(device, non_blocking=True)  # a quarter of the bytes of the finished input
    if geometry.byte_method is not None:
        return geometry.normalize(image).to(device)  # whose size another resizing might round to another
    return geometry.preprocess(image).to(device)


def padded_size(sizes: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
    """(H, W) that holds images of these sizes, both sides multiples of a number."""
    # Without negative numbers: ONNX would round their quotients up.
    height, width = ((max(size[axis] for size in sizes) + multiple - 1) // multiple * multiple for axis in range(2))
    return height, width


def _normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device)[:, None, None]
    scale = torch.tensor(std, dtype=torch.float32, device=images.device)[:, None, None]
    return (images.float() - shift) / scale


def check_image(image: Tensor) -> None:
    """Raises: DataError if an image is not (3, H, W) uint8 with at least one pixel."""
    if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise DataError(f"image: expected uint8 of shape (3, H, W), got {image.dtype} of shape {tuple(image.shape)}")
    if 0 in image.shape:
        raise DataError(f"image: expected at least one pixel, got shape {tuple(image.shape)}")


def _resized(image: Tensor, size: tuple[int, int], method: ByteMethod) -> Tensor:
    """(3, H, W) uint8 on any device to (3, h, w) uint8, computed on the CPU."""
    pixels = _RESIZE[method](image.permute(1, 2, 0).cpu().numpy(), size)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(image.device)
