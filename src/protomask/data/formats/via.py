"""VGG Image Annotator: one file about all images, with regions drawn as polygons, rectangles, circles and ellipses.

Versions 1 and 2 are read: a saved project, or annotations exported as JSON or CSV. Its export as COCO is read as COCO.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.data.folders import read_text, split_folders
from protomask.data.formats.image_files import ImageFiles
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ObjectRecord,
    Reading,
    read_class_names,
    read_header,
)
from protomask.data.formats.shapes import ellipse, number
from protomask.data.recognition import via_files
from protomask.errors import DataError
from protomask.structures.coco_json import read_json, shown

DEFAULT_CLASS = "object"
_METADATA = "_via_img_metadata"
_NAME_KEYS = ("class", "label", "name", "category", "type", "object")
_WITHOUT_AREA = ("point", "polyline", "line")
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_Entry = tuple[str, list[Mapping[str, Any]]]
"""File name and regions of an image."""


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read the annotations of VIA.

    The class of a region is the value of its attribute called class, label, name, category or type, else of the one
    that most regions have; without any, it is called ``object``. Points and lines have no area and are left out.

    Args:
        source: folder with the JSON or CSV and the images (in it, or in folders), or the file; ``train``, ``val``,
            ``test`` in the folder are splits.
        reading: its class names are not used, the regions have them.

    Raises:
        DataError: naming file and region.

    """
    root = source.parent if source.is_file() else source
    if source.is_dir():
        parts = {split: files for split, folder in split_folders(source).items() if (files := via_files(folder))}
        parts = parts or {"train": via_files(source)}
    else:
        parts = {"train": [source]}
    described = {split: [(file, _entries(file)) for file in files] for split, files in parts.items()}
    regions = [region for every in described.values() for _, entries in every for one in entries for region in one[1]]
    key = _class_key(regions)
    names = list(read_class_names(root) or ())
    names += sorted({_class_of(region, key) for region in regions} - set(names))
    splits: dict[str, list[ImageRecord]] = {}
    for split, every in described.items():
        splits[split] = []
        for file, entries in every:
            images = ImageFiles([reading.image_dir] if reading.image_dir else [file.parent, root], reading)
            for name, found in reading.each(entries):
                image = images.find(name, f"{file}: filename")
                if image is not None:
                    splits[split].append(_read_image(file, image, root, found, names, key, reading))
    if not any(splits.values()):
        raise DataError(f"{source}: expected images with regions, found none")
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _entries(file: Path) -> list[_Entry]:
    if file.suffix.lower() == ".csv":
        return _csv_entries(file)
    content = read_json(file)
    images = content.get(_METADATA, content) if isinstance(content, Mapping) else None
    if not isinstance(images, Mapping):
        raise DataError(f"{file}: expected an object with an entry for each image, got {shown(images)}")
    found = []
    for key, entry in images.items():
        regions = entry.get("regions", []) if isinstance(entry, Mapping) else None
        regions = list(regions.values()) if isinstance(regions, Mapping) else regions
        if not isinstance(regions, list) or not all(isinstance(region, Mapping) for region in regions):
            raise DataError(f"{file}: {shown(key)}: expected an image with a list of regions")
        name = entry.get("filename")
        if not isinstance(name, str) or not name:
            raise DataError(f"{file}: {shown(key)}: filename: expected the name of the image, got {shown(name)}")
        found.append((name, regions))
    return found


def _csv_entries(file: Path) -> list[_Entry]:
    """Images of a CSV, which has a row for each region, and one for an image without regions."""
    text = read_text(file)
    limit = csv.field_size_limit(max(len(text), csv.field_size_limit()))  # an outline is one field
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"{file}: cannot be read as CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    columns = [name.strip().lstrip("#") for name in rows[0]] if rows else []
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise DataError(f"{file}: expected the columns {', '.join(_COLUMNS)}, lacks {', '.join(missing)}")
    places = [columns.index(name) for name in _COLUMNS]
    images: dict[str, list[Mapping[str, Any]]] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(row):
            continue
        if len(row) <= max(places) or not row[places[0]]:
            raise DataError(f"{file}: row {line}: expected {len(columns)} fields with a filename, got {len(row)}")
        regions = images.setdefault(row[places[0]], [])
        shape, attributes = (_json_field(file, line, columns[place], row[place]) for place in places[1:])
        if shape:
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return list(images.items())


def _json_field(file: Path, line: int, column: str, text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: row {line}: {column}: not valid JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{file}: row {line}: {column}: expected an object, got {shown(content)}")
    return content


def _attributes(region: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = region.get("region_attributes")
    return attributes if isinstance(attributes, Mapping) else {}


def _class_key(regions: Sequence[Mapping[str, Any]]) -> str | None:
    counts = Counter(key for region in regions for key in _attributes(region))
    named = [key for key in counts if key.casefold() in _NAME_KEYS]
    if named:
        return max(named, key=lambda key: counts[key])
    return max(counts, key=lambda key: counts[key]) if counts else None


def _class_of(region: Mapping[str, Any], key: str | None) -> str:
    value = None if key is None else _attributes(region).get(key)
    if isinstance(value, Mapping):  # of a checkbox
        value = next((name for name, chosen in value.items() if chosen), None)
    return value.strip() or DEFAULT_CLASS if isinstance(value, str) else DEFAULT_CLASS


def _read_image(
    file: Path,
    image: Path,
    root: Path,
    regions: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    key: str | None,
    reading: Reading,
) -> ImageRecord:
    objects = []
    for index, region in enumerate(regions):
        where = f"{file}: {image.name}: regions[{index}]"
        shape = region.get("shape_attributes")
        if not isinstance(shape, Mapping):
            raise DataError(f"{where}: expected shape_attributes, got {shown(shape)}")
        if shape.get("name") in _WITHOUT_AREA:
            reading.remarks.add("points and lines left out, they have no area", where)
            continue
        label = names.index(_class_of(region, key))
        objects.append(ObjectRecord(label=label, segmentation=[_outline(where, shape)]))
    size = read_header(image, image).upright_size
    name = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name
    return ImageRecord(source=image, name=name, size=size, objects=objects, is_upright=True)


def _outline(where: str, shape: Mapping[str, Any]) -> list[float]:
    """Points [x1, y1, x2, y2, ...] of a region, px of the upright image."""
    kind = shape.get("name")
    if kind == "polygon":
        columns = [_numbers(where, shape, side) for side in ("all_points_x", "all_points_y")]
        if len(columns[0]) != len(columns[1]) or len(columns[0]) < 3:
            got = f"{len(columns[0])} and {len(columns[1])}"
            raise DataError(f"{where}: expected 3 points or more with x and y each, got {got}")
        return [value for point in zip(*columns, strict=True) for value in point]
    if kind == "rect":
        x, y, w, h = (_number(where, shape, side) for side in ("x", "y", "width", "height"))
        return [x, y, x + w, y, x + w, y + h, x, y + h]
    if kind == "circle":
        x, y, radius = (_number(where, shape, side) for side in ("cx", "cy", "r"))
        return ellipse((x, y), (radius, radius))
    if kind == "ellipse":
        x, y, x_radius, y_radius = (_number(where, shape, side) for side in ("cx", "cy", "rx", "ry"))
        turn = _number(where, shape, "theta") if "theta" in shape else 0.0
        return ellipse((x, y), (x_radius, y_radius), math.degrees(turn))
    known = ", ".join(("polygon", "rect", "circle", "ellipse", *_WITHOUT_AREA))
    raise DataError(f"{where}: expected one of {known}; got {shown(kind)}")


def _numbers(where: str, shape: Mapping[str, Any], key: str) -> list[float]:
    values = shape.get(key)
    if not isinstance(values, list):
        raise DataError(f"{where}: {key}: expected a list of numbers, got {shown(values)}")
    return [number(value, f"{where}: {key}") for value in values]


def _number(where: str, shape: Mapping[str, Any], key: str) -> float:
    return number(shape.get(key), f"{where}: {key}")
