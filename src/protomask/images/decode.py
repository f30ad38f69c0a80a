"""Any kind of image as one (H, W, 3) uint8 RGB array."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from protomask.errors import DataError
from protomask.images.fetch import fetch_url, is_url
from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_FORMATS, to_rgb_array

Pixels = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, 0..255, upright."""
if TYPE_CHECKING:
    from torch import Tensor

    ImageSource = str | Path | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8] | Tensor
    """What `read_image` takes."""


def read_image(source: ImageSource) -> Pixels:
    """The image as (H, W, 3) uint8 RGB, 0..255, upright, contiguous and sharing no memory with ``source``.

    Args:
        source: one of

            * a path: any common format that Pillow reads, first frame of an animation. The EXIF orientation is applied.
            * an address that begins with http:// or https://, see `protomask.images.fetch.fetch_url`.
            * the bytes of an image file, or a binary file object, which is read from where it stands.
            * a Pillow image of any mode. Its EXIF orientation is applied where it still carries one.
            * a NumPy array: (H, W, 3) uint8 RGB, or (H, W) or (H, W, 1) uint8 grayscale. The order of the channels
              cannot be seen in the numbers: an array in BGR order (OpenCV's) gives wrong results, not an error.
            * a PyTorch tensor: (3, H, W) uint8 RGB, on any device.

    Raises:
        DataError: the file is missing, empty, broken or no image, or the array has another shape or dtype. The message
            names the file and the cause.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "Pillow image")
    if isinstance(source, str) and is_url(source):
        return _open(BytesIO(fetch_url(source)), source)
    if isinstance(source, str | Path):
        return _from_path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), "image bytes")
    if _is_tensor(source):
        return _from_tensor(cast("Tensor", source))
    if hasattr(source, "read"):
        return _from_file_object(cast(BinaryIO, source))
    raise DataError(
        "image: expected a path, URL, bytes, file object, Pillow image, NumPy array or PyTorch tensor, got "
        f"{type(source).__module__}.{type(source).__qualname__}"
    )


def _is_tensor(source: object) -> bool:
    """Whether this is a PyTorch tensor; asked without importing PyTorch."""
    return any(kind.__module__ == "torch" and kind.__qualname__ == "Tensor" for kind in type(source).__mro__)


def _from_tensor(image: Tensor) -> Pixels:
    shape = tuple(image.shape)
    if str(image.dtype) != "torch.uint8" or len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise DataError(
            f"image tensor: expected uint8 of shape (3, H, W) in RGB order, got {image.dtype} of shape {shape}"
            f"{_hint(str(image.dtype), shape, channels_at=0)}"
        )
    return np.array(image.detach().cpu().numpy().transpose(1, 2, 0), order="C")


def _from_array(image: NDArray[np.uint8]) -> Pixels:
    is_gray = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if image.dtype != np.uint8 or not (is_gray or (image.ndim == 3 and image.shape[2] == 3)) or image.size == 0:
        raise DataError(
            f"image array: expected uint8 of shape (H, W, 3) in RGB order, or (H, W) grayscale, got {image.dtype} of "
            f"shape {image.shape}{_hint(str(image.dtype), image.shape, channels_at=2)}"
        )
    if is_gray:
        image = np.broadcast_to(image.reshape(*image.shape[:2], 1), (*image.shape[:2], 3))
    return np.array(image, order="C")


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


def _from_path(path: Path) -> Pixels:
    try:
        if path.is_dir():
            raise DataError(f"{path}: expected an image file, got a folder")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise DataError(f"{path}: cannot be read: {error}") from error
    return _open(path, str(path))


def _from_file_object(file: BinaryIO) -> Pixels:
    name = str(getattr(file, "name", "image file"))
    content = file.read()
    if not isinstance(content, bytes):
        raise DataError(f"{name}: expected a file opened in binary mode, got one that reads {type(content).__name__}")
    return _from_bytes(content, name)


def _from_bytes(content: bytes, name: str) -> Pixels:
    if not content:
        raise DataError(f"{name}: expected the bytes of an image file, got none")
    return _open(BytesIO(content), name)


def _open(file: Path | BytesIO, name: str) -> Pixels:
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            return _decode(image, name)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: not an image, or in a format that is not read ({', '.join(IMAGE_FORMATS)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name}: too large to be opened safely ({error}); if the file can be trusted, raise "
            f"PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error}") from error
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> DataError:
    # What a damaged file makes a decoder raise is not documented: OSError, SyntaxError, struct.error, zlib.error...
    return DataError(f"{name}: broken or truncated image: {error or type(error).__name__}")


def _decode(image: Image.Image, name: str) -> Pixels:
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
        raise _broken(name, error) from error
    if pixels.size == 0:
        raise DataError(f"{name}: expected an image with pixels, got size {image.width}x{image.height}")
    return np.ascontiguousarray(upright(pixels, orientation))


def upright(pixels: Pixels, orientation: int) -> Pixels:
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
