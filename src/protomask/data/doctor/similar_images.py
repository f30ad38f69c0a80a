"""Images that occur twice: the same file, or the same image resized, recompressed or slightly edited."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_FORMATS, to_rgb_array

_HASH_SIDE = 8
_THUMBNAIL_SIDE = 16
_MAX_DISTANCE = 10  # of 64 bits
_MIN_CORRELATION = 0.98
_MIN_CONTRAST = 2.0  # grey levels; the hash of a uniform image is noise
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Features that tell one image from another.

    Attributes:
        size: (H, W) as stored, EXIF orientation not applied.
        upright_size: (H, W) with EXIF orientation applied.
        orientation: EXIF orientation, 1 to 8; 1 where the file says nothing.
        digest: hash of the bytes of the file.
        bits: (64,) bool: whether brightness falls from each cell of an 8 x 9 grid to its right neighbour (a "difference
            hash").
        thumbnail: (768,) float32, 16 x 16 RGB pixels, mean 0 and length 1; zeros for a uniform image.

    """

    size: tuple[int, int]
    upright_size: tuple[int, int]
    orientation: int
    digest: bytes
    bits: NDArray[np.bool_]
    thumbnail: NDArray[np.float32]


def fingerprint(path: Path) -> Fingerprint:
    """Read an image once; a JPEG is decoded at a fraction of its size.

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError: the image cannot be read.

    """
    content = path.read_bytes()
    with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
        width, height = image.size
        stated = image.getexif().get(EXIF_ORIENTATION, 1)
        # Pillow itself turns what it reads from a TIFF.
        orientation = stated if stated in range(2, 9) and image.format != "TIFF" else 1
        image.draft("RGB", (8 * _THUMBNAIL_SIDE, 8 * _THUMBNAIL_SIDE))
        # Pillow would clip more than 8 bits.
        deep = image.mode[0] in "IF"
        shown = (Image.fromarray(to_rgb_array(image)) if deep else ImageOps.exif_transpose(image)).convert("RGB")
    cells = np.asarray(shown.convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX))
    small = shown.resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.BOX)
    thumbnail = np.asarray(small, dtype=np.float32).ravel()
    thumbnail = thumbnail - thumbnail.mean()
    even = float(thumbnail.std()) < _MIN_CONTRAST
    thumbnail = np.zeros_like(thumbnail) if even else thumbnail / np.linalg.norm(thumbnail)
    return Fingerprint(
        size=(height, width),
        upright_size=(width, height) if orientation >= 5 else (height, width),
        orientation=orientation,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        bits=(cells[:, :-1] > cells[:, 1:]).ravel(),
        thumbnail=thumbnail,
    )


def similar_pairs(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs (index into ``first``, index into ``second``) of images that look the same, identical files left out.

    Their hashes differ in at most 10 of 64 bits, and their thumbnails correlate by at least 0.98.
    """
    if not first or not second:
        return []
    pairs: list[tuple[int, int]] = []
    bits, thumbnails = _matrix(second, "bits"), _matrix(second, "thumbnail")
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS]
        # The product of vectors of +-1 is the number of equal bits minus the number of different ones.
        near = (_matrix(rows, "bits") * 2 - 1) @ (bits * 2 - 1).T >= _HASH_SIDE**2 - 2 * _MAX_DISTANCE
        candidates = near.nonzero()
        alike = (_matrix(rows, "thumbnail")[candidates[:, 0]] * thumbnails[candidates[:, 1]]).sum(dim=1)
        for row, column in candidates[alike >= _MIN_CORRELATION].tolist():
            if rows[row].digest != second[column].digest:
                pairs.append((start + row, column))
    return pairs


def _matrix(fingerprints: Sequence[Fingerprint], name: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([getattr(item, name) for item in fingerprints]).astype(np.float32))
