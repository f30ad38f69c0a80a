"""CVAT: "CVAT for images 1.1", one XML about all images, with polygons, masks and ellipses.

Boxes, lines, points, skeletons and cuboids do not say which pixels an object has, and are left out. Coordinates are
continuous px; a mask is exact. Shapes of one label and ``group_id`` are one object, as in CVAT's own export as COCO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from protomask.data.folders import split_name
from protomask.data.formats.image_files import ImageFiles
from protomask.data.formats.records import DatasetRecord, ImageRecord, ObjectRecord, Reading, read_header
from protomask.data.formats.shapes import Part, ellipse, max_patch_pixels, outline, place_patch, union
from protomask.data.formats.shapes import number as checked_number
from protomask.data.recognition import cvat_files
from protomask.errors import DataError
from protomask.structures.coco_json import shown

_WITH_AREA = ("polygon", "mask", "ellipse")
_WITHOUT_MASK = {
    "box": "boxes left out, they do not say which pixels an object has",
    "cuboid": "boxes left out, they do not say which pixels an object has",
    "polyline": "points, lines and skeletons left out, they have no area",
    "points": "points, lines and skeletons left out, they have no area",
    "skeleton": "points, lines and skeletons left out, they have no area",
}
# Types of labels that objects with a mask can have.
_TYPES = ("", "any", *_WITH_AREA)


@dataclass(frozen=True)
class _Shape:
    kind: str
    values: Mapping[str, str]
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        return self.values.get("label", "")


@dataclass
class _File:
    """What an XML holds: images with the values of their tags and their shapes, and the names of labels."""

    path: Path
    images: list[tuple[Mapping[str, str], list[_Shape]]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read CVAT's XML.

    Classes are the labels of the task or project that can have a mask, in its order. Whether an object is occluded, and
    its other attributes, are kept where COCO is written.

    Args:
        source: folder with ``annotations.xml`` and the images (in ``images/`` or elsewhere in it), or the XML. Subsets
            of a project, or folders called ``train``, ``val``, ``test``, are splits.
        reading: its class names are not used, the file has them.

    Raises:
        DataError: naming file, image and shape.

    """
    paths = cvat_files(source)
    if not paths:
        raise DataError(f"{source}: expected an XML file of CVAT, found none")
    root = source.parent if source.is_file() else source
    files = [_parse(path) for path in paths]
    used = {shape.label for file in files for _, shapes in file.images for shape in shapes if shape.kind in _WITH_AREA}
    names = list(dict.fromkeys(name for file in files for name in file.labels))
    names += sorted(used - set(names))
    splits: dict[str, list[ImageRecord]] = {}
    for file in files:
        images = ImageFiles([reading.image_dir] if reading.image_dir else [file.path.parent, root], reading)
        folder = split_name(file.path.parent.name) if file.path.parent != root else None
        for values, shapes in reading.each(file.images):
            record = _read_image(file.path, values, shapes, names, images, root, reading)
            subset = values.get("subset", "")
            split = folder or split_name(subset) or (subset if subset.lower() != "default" else "") or "train"
            if record is not None:
                splits.setdefault(split, []).append(record)
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _parse(path: Path) -> _File:
    file = _File(path)
    try:
        with path.open("rb") as opened:
            if b"<!DOCTYPE" in opened.read(1 << 16):
                raise DataError(f"{path}: expected an XML file of CVAT, got one with a DOCTYPE")
            opened.seek(0)
            _parse_elements(file, ElementTree.iterparse(opened))
    except (ElementTree.ParseError, OSError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error
    return file


def _parse_elements(file: _File, elements: Iterator[tuple[str, ElementTree.Element]]) -> None:
    for _, element in elements:
        if element.tag == "meta":
            for label in element.iter("label"):
                name, kind = label.findtext("name"), label.findtext("type") or ""
                if name and kind in _TYPES and label.find("parent") is None:
                    file.labels.append(name)
        elif element.tag == "track":
            raise DataError(
                f"{file.path}: expected CVAT for images 1.1, got tracks; export the task as CVAT for images 1.1, which "
                f"has the shapes of each frame"
            )
        elif element.tag == "image":
            shapes = [
                _Shape(child.tag, dict(child.attrib), _attributes(child)) for child in element if child.tag != "tag"
            ]
            file.images.append((dict(element.attrib), shapes))
            element.clear()


def _attributes(element: ElementTree.Element) -> dict[str, Any]:
    """Attributes of a shape as CVAT's export as COCO has them."""
    found: dict[str, Any] = {
        entry.get("name", ""): entry.text or "" for entry in element.findall("attribute") if entry.get("name")
    }
    return {"occluded": True, **found} if element.get("occluded") == "1" else found


def _read_image(
    file: Path,
    values: Mapping[str, str],
    shapes: Sequence[_Shape],
    names: Sequence[str],
    images: ImageFiles,
    root: Path,
    reading: Reading,
) -> ImageRecord | None:
    name = values.get("name", "")
    where = f"{file}: image {shown(name)}"
    subset = values.get("subset")
    image = images.find(f"{subset}/{name}" if subset else name, where)
    if image is None:
        return None
    header = read_header(image, where)
    stated = tuple(_side(values.get(key, "")) for key in ("height", "width"))
    if stated not in (header.size, header.upright_size):
        width, height = (values.get(key, "?")[:10] for key in ("width", "height"))
        raise DataError(f"{where}: {width}x{height} px, the file is {header.size[1]}x{header.size[0]} px")
    # CVAT shows images upright; the size says so where it can.
    is_upright = stated == header.upright_size
    size = header.upright_size if is_upright else header.size
    return ImageRecord(
        source=image,
        name=image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name,
        size=size,
        objects=_read_objects(where, shapes, names, size, reading),
        is_upright=is_upright,
    )


def _side(text: str) -> int:
    """A side of an image; 0 for what is none."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _read_objects(
    where: str, shapes: Sequence[_Shape], names: Sequence[str], size: tuple[int, int], reading: Reading
) -> list[ObjectRecord]:
    groups: dict[Any, list[tuple[int, _Shape]]] = {}
    for index, shape in enumerate(shapes):
        if shape.kind in _WITHOUT_MASK:
            reading.remarks.add(_WITHOUT_MASK[shape.kind], where)
        elif shape.kind not in _WITH_AREA:
            raise DataError(f"{where}: expected polygons, masks and ellipses, got {shown(shape.kind)}")
        else:
            group = shape.values.get("group_id") or "0"
            groups.setdefault((shape.label, group) if group != "0" else index, []).append((index, shape))
    objects = []
    for members in groups.values():
        parts = [_read_shape(f"{where}: shape {index} ({shape.kind})", shape, size) for index, shape in members]
        first = members[0][1]
        objects.append(
            ObjectRecord(
                label=names.index(first.label),
                segmentation=union(parts, size),
                coco={"attributes": dict(first.attributes)} if first.attributes else {},
            )
        )
    return objects


def _read_shape(where: str, shape: _Shape, size: tuple[int, int]) -> Part:
    if shape.kind == "mask":
        return _read_mask(where, shape.values, size)
    if shape.kind == "ellipse":
        x, y, x_radius, y_radius = (_number(where, shape.values, key) for key in ("cx", "cy", "rx", "ry"))
        turn = _number(where, shape.values, "rotation") if "rotation" in shape.values else 0.0
        return ellipse((x, y), (x_radius, y_radius), turn)
    text = shape.values.get("points", "")
    try:
        points = [[float(side) for side in point.split(",")] for point in text.split(";")]
    except ValueError as error:
        raise DataError(f"{where}: points: expected x,y;x,y;..., got {shown(text)}") from error
    return outline(points, f"{where}: points")


def _number(where: str, values: Mapping[str, str], key: str) -> float:
    try:
        return checked_number(float(values.get(key, "")), f"{where}: {key}")
    except ValueError as error:
        raise DataError(f"{where}: {key}: expected a number of px, got {shown(values.get(key))}") from error


def _read_mask(where: str, values: Mapping[str, str], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of a run-length code: rows of a part of the image, background first."""
    left, top, width, height = (int(_number(where, values, key)) for key in ("left", "top", "width", "height"))
    if min(width, height) <= 0 or width * height > max_patch_pixels(size):
        raise DataError(f"{where}: expected a part of an image of {size[1]}x{size[0]} px, got {width}x{height} px")
    try:
        runs = [int(run) for run in values.get("rle", "").split(",")]
    except ValueError as error:
        raise DataError(f"{where}: rle: expected lengths of runs, got {shown(values.get('rle', ''))}") from error
    if min(runs) < 0 or sum(runs) > width * height:
        raise DataError(f"{where}: rle: expected runs that sum to {width} x {height} = {width * height} pixels")
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    patch = np.zeros(width * height, dtype=np.bool_)
    patch[: len(filled)] = filled
    return place_patch(patch.reshape(height, width), (top, left), size)
