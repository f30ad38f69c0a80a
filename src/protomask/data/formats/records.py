"""What every format is read into and written from: images with objects, by split, and remarks on what was lost."""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from protomask.data.coco.schema import BOX_SOURCE
from protomask.data.coco.segmentation import encode_segmentation
from protomask.data.folders import read_text
from protomask.errors import DataError
from protomask.images.pixels import EXIF_ORIENTATION, IMAGE_FORMATS
from protomask.masks.rle import Rle, decode_rle, encode_runs, rle_area
from protomask.masks.runs import unite_runs
from protomask.masks.segmentations import Segmentation, segmentation_of_mask

T = TypeVar("T")
_JPEG_QUALITY = 95
_WINDOW_SHARE, _WINDOW_PIXELS = 64, 1 << 18  # of a map: times its pixels, and more, that its objects may span together
# Files with one class name per line, as YOLO, LabelMe and their converters call them.
_NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt")
OF_BOX = {"mask_source": BOX_SOURCE}
"""What the COCO entry of an object says whose mask is its box, because nothing else of it is known."""
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


Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what is being done."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reader is asked for, and where it says what it meets.

    Attributes:
        class_names: names in label order, for sources that have numbers only.
        image_dir: folder of the images, if they are not near the annotation file.
        skip_missing: leave out images that are listed and not there.
        keep_boxes: keep objects that have only a box, with it as their mask and `OF_BOX`.
        remarks: gets what is left out or guessed.
        progress: called after each image.

    """

    class_names: Sequence[str] | None = None
    image_dir: Path | None = None
    skip_missing: bool = False
    keep_boxes: bool = False
    remarks: Remarks = field(default_factory=Remarks)
    progress: Progress = lambda done, total, text: None

    def each(self, items: Sequence[T]) -> Iterator[T]:
        """The items, with progress after each."""
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(done, len(items), "read")

    def kept_box(self, where: str | Path) -> None:
        """Say that an object has only its box."""
        self.remarks.add("objects without an outline kept, with their boxes as masks", where)

    def missing(self, where: str | Path, reason: str) -> None:
        """Leave an image out that is not there.

        Raises:
            DataError: missing images are not to be skipped.

        """
        if not self.skip_missing:
            raise DataError(f"{where}: {reason}; skip_missing leaves such images out")
        self.remarks.add("listed images that are not there left out", f"{where}: {reason}")


Reader = Callable[[Path, Reading], DatasetRecord]
Writer = Callable[[DatasetRecord, Path, "ImageWriter", Remarks], None]


# Reading


def outline_of_box(x: float, y: float, width: float, height: float) -> list[float]:
    """A box as a polygon."""
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Names in ``classes.txt``, ``labels.txt`` or ``class_names.txt``, one a line, less those of the background."""
    for file in (folder / name for name in _NAME_FILES):
        if file.is_file():
            names = tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
            if len(set(names)) != len(names):
                raise DataError(f"{file}: a class name occurs twice")
            return tuple(name for name in names if name not in _NO_CLASSES)
    return None


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
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_FORMATS) as opened:
            size = (opened.height, opened.width)
            orientation = opened.getexif().get(EXIF_ORIENTATION, 1)
            # Pillow itself turns what it reads from a TIFF.
            is_turned = orientation in range(2, 9) and opened.format != "TIFF"
            upright = size[::-1] if is_turned and orientation >= 5 else size
            return ImageHeader(size, upright, is_turned, opened.format or "")
    except FileNotFoundError as error:
        raise DataError(f"{name}: the image does not exist") from error
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{name}: cannot be read as an image: {str(error) or type(error).__name__}") from error


def segmentations_of_numbers(
    numbers: NDArray[np.int64], *, without: Sequence[int] = (0,)
) -> Iterator[tuple[int, NDArray[np.int64], Segmentation]]:
    """The objects of a map of object numbers: number, flat indices of the pixels, and segmentation, by number.

    Time follows from the size of the map, however many numbers it has.

    Args:
        numbers: (H, W).
        without: numbers that stand for no object.

    """
    size = height, width = numbers.shape
    pixels = np.flatnonzero(~np.isin(numbers, without))
    values = numbers.ravel()[pixels]
    pixels = pixels[np.argsort(values, kind="stable")]
    found, counts = np.unique(values, return_counts=True)
    left_over = _WINDOW_SHARE * numbers.size + _WINDOW_PIXELS
    for number, own in zip(found.tolist(), np.split(pixels, np.cumsum(counts)[:-1]), strict=False):
        rows, columns = np.divmod(own, width)
        top, left = int(rows.min()), int(columns.min())
        window_size = (int(rows.max()) - top + 1, int(columns.max()) - left + 1)
        left_over -= window_size[0] * window_size[1]
        if left_over < 0:  # noise, whose numbers are everywhere
            places = np.sort(columns * height + rows)
            runs = unite_runs([np.stack([places, places + 1], axis=1)])
            yield number, own, encode_runs([runs], size)[0]
            continue
        window = np.zeros(window_size, dtype=np.bool_)
        window[rows - top, columns - left] = True
        yield number, own, segmentation_of_mask(window, corner=(top, left), size=size)


def read_index_map(
    file: Path, palette: NDArray[np.uint8] | None = None, *, image: Path, sizes: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """Numbers (H, W) in a PNG: palette indices or gray values, 8 or 16 bits.

    Args:
        file: the PNG.
        palette: (256, 3) colours that stand for their indices where the file is stored in RGB.
        image: the image it belongs to, for messages.
        sizes: (H, W) that it may have; another one is not even decoded.

    Raises: DataError if it is not such an image.

    """
    own_size = read_header(file, file).size
    if own_size not in sizes:
        height, width = own_size
        raise DataError(f"{file}: {width}x{height} px, its image {image} is {sizes[0][1]}x{sizes[0][0]} px")
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as opened:
            pixels = np.asarray(opened.convert("RGB") if opened.mode == "RGBA" else opened)
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{file}: cannot be read as an image: {str(error) or type(error).__name__}") from error
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
    code = encode_segmentation(found.segmentation, image.size)
    if code is None:
        raise DataError(f"{image.name}: an outline is not finite, or longer than any in an image of this size")
    return code


def solid_objects(image: ImageRecord, remarks: Remarks, *, kind: str) -> list[tuple[ObjectRecord, Rle]]:
    """Objects of an image that a format can hold, with their codes: those that have a pixel and are not crowds."""
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

    Files that carry an EXIF orientation are written again without it, turned if their objects are upright: programs do
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
            self._remarks.add("images with an EXIF orientation encoded again without it", image.name)
            _write_unturned(image.source, target, header, turn=image.is_upright)
        elif self._link:
            try:
                # Of the file itself: a link to a link would be relative to another folder.
                os.link(image.source.resolve(), target)
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
    except Exception as error:
        raise DataError(f"{source}: cannot be read as an image: {str(error) or type(error).__name__}") from error
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
