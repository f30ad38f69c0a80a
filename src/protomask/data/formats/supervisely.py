"""Supervisely: a project of data sets, each with ``img/`` and ``ann/``, a JSON for each image, and ``meta.json``.

Polygons with holes and bitmaps are read. Coordinates are taken as continuous px; a bitmap is exact.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.data.folders import split_name
from protomask.data.formats.image_files import ImageFiles
from protomask.data.formats.records import DatasetRecord, ImageRecord, ObjectRecord, Reading, read_header
from protomask.data.formats.shapes import (
    Part,
    max_patch_pixels,
    number,
    outline,
    rasterised,
    read_base64,
    read_patch,
    union,
)
from protomask.data.recognition import supervisely_folders
from protomask.errors import DataError
from protomask.masks.segmentations import Segmentation
from protomask.structures.coco_json import read_json_object, shown, whole_number

_WITH_AREA = ("polygon", "bitmap", "alpha_mask")
_SHAPES = ("any", *_WITH_AREA)
_BYTES_PER_PIXEL, _MORE_BYTES = 4, 1 << 16  # of the PNG in a bitmap, before it is decoded


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read a Supervisely project, or one of its data sets.

    Classes are in the order of ``meta.json``, those whose shape has no area only if they occur. Objects of one class
    that Supervisely has bound to each other (``instance``) are one object.

    Args:
        source: folder of the project; data sets called ``train``, ``val``, ``test`` are splits.
        reading: its class names are not used, the project has them.

    Raises:
        DataError: naming file and object.

    """
    folders = supervisely_folders(source)
    if not folders:
        raise DataError(f"{source}: expected folders with ann/ and img/, found none")
    contents = {
        folder: [(file, read_json_object(file, "size and objects")) for file in sorted((folder / "ann").glob("*.json"))]
        for folder in folders
    }
    names = _listed_classes(source)
    used = {
        _class_of(found, f"{file}: objects[{index}]")
        for described in contents.values()
        for file, content in described
        for index, found in enumerate(_objects(file, content))
        if found.get("geometryType") in _WITH_AREA
    }
    names += sorted(used - set(names))
    splits: dict[str, list[ImageRecord]] = {}
    for folder, described in contents.items():
        images = ImageFiles([folder / "img"], reading)
        split = (split_name(folder.name) if folder != source else None) or "train"
        for file, content in reading.each(described):
            # The name of the image with .json behind it; older files have it in place of the ending.
            image = images.find(file.stem, str(file), or_else=_other_names(folder, file))
            if image is not None:
                record = _read_image(file, content, image, names, source, reading)
                splits.setdefault(split, []).append(record)
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _other_names(folder: Path, file: Path) -> list[str]:
    return [path.name for path in sorted((folder / "img").glob(f"{_escaped(file.stem)}.*"))][:1]


def _escaped(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _listed_classes(source: Path) -> list[str]:
    file = next((place / "meta.json" for place in (source, source.parent) if (place / "meta.json").is_file()), None)
    if file is None:
        return []
    classes = read_json_object(file, "classes").get("classes")
    if not isinstance(classes, list) or not all(
        isinstance(entry, Mapping) and isinstance(entry.get("title"), str) for entry in classes
    ):
        raise DataError(f"{file}: classes: expected a list of classes with titles, got {shown(classes)}")
    return list(dict.fromkeys(entry["title"] for entry in classes if entry.get("shape", "any") in _SHAPES))


def _objects(file: Path, content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    objects = content.get("objects")
    if not isinstance(objects, list) or not all(isinstance(found, Mapping) for found in objects):
        raise DataError(f"{file}: objects: expected a list of objects, got {shown(objects)}")
    return objects


def _class_of(found: Mapping[str, Any], where: str) -> str:
    name = found.get("classTitle")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: classTitle: expected the name of a class, got {shown(name)}")
    return name


def _read_image(
    file: Path, content: Mapping[str, Any], image: Path, names: Sequence[str], root: Path, reading: Reading
) -> ImageRecord:
    header = read_header(image, image)
    stated = content.get("size")
    sides = tuple(whole_number(stated.get(key)) for key in ("height", "width")) if isinstance(stated, Mapping) else None
    if sides not in (header.size, header.upright_size):
        raise DataError(f"{file}: size: got {shown(stated)}, the image is {header.size[1]}x{header.size[0]} px")
    size = header.upright_size if sides == header.upright_size else header.size
    groups: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {}
    for index, found in enumerate(_objects(file, content)):
        where = f"{file}: objects[{index}]"
        kind = found.get("geometryType")
        if kind in _WITH_AREA:
            bound = found.get("instance")
            key = (found["classTitle"], bound) if isinstance(bound, str) and bound else index
            groups.setdefault(key, []).append((where, found))
        elif kind == "rectangle":
            reading.remarks.add("rectangles left out, they do not say which pixels an object has", where)
        else:
            reading.remarks.add("points, lines and other shapes without an area left out", where)
    objects = [
        ObjectRecord(label=names.index(members[0][1]["classTitle"]), segmentation=_united(members, size))
        for members in groups.values()
    ]
    name = image.relative_to(root).as_posix()
    return ImageRecord(source=image, name=name, size=size, objects=objects, is_upright=size == header.upright_size)


def _united(members: Sequence[tuple[str, Mapping[str, Any]]], size: tuple[int, int]) -> Segmentation:
    """The parts of an object, each without its own holes."""
    parts: list[Part] = []
    for where, found in members:
        if found["geometryType"] != "polygon":
            parts.append(_read_bitmap(where, found, size))
            continue
        points = found.get("points")
        if not isinstance(points, Mapping) or not isinstance(points.get("interior", []), list):
            raise DataError(f"{where}: points: expected exterior and interior, got {shown(points)}")
        exterior = outline(points.get("exterior"), f"{where}: exterior")
        holes = [outline(hole, f"{where}: interior") for hole in points.get("interior", [])]
        if holes and len(members) == 1:
            return union([exterior], size, holes)
        parts.append(rasterised(union([exterior], size, holes), size) if holes else exterior)
    return union(parts, size)


def _read_bitmap(where: str, found: Mapping[str, Any], size: tuple[int, int]) -> Part:
    """The mask of a PNG, compressed once more, and of the place of its upper left corner."""
    bitmap = found.get("bitmap", found.get("alpha_mask"))
    origin = bitmap.get("origin") if isinstance(bitmap, Mapping) else None
    if not isinstance(bitmap, Mapping) or not isinstance(origin, list) or len(origin) != 2:
        raise DataError(f"{where}: bitmap: expected data and origin [x, y], got {shown(bitmap)}")
    left, top = (int(number(side, f"{where}: bitmap: origin")) for side in origin)
    content = read_base64(bitmap.get("data"), f"{where}: bitmap: data")
    if not content.startswith(b"\x89PNG"):
        limit = _BYTES_PER_PIXEL * max_patch_pixels(size) + _MORE_BYTES
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(content, limit)
        except zlib.error as error:
            raise DataError(f"{where}: bitmap: data: expected a compressed PNG: {error}") from error
        if unpacker.unconsumed_tail:
            raise DataError(f"{where}: bitmap: data: far larger than the image")
    return read_patch(content, f"{where}: bitmap: data", corner=(top, left), size=size)
