"""What every format is read into and written from: images with objects, by split, and remarks on what was lost."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from protomask.data.coco.segmentation import encode_segmentation
from protomask.errors import DataError
from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_SUFFIXES
from protomask.masks.polygons import mask_to_polygons
from protomask.masks.rle import Rle, decode_rle, encode_rle, rle_area

Segmentation = list[list[float]] | Rle
"""As COCO has it: polygons [x1, y1, x2, y2, ...] in px, each part of one object, or a run-length code."""

_JPEG_QUALITY = 95
_SPLITS = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# Files with one class name per line, as YOLO, LabelMe and their converters call them.
_NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt")
_NO_CLASSES = ("__ignore__", "_background_", "background")


@dataclass(frozen=True, kw_only=True)
class ObjectRecord:
    """One object: ``label`` 0-based, ``segmentation`` in px of the image, ``coco`` the COCO entry it came from."""

    label: int
    segmentation: Segmentation
    is_crowd: bool = False
    coco: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image and its objects.

    Attributes:
        source: the image file, or its bytes where an annotation file holds them.
        name: path in the source with forward slashes; of images to be written, the unique file name.
        size: (H, W) of the frame of the objects.
        objects: in the order of the source.
        is_upright: the frame is the one that EXIF orientation leads to, not that of the stored pixels.
        coco: the COCO entry it came from.

    """

    source: Path | bytes
    name: str
    size: tuple[int, int]
    objects: Sequence[ObjectRecord]
    is_upright: bool = False
    coco: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return PurePosixPath(self.name).stem


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A data set: class names in label order, and images by split (``train``, ``val``, ``test`` or any other name).

    ``categories`` are the COCO entries of the classes, in the same order, where the source has them.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[ImageRecord]]
    categories: tuple[Mapping[str, Any], ...] = ()


class Remarks:
    """What a conversion could not carry over, or had to guess: how many of each kind, and where the first is."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, what: str, where: str | Path, count: int = 1) -> None:
        """Count ``what``, a phrase that follows a number: "crowd regions left out"."""
        before, first = self._found.get(what, (0, str(where)))
        self._found[what] = (before + count, first)

    def lines(self) -> tuple[str, ...]:
        """One line per kind, in the order they came up."""
        return tuple(f"{count} {what} (first: {first})" for what, (count, first) in self._found.items())


Reader = Callable[[Path, Sequence[str] | None, Remarks], DatasetRecord]
Writer = Callable[[DatasetRecord, Path, "ImageWriter", Remarks], None]


# Reading


def split_name(text: str) -> str | None:
    """``train``, ``val`` or ``test`` where a folder or file is called so in some usual way, else None."""
    return _SPLITS.get(re.sub(r"^instances_|\d+$", "", text.lower()))


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders in ``folder`` that are called like splits; the folder itself as ``train`` where there is none."""
    found = {split_name(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    named: dict[str, Path] = {split: found[split] for split in ("train", "val", "test") if split in found}
    return named or {"train": folder}


def paired_folders(source: Path, first: str, second: str) -> dict[str, tuple[Path, Path]]:
    """Two folders per split: ``first/train`` and ``second/train``, or ``train/first`` and ``train/second``."""
    if (source / first).is_dir():
        parts = split_folders(source / first)
        return {split: (part, source / second / part.relative_to(source / first)) for split, part in parts.items()}
    return {
        split: (part / first, part / second) for split, part in split_folders(source).items() if (part / first).is_dir()
    }


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and below, sorted; hidden ones are not looked at."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Names in ``classes.txt``, ``labels.txt`` or ``class_names.txt``, one a line, less those of the background."""
    for file in (folder / name for name in _NAME_FILES):
        if file.is_file():
            names = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
            if len(set(names)) != len(names):
                raise DataError(f"{file}: a class name occurs twice")
            return tuple(name for name in names if name not in _NO_CLASSES)
    return None


def read_text(file: Path) -> str:
    """Text of a UTF-8 file.

    Raises: DataError where there is none.

    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from error


@dataclass(frozen=True)
class ImageHeader:
    """Sizes (H, W) of an image file: as stored, and as EXIF orientation turns it."""

    size: tuple[int, int]
    upright_size: tuple[int, int]
    is_turned: bool
    format: str


def read_header(source: Path | bytes, name: str | Path) -> ImageHeader:
    """Size and orientation of an image, without decoding its pixels.

    Raises: DataError if it cannot be read; ``name`` is what the message calls it.

    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            size = (opened.height, opened.width)
            orientation = opened.getexif().get(EXIF_ORIENTATION, 1)
            # Pillow itself turns what it reads from a TIFF.
            is_turned = orientation in range(2, 9) and opened.format != "TIFF"
            upright = size[::-1] if is_turned and orientation >= 5 else size
            return ImageHeader(size, upright, is_turned, opened.format or "")
    except FileNotFoundError as error:
        raise DataError(f"{name}: the image does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: cannot be read as an image: {error}") from error


def segmentation_of_mask(mask: NDArray[np.bool_]) -> Segmentation:
    """Outlines along pixel edges where they say all, a run-length code where the mask (H, W) bool has holes.

    Both give the same pixels when they are read as COCO.
    """
    parts = mask_to_polygons(mask)
    if any(part.holes for part in parts):
        return encode_rle(mask[None])[0]
    return [part.exterior.astype(float).ravel().tolist() for part in parts]


def read_index_map(file: Path, palette: NDArray[np.uint8] | None = None) -> NDArray[np.int64]:
    """Numbers (H, W) in a PNG: palette indices or gray values, 8 or 16 bits.

    Args:
        file: the PNG.
        palette: (256, 3) colours that stand for their indices where the file is stored in RGB.

    Raises: DataError if it is no such image.

    """
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB") if opened.mode == "RGBA" else opened
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: cannot be read as an image: {error}") from error
    if pixels.ndim == 2 and pixels.dtype.kind in "bui":
        return pixels.astype(np.int64)
    if pixels.ndim == 3 and palette is not None:
        weights = np.array([1 << 16, 1 << 8, 1])
        index_of = {int(code): index for index, code in reversed(list(enumerate(palette @ weights)))}
        codes, inverse = np.unique(pixels[:, :, :3] @ weights, return_inverse=True)
        unknown = [int(code) for code in codes if int(code) not in index_of]
        if unknown:
            raise DataError(f"{file}: the colour #{unknown[0]:06x} is not in the palette of Pascal VOC")
        return np.array([index_of[int(code)] for code in codes])[inverse].reshape(pixels.shape[:2])
    if pixels.ndim == 3 and (pixels[:, :, :1] == pixels).all():
        return pixels[:, :, 0].astype(np.int64)
    raise DataError(f"{file}: expected a PNG of numbers (gray or palette), got mode {opened.mode}")


# Writing


def rle_of(found: ObjectRecord, image: ImageRecord) -> Rle:
    """Run-length code of an object in the frame of its image."""
    code = encode_segmentation(found.segmentation, image.size)  # type: ignore[arg-type]  # an Rle is such a dict
    assert code is not None, "readers let no such coordinates through"
    return code


def solid_objects(image: ImageRecord, remarks: Remarks, *, kind: str) -> list[tuple[ObjectRecord, Rle]]:
    """Objects of an image that a format can hold, with their codes: those that have a pixel and are no crowd."""
    kept = []
    for found in image.objects:
        code = rle_of(found, image)
        if found.is_crowd:
            remarks.add(f"crowd regions left out, {kind} has none", image.name)
        elif rle_area(code):
            kept.append((found, code))
        else:
            remarks.add("objects that cover no pixel left out", image.name)
    return kept


def paint_numbers(codes: Sequence[Rle], image: ImageRecord, remarks: Remarks) -> NDArray[np.int64]:
    """Numbers (H, W) of the objects of an image, from 1, 0 for none; of objects that overlap the smaller is seen."""
    numbers = np.zeros(image.size, dtype=np.int64)
    areas = [rle_area(code) for code in codes]
    for index in sorted(range(len(codes)), key=lambda index: -areas[index]):
        numbers[decode_rle(codes[index])] = index + 1
    seen = np.bincount(numbers.ravel(), minlength=len(codes) + 1)[1:]
    for area, left in zip(areas, seen.tolist(), strict=True):
        if left == 0:
            remarks.add("objects lost, wholly covered by others: a pixel has one object", image.name)
        elif left < area:
            remarks.add("objects lost pixels to smaller ones that overlap them: a pixel has one object", image.name)
    return numbers


class ImageWriter:
    """Puts images where a format wants them, as copies or as hard links.

    Files that carry an EXIF orientation are written anew without it, turned if their objects are upright: programs do
    not agree on whether annotations follow the tag.
    """

    def __init__(self, *, link: bool, remarks: Remarks, written: Callable[[], None]) -> None:
        self._link = link
        self._remarks = remarks
        self._written = written  # called after each image

    def write(self, image: ImageRecord, folder: Path) -> Path:
        """The file made: ``folder`` / the name of the image."""
        target = folder / image.name
        if isinstance(image.source, bytes):
            target.write_bytes(image.source)
        elif (header := read_header(image.source, image.source)).is_turned:
            self._remarks.add("images with an EXIF orientation encoded anew without it", image.name)
            _write_unturned(image.source, target, header, turn=image.is_upright)
        elif self._link:
            try:
                os.link(image.source, target)
            except OSError as error:
                raise DataError(
                    f"{image.source}: cannot be linked to {target}: {error.strerror}; copy the images instead"
                ) from error
        else:
            shutil.copyfile(image.source, target)
        self._written()
        return target


def _write_unturned(source: Path, target: Path, header: ImageHeader, *, turn: bool) -> None:
    try:
        with Image.open(source) as opened:
            opened.load()
            pixels = ImageOps.exif_transpose(opened) if turn else opened.copy()
            profile = opened.info.get("icc_profile")
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{source}: cannot be read as an image: {error}") from error
    # Phones write several pictures into one file, which Pillow calls MPO.
    kind = "JPEG" if header.format == "MPO" else header.format
    pixels.save(target, format=kind, quality=_JPEG_QUALITY, exif=b"", icc_profile=profile)


def with_unique_names(dataset: DatasetRecord) -> DatasetRecord:
    """The same data set with flat file names, none of which differ by their ending or by case alone.

    A name that occurs once stays. Others get the folders they lie in before them, then a number.
    """
    images = [image for split in dataset.splits.values() for image in split]
    stems = [PurePosixPath(image.name).stem.casefold() for image in images]
    often = {stem for stem, count in Counter(stems).items() if count > 1}
    taken = set(stems) - often
    names: dict[int, str] = {}
    for image, stem in zip(images, stems, strict=True):
        path = PurePosixPath(image.name)
        name = path.name
        if stem in often:
            flat = "_".join(part for part in path.parts if part not in ("..", "/"))
            name, number = flat, 1
            while PurePosixPath(name).stem.casefold() in taken:
                number += 1
                name = f"{PurePosixPath(flat).stem}-{number}{path.suffix}"
        taken.add(PurePosixPath(name).stem.casefold())
        names[id(image)] = name
    splits = {
        split: [replace(image, name=names[id(image)]) for image in images] for split, images in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def write_class_names(folder: Path, names: Iterable[str]) -> None:
    """``classes.txt``: one name a line."""
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
