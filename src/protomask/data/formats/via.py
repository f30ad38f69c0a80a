"""VGG Image Annotator: one JSON about all images, with regions drawn as polygons, rectangles, circles and ellipses.

Versions 1 and 2 are read, a saved project or its exported annotations. VIA's export as COCO is read as COCO.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ObjectRecord,
    Remarks,
    list_images,
    read_class_names,
    read_header,
    split_folders,
)
from protomask.errors import DataError
from protomask.masks.outlines import MAX_COORDINATE
from protomask.structures.coco_json import finite_number, read_json, shown
from protomask.structures.file_names import FileNames, name_flaw, with_slashes

DEFAULT_CLASS = "object"
_METADATA = "_via_img_metadata"
_NAME_KEYS = ("class", "label", "name", "category", "type", "object")
_WITHOUT_AREA = ("point", "polyline", "line")
_POINTS = 64  # of the polygon that stands for a circle or an ellipse
_MAX_BYTES = 1 << 16  # of a file that are looked at to tell the format


def detect(source: Path) -> str | None:
    """What shows that ``source`` is VIA, or None."""
    for file in _files(source):
        return f"{file.name} with regions"
    return None


def _files(source: Path) -> list[Path]:
    """The annotation files, one for each split at most."""
    if source.is_file():
        candidates = [source] if source.suffix.lower() == ".json" else []
    else:
        candidates = sorted(source.glob("*.json")) + sorted(source.glob("*/*.json"))
    found: list[Path] = []
    for file in candidates:
        try:
            with file.open("rb") as opened:
                start = opened.read(_MAX_BYTES)
        except OSError:
            continue
        is_project = b'"_via_' in start
        if is_project or (b'"regions"' in start and b'"filename"' in start and b'"file_attributes"' in start):
            found.append(file)
    return found


def read(source: Path, class_names: Sequence[str] | None, remarks: Remarks) -> DatasetRecord:
    """Read the annotations of VIA.

    The class of a region is the value of its attribute called class, label, name, category or type, else of the one
    that most regions have; without any, it is called ``object``. Points and lines have no area and are left out.

    Args:
        source: folder with the JSON and the images (in it, or in folders), or the JSON; ``train``, ``val``, ``test``
            in the folder are splits.
        class_names: not used, the regions have them.
        remarks: gets the regions and images that are left out.

    Raises:
        DataError: naming file and region.

    """
    root = source.parent if source.is_file() else source
    if source.is_dir():
        parts = {split: files for split, folder in split_folders(source).items() if (files := _files(folder))}
        parts = parts or {"train": _files(source)}
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
            paths = {path.relative_to(file.parent).as_posix(): path for path in list_images(file.parent)}
            known = FileNames([*paths])
            alone = {path.name: path for path in paths.values()}
            for name, found in entries:
                image = _find(file, name, known, paths, alone)
                splits[split].append(_read_image(file, image, root, found, names, key, remarks))
    if not any(splits.values()):
        raise DataError(f"{source}: expected images with regions, found none")
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _entries(file: Path) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """File name and regions of each image."""
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


def _find(file: Path, name: str, known: FileNames, paths: Mapping[str, Path], alone: Mapping[str, Path]) -> Path:
    path = PurePosixPath(with_slashes(name))
    if (flaw := name_flaw(path.name)) is not None:
        raise DataError(f"{file}: filename: expected the name of an image, got {shown(name)}: {flaw}")
    found = known.find_tail(str(path))
    image = alone.get(path.name) if found is None else paths[found]
    if image is None:
        spelled = FileNames(alone).find(path.name)
        image = None if spelled is None else alone[spelled]
    if image is None:
        close = FileNames(alone).close_to(path.name)
        hint = f"; is {close} meant?" if close else ""
        raise DataError(f"{file}: filename: no image {shown(name)} in {file.parent} or below{hint}")
    return image


def _read_image(
    file: Path,
    image: Path,
    root: Path,
    regions: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    key: str | None,
    remarks: Remarks,
) -> ImageRecord:
    objects = []
    for index, region in enumerate(regions):
        where = f"{file}: {image.name}: regions[{index}]"
        shape = region.get("shape_attributes")
        if not isinstance(shape, Mapping):
            raise DataError(f"{where}: expected shape_attributes, got {shown(shape)}")
        if shape.get("name") in _WITHOUT_AREA:
            remarks.add("points and lines left out, they have no area", where)
            continue
        label = names.index(_class_of(region, key))
        objects.append(ObjectRecord(label=label, segmentation=[_outline(where, shape)]))
    size = read_header(image, image).upright_size
    name = image.relative_to(root).as_posix()
    return ImageRecord(source=image, name=name, size=size, objects=objects, is_upright=True)


def _outline(where: str, shape: Mapping[str, Any]) -> list[float]:
    """Points [x1, y1, x2, y2, ...] of a region, px of the upright image."""
    kind = shape.get("name")
    if kind in ("polygon", "rect", "circle", "ellipse"):
        if kind == "polygon":
            columns = [_numbers(where, shape, side) for side in ("all_points_x", "all_points_y")]
            if len(columns[0]) != len(columns[1]) or len(columns[0]) < 3:
                got = f"{len(columns[0])} and {len(columns[1])}"
                raise DataError(f"{where}: expected 3 points or more with x and y each, got {got}")
            return [value for point in zip(*columns, strict=True) for value in point]
        if kind == "rect":
            x, y, w, h = (_number(where, shape, side) for side in ("x", "y", "width", "height"))
            return [x, y, x + w, y, x + w, y + h, x, y + h]
        x, y = (_number(where, shape, side) for side in ("cx", "cy"))
        radii = [_number(where, shape, side) for side in (("r", "r") if kind == "circle" else ("rx", "ry"))]
        turn = _number(where, shape, "theta") if "theta" in shape else 0.0
        angles = np.linspace(0, 2 * math.pi, _POINTS, endpoint=False)
        along, across = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
        points = np.stack(
            [
                x + along * math.cos(turn) - across * math.sin(turn),
                y + along * math.sin(turn) + across * math.cos(turn),
            ],
            axis=1,
        )
        numbers: list[float] = points.clip(-MAX_COORDINATE, MAX_COORDINATE).ravel().tolist()
        return numbers
    known = ", ".join(("polygon", "rect", "circle", "ellipse", *_WITHOUT_AREA))
    raise DataError(f"{where}: expected one of {known}; got {shown(kind)}")


def _numbers(where: str, shape: Mapping[str, Any], key: str) -> list[float]:
    values = shape.get(key)
    if not isinstance(values, list):
        raise DataError(f"{where}: {key}: expected a list of numbers, got {shown(values)}")
    return [_checked(where, key, value) for value in values]


def _number(where: str, shape: Mapping[str, Any], key: str) -> float:
    return _checked(where, key, shape.get(key))


def _checked(where: str, key: str, value: Any) -> float:
    number = finite_number(value)
    if number is None or abs(number) > MAX_COORDINATE:
        raise DataError(f"{where}: {key}: expected a number of px, got {shown(value)}")
    return number
