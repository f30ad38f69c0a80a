"""Folders of mask PNGs, in two layouts.

* ``IMAGE/images/NAME.png`` and ``IMAGE/masks/*.png``: a folder per image with one binary PNG per object, as the nuclei
  of the Data Science Bowl 2018 have them. It can say everything: overlaps, holes, parts, any number of objects.
* ``images/NAME.jpg`` and ``masks/NAME.png``: one label map per image, whose pixels are object numbers, 0 for none.

With several classes, ``masks`` has a folder per class. Pixels are pixels: no outline is drawn or traced, so all readers
agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.folders import list_images, paired_folders, split_folders
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Reading,
    Remarks,
    paint_numbers,
    read_class_names,
    read_header,
    read_index_map,
    segmentations_of_numbers,
    solid_objects,
    write_class_names,
)
from protomask.data.recognition import folders_of_masks
from protomask.errors import DataError
from protomask.masks.rle import decode_rle
from protomask.masks.segmentations import Segmentation, segmentation_of_mask

DEFAULT_CLASS = "object"
_MASK_ENDINGS = ("", "_mask", "_masks")
# One image: where it lies, and its mask files with the class that their folder names.
_Described = tuple[Path, list[tuple[str | None, Path]]]


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read mask PNGs of either layout.

    A pixel of a binary PNG belongs to the object if it is brighter than half of the brightest. Images without a
    ``masks`` folder or label map count as not annotated and are left out; one whose folder or map is empty has no
    objects.

    Args:
        source: folder; ``train``, ``val``, ``test`` in it (or in ``images`` and ``masks``) are splits.
        reading: ``class_names`` has the only class where there are no class folders and no ``classes.txt``.

    Raises:
        DataError: an image is missing, or a PNG is not of its image's size.

    """
    folders = {split: list(folders_of_masks(folder)) for split, folder in split_folders(source).items()}
    is_binary = any(folders.values())
    described: dict[str, list[_Described]]
    if is_binary:
        described = {split: _describe_folders(paths, reading) for split, paths in folders.items()}
    else:
        pairs = paired_folders(source, "images", "masks")
        described = {split: list(_describe_pair(*pair, reading)) for split, pair in pairs.items()}
    if not any(described.values()):
        raise DataError(
            f"{source}: expected IMAGE/images and IMAGE/masks, or images/ and masks/ with a label map per image"
        )
    used = {name: file for images in described.values() for _, masks in images for name, file in masks}
    names = _class_names(source, reading.class_names, used, reading.remarks)
    splits = {
        split: [
            _read_image(image, masks, names, source, reading.remarks, is_binary=is_binary)
            for image, masks in reading.each(images)
        ]
        for split, images in described.items()
    }
    return DatasetRecord(class_names=names, splits=splits)


def _class_names(
    source: Path, given: Sequence[str] | None, used: dict[str | None, Path], remarks: Remarks
) -> tuple[str, ...]:
    """Names in label order, those of ``classes.txt`` first; ``used`` is a mask file of each class folder."""
    listed = read_class_names(source)
    if None not in used:
        listed = listed or ()
        return (*listed, *sorted({name for name in used if name is not None} - set(listed)))
    if len(used) > 1:
        raise DataError(f"{used[None]}: expected it in a folder of its class, as other masks are")
    if listed is None and given is None:
        remarks.add(f"data set without class names: its one class is called {DEFAULT_CLASS!r}", source)
    names = tuple(listed or given or (DEFAULT_CLASS,))
    if len(names) != 1:
        raise DataError(f"{source}: {len(names)} class names, but masks/ has no folder per class: expected one name")
    return names


def _describe_folders(folders: Sequence[Path], reading: Reading) -> list[_Described]:
    described = []
    for folder in folders:
        images = list_images(folder / "images")
        if images:
            described.append((images[0], _masks_below(folder / "masks")))
        else:
            reading.missing(folder, "expected an image in images/, found none")
    return described


def _masks_below(folder: Path) -> list[tuple[str | None, Path]]:
    return [(None if file.parent == folder else file.parent.name, file) for file in list_images(folder)]


def _describe_pair(images: Path, masks: Path, reading: Reading) -> Iterator[_Described]:
    if not masks.is_dir():
        raise DataError(f"{images}: expected label maps in {masks}, which does not exist")
    of_stem: dict[str, list[tuple[str | None, Path]]] = {}
    for name, file in _masks_below(masks):
        of_stem.setdefault(file.stem, []).append((name, file))
    for image in list_images(images):
        own = next((of_stem.pop(key) for end in _MASK_ENDINGS if (key := image.stem + end) in of_stem), None)
        if own is None:
            reading.remarks.add("images without a label map left out", image)
        else:
            yield image, own
    for name, found in of_stem.items():
        reading.missing(found[0][1], f"no image {name}.* in {images} ({len(of_stem)} label maps have none)")


def _read_image(
    image: Path,
    masks: Sequence[tuple[str | None, Path]],
    names: Sequence[str],
    root: Path,
    remarks: Remarks,
    *,
    is_binary: bool,
) -> ImageRecord:
    header = read_header(image, image)
    size, objects = header.size, []
    for name, file in masks:
        if file.suffix.lower() in (".jpg", ".jpeg"):
            raise DataError(f"{file}: a JPEG cannot hold a mask, its compression changes the pixels: expected a PNG")
        numbers = read_index_map(file, image=image, sizes=(header.size, header.upright_size))
        size = header.size if numbers.shape == header.size else header.upright_size
        label = 0 if name is None else names.index(name)
        for segmentation in _binary(numbers) if is_binary else _numbered(numbers, file, remarks):
            objects.append(ObjectRecord(label=label, segmentation=segmentation))
        if is_binary and not numbers.any():
            remarks.add("masks without a pixel left out", file)
    return ImageRecord(
        source=image,
        name=image.relative_to(root).as_posix(),
        size=size,
        objects=objects,
        is_upright=size != header.size,
    )


def _binary(numbers: NDArray[np.int64]) -> Iterator[Segmentation]:
    if numbers.any():
        yield segmentation_of_mask(numbers * 2 > numbers.max())


def _numbered(numbers: NDArray[np.int64], file: Path, remarks: Remarks) -> Iterator[Segmentation]:
    found = [(number, segmentation) for number, _, segmentation in segmentations_of_numbers(numbers)]
    if [number for number, _ in found] == [255]:
        remarks.add("label maps whose one number is 255 (only foreground?) read as one object each", file)
    yield from (segmentation for _, segmentation in found)


def write(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write ``SPLIT/IMAGE/images/`` and ``SPLIT/IMAGE/masks/`` with a PNG (0, 255) per object, ``classes.txt``."""
    folders = _class_folders(dataset)
    for split, records in dataset.splits.items():
        for image in records:
            place = folder / split / image.stem
            (place / "images").mkdir(parents=True)
            (place / "masks").mkdir()
            images.write(image, place / "images")
            for number, (found, code) in enumerate(solid_objects(image, remarks, kind="a folder of masks"), start=1):
                target = place / "masks" / folders[found.label] / f"{number:04d}.png"
                target.parent.mkdir(exist_ok=True)
                Image.fromarray(decode_rle(code).astype(np.uint8) * 255).save(target)
    write_class_names(folder, dataset.class_names)


def write_label_maps(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write ``images/SPLIT/`` and ``masks/SPLIT/`` with one label map per image (8 bits, 16 if needed).

    Where objects overlap the smaller one is seen. Several classes have a map each, so that only objects of one class
    can hide each other.
    """
    folders = _class_folders(dataset)
    for split, records in dataset.splits.items():
        (folder / "images" / split).mkdir(parents=True)
        for image in records:
            images.write(image, folder / "images" / split)
            objects = solid_objects(image, remarks, kind="a label map")
            # An image without objects has a map that says so.
            for label in sorted({found.label for found, _ in objects}) or [0]:
                own = [code for found, code in objects if found.label == label]
                target = folder / "masks" / split / folders[label] / f"{image.stem}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                numbers = paint_numbers(own, image, remarks)
                Image.fromarray(numbers.astype(np.uint8 if len(own) < 256 else np.uint16)).save(target)
    write_class_names(folder, dataset.class_names)


def _class_folders(dataset: DatasetRecord) -> list[str]:
    """Folder of each class in ``masks``; none of its own for the only class."""
    if len(dataset.class_names) == 1:
        return [""]
    for name in dataset.class_names:
        if Path(name).name != name or name.startswith(".") or "\\" in name:
            raise DataError(f"class name {name!r}: cannot be a folder, which masks need; rename the class")
    return list(dataset.class_names)
