"""COCO panoptic: a JSON with the segments of each image, and a PNG for each whose colours are their numbers.

Segments of things are objects; those of stuff (sky, road) have no instances and are left out. A colour R, G, B is the
number R + 256 G + 65536 B; black belongs to no segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.formats.image_files import ImageFiles
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ObjectRecord,
    Reading,
    read_header,
    segmentations_of_numbers,
)
from protomask.data.recognition import panoptic_files
from protomask.errors import DataError
from protomask.images.pixels import IMAGE_FORMATS
from protomask.structures.coco_json import (
    CocoFile,
    Faults,
    read_categories,
    read_entries,
    read_images,
    shown,
    whole_number,
)

_Segments = dict[int, tuple[int, bool]]
"""Category id of each segment of an image by its number, and whether it is a crowd."""


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read COCO's panoptic format.

    Args:
        source: folder with the JSON files (in it, or in ``annotations/``), each with its PNGs in a folder of the same
            name beside it, and the images; or one JSON.
        reading: its class names are not used, the files have them.

    Raises:
        DataError: naming file and image.

    """
    files = panoptic_files(source)
    if not files:
        raise DataError(f"{source}: expected a JSON with segments_info, found none")
    splits: dict[str, list[ImageRecord]] = {}
    categories: tuple[Mapping[str, Any], ...] | None = None
    for split, path in files:
        file = CocoFile.read(path)
        things = _things(file)
        if categories is not None and [one["name"] for one in things] != [one["name"] for one in categories]:
            raise DataError(f"{path}: its classes differ from those of {files[0][1]}")
        categories = categories or things
        splits.setdefault(split, []).extend(_read_file(file, split, things, source, reading))
    return DatasetRecord(
        class_names=tuple(entry["name"] for entry in categories or ()), splits=splits, categories=categories or ()
    )


def _things(file: CocoFile) -> tuple[Mapping[str, Any], ...]:
    """Categories whose segments are objects, by their ids."""
    faults = Faults(file.path)
    entries = read_entries(file, "categories", faults)
    names = read_categories(entries, faults)
    if faults.found:
        raise faults.found[0]
    stuff = {whole_number(entry.get("id")) for _, entry in entries if entry.get("isthing") in (0, False)}
    parents = {whole_number(entry.get("id")): entry.get("supercategory") for _, entry in entries}
    things = [
        {"id": number, "name": name, **({"supercategory": parents[number]} if parents.get(number) else {})}
        for number, name in sorted(names.items())
        if number not in stuff
    ]
    if len({entry["name"] for entry in things}) != len(things):
        raise DataError(f"{file.path}: two categories of things have one name")
    return tuple(things)


def _read_file(
    file: CocoFile, split: str, things: tuple[Mapping[str, Any], ...], source: Path, reading: Reading
) -> list[ImageRecord]:
    faults = Faults(file.path)
    image_entries = read_entries(file, "images", faults)
    images = read_images(image_entries, faults)
    annotations = {
        image_id: entry
        for _, entry in read_entries(file, "annotations", faults)
        if (image_id := whole_number(entry.get("image_id"))) is not None
    }
    if faults.found:
        raise faults.found[0]
    entries = {whole_number(entry.get("id")): entry for _, entry in image_entries}
    root = file.path.parent.parent if file.path.parent.name == "annotations" else file.path.parent
    root = source if source.is_dir() and root.is_relative_to(source) else root
    year = file.path.stem.removeprefix("panoptic_")
    places = [root / "images" / split, root / "images" / year, root / year, root / split, root / "images", root]
    finder = ImageFiles([reading.image_dir] if reading.image_dir else [one for one in places if one.is_dir()], reading)
    maps = ImageFiles([file.path.parent / file.path.stem, file.path.parent, root], reading)
    label_of = {entry["id"]: label for label, entry in enumerate(things)}
    known = set(read_categories(read_entries(file, "categories", faults), faults))
    records = []
    for image_id, image in reading.each([*images.items()]):
        where = f"{file.path}: image {image_id}"
        path = finder.find(image.file_name, where)
        annotation = annotations.get(image_id)
        if annotation is None:
            reading.remarks.add("images without segments left out", where)
        elif path is not None:
            segments = _segments(where, annotation, known)
            png = maps.find(_map_name(where, annotation), where)
            if png is not None:
                record = _read_image(where, path, png, segments, label_of, entries[image_id], reading)
                records.append(record)
    return records


def _map_name(where: str, annotation: Mapping[str, Any]) -> str:
    name = annotation.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: expected the file_name of its PNG, got {shown(name)}")
    return name


def _segments(where: str, annotation: Mapping[str, Any], known: set[int]) -> _Segments:
    infos = annotation.get("segments_info")
    if not isinstance(infos, list):
        raise DataError(f"{where}: segments_info: expected a list, got {shown(infos)}")
    found: _Segments = {}
    for index, info in enumerate(infos):
        number, category = (
            whole_number(info.get(key)) if isinstance(info, Mapping) else None for key in ("id", "category_id")
        )
        if number is None or category not in known:
            raise DataError(
                f"{where}: segments_info[{index}]: expected an id and a known category_id, got {shown(info)}"
            )
        found[number] = (category, info.get("iscrowd") in (1, True))
    return found


def _read_image(
    where: str,
    path: Path,
    png: Path,
    segments: _Segments,
    label_of: Mapping[int, int],
    entry: Mapping[str, Any],
    reading: Reading,
) -> ImageRecord:
    header = read_header(path, where)
    numbers = _read_numbers(png, path, (header.size, header.upright_size))
    size = (numbers.shape[0], numbers.shape[1])
    stuff = [number for number, (category, _) in segments.items() if category not in label_of]
    if stuff:
        reading.remarks.add("segments of stuff left out, which has no instances", where, len(stuff))
    seen = set(np.unique(numbers).tolist())
    unknown = seen - set(segments) - {0}
    if unknown:
        reading.remarks.add("colours that segments_info does not list left out", png, len(unknown))
    lost = set(segments) - seen
    if lost:
        reading.remarks.add("segments without a pixel left out", where, len(lost))
    objects = [
        ObjectRecord(label=label_of[segments[number][0]], segmentation=segmentation, is_crowd=segments[number][1])
        for number, _, segmentation in segmentations_of_numbers(numbers, without=[0, *stuff, *unknown])
    ]
    # Not the whole entry: the size is that of the file.
    return ImageRecord(
        source=path,
        name=str(entry["file_name"]).replace("\\", "/"),
        size=size,
        objects=objects,
        is_upright=size != header.size,
        coco=entry,
    )


def _read_numbers(png: Path, image: Path, sizes: tuple[tuple[int, int], tuple[int, int]]) -> NDArray[np.int64]:
    """Numbers (H, W) of the segments; a PNG that differs in size from its image is not decoded."""
    height, width = read_header(png, png).size
    if (height, width) not in sizes:
        raise DataError(f"{png}: {width}x{height} px, its image {image} is {sizes[0][1]}x{sizes[0][0]} px")
    try:
        with Image.open(png, formats=IMAGE_FORMATS) as opened:
            if opened.mode not in ("RGB", "RGBA"):
                raise ValueError(f"expected colours, got mode {opened.mode}")
            pixels = np.asarray(opened.convert("RGB"))
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{png}: cannot be read as an image: {str(error) or type(error).__name__}") from error
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    numbers: NDArray[np.int64] = red + (green << 8) + (blue << 16)
    return numbers
