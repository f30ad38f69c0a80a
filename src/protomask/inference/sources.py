"""What a prediction can start from: turning files, arrays and tensors into one kind of image, and finding the files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from protomask.errors import DataError
from protomask.structures.image import EXIF_ORIENTATION, IMAGE_SUFFIXES, to_rgb_array

ImageSource = str | Path | Image.Image | NDArray[np.uint8] | Tensor

_DIGITS = re.compile(r"(\d+)")


def read_image(source: ImageSource) -> Tensor:
    """The image as (3, H, W) uint8 RGB, 0..255, upright, contiguous and sharing no memory with ``source``.

    Args:
        source: one of

            * a path: any format Pillow reads, first frame of an animation. The EXIF orientation is applied.
            * a Pillow image of any mode. Its EXIF orientation is applied where it still carries one.
            * a NumPy array: (H, W, 3) uint8 RGB, or (H, W) uint8 grayscale. The order of the channels cannot be seen in
              the numbers: an array in BGR order (OpenCV's) gives wrong results, not an error.
            * a tensor: (3, H, W) uint8 RGB, on any device, where it stays.

    Raises:
        DataError: the file is missing, empty, broken or no image, or the array has another shape or dtype. The message
            names the file and the cause.
    """
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "Pillow image")
    if isinstance(source, (str, Path)):
        return _from_file(Path(source))
    raise DataError(
        f"image: expected a path, Pillow image, NumPy array or torch tensor, got {type(source).__module__}."
        f"{type(source).__qualname__}"
    )


def _from_tensor(image: Tensor) -> Tensor:
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise DataError(
            f"image tensor: expected uint8 of shape (3, H, W) in RGB order, got {image.dtype} of shape "
            f"{tuple(image.shape)}{_hint(str(image.dtype), tuple(image.shape), channels_at=0)}"
        )
    return image.clone(memory_format=torch.contiguous_format)


def _from_array(image: NDArray[np.uint8]) -> Tensor:
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or image.size == 0:
        raise DataError(
            f"image array: expected uint8 of shape (H, W, 3) in RGB order, or (H, W) grayscale, got {image.dtype} of "
            f"shape {image.shape}{_hint(str(image.dtype), image.shape, channels_at=2)}"
        )
    if image.ndim == 2:
        image = np.broadcast_to(image[:, :, None], (*image.shape, 3))
    return _to_channels_first(image)


def _hint(dtype: str, shape: tuple[int, ...], *, channels_at: int) -> str:
    if "float" in dtype:
        return "; a float image in 0..1 becomes uint8 by (255 * image).round()"
    if len(shape) == 3 and channels_at == 2 and shape[0] == 3:
        return "; an array has its channels last: image.transpose(1, 2, 0)"
    if len(shape) == 3 and channels_at == 0 and shape[2] == 3:
        return "; a tensor has its channels first: image.permute(2, 0, 1)"
    if len(shape) == 3 and shape[channels_at] == 4:
        return "; drop or composite the alpha channel first, or pass a Pillow image"
    return ""


def _from_file(path: Path) -> Tensor:
    try:
        if path.is_dir():
            raise DataError(f"{path}: expected an image file, got a folder")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        with Image.open(path) as image:
            return _decode(image, str(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or in a format Pillow cannot read") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: too large to be opened safely ({error}); if the file can be trusted, raise "
            f"PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _decode(image: Image.Image, name: str) -> Tensor:
    try:
        pixels = to_rgb_array(image)
        # Asked after decoding: the TIFF reader turns the image itself while it loads, and then drops the tag.
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{name}: {image.width}x{image.height} pixels do not fit into memory") from error
    except Image.DecompressionBombError:
        raise
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented: OSError, SyntaxError, struct.error, zlib.error...
        raise DataError(f"{name}: broken or truncated image: {error or type(error).__name__}") from error
    if pixels.size == 0:
        raise DataError(f"{name}: expected an image with pixels, got size {image.width}x{image.height}")
    return _to_channels_first(_upright(pixels, orientation))


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo EXIF orientation 1..8 (TIFF 6.0 section 8); (H, W, 3) in, a view out; unknown values mean upright."""
    if orientation in (2, 3):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4):
        pixels = pixels[::-1]
    if orientation in (7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (6, 7):
        pixels = pixels[::-1]
    return pixels.transpose(1, 0, 2) if orientation in (5, 6, 7, 8) else pixels


def _to_channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def iter_image_paths(inputs: Sequence[str | Path]) -> list[Path]:
    """The image files that ``inputs`` stand for, each once.

    * A file is taken as it is, whatever its ending.
    * A folder gives the images directly inside it, not those of its subfolders.
    * A glob (``photos/*.jpg``) gives the images that match; ``photos/**/*`` reaches into subfolders.

    Folders and globs give only files that end like an image (`IMAGE_SUFFIXES`, any case) and are not hidden, in natural
    order (``frame2`` before ``frame10``). The order of the inputs themselves is kept.

    Raises:
        DataError: an input gives no image; the message names it.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(given):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - Path.resolve() would merge linked files
    return list(found.values())


def _expand(given: str | Path) -> Iterator[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        candidates = list(path.iterdir())
        what = "folder without images directly inside it"
    elif path.exists():  # before globs: a name may contain brackets
        yield path
        return
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - knows absolute
        what = f"no image matches; {len(candidates)} other paths do"
    else:
        raise DataError(f"{given}: no such file or folder")
    images = [path for path in candidates if _looks_like_image(path)]
    if not images:
        raise DataError(f"{given}: {what} (endings looked for: {' '.join(sorted(IMAGE_SUFFIXES))})")
    yield from sorted(images, key=_natural_key)


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    parts = [[int(run) if run.isdecimal() else run for run in _DIGITS.split(part.casefold())] for part in path.parts]
    return parts, str(path)
