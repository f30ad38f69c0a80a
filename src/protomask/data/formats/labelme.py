"""LabelMe: one JSON beside each image, with polygons, rectangles, circles and masks; a ``group_id`` joins parts.

Points are continuous px of the upright image. LabelMe itself draws a polygon with its border, so masks made by its own
export are up to a pixel larger; here outlines are rasterised as COCO does. A shape of type ``mask`` is exact in both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from protomask.data.folders import is_inside, list_images, split_folders
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Reading,
    Remarks,
    read_class_names,
    read_header,
    rle_of,
    write_class_names,
)
from protomask.data.formats.shapes import Part, ellipse, read_base64, read_patch, union
from protomask.errors import DataError
from protomask.masks.outlines import MAX_COORDINATE
from protomask.masks.rle import rle_area, rle_to_runs
from protomask.masks.runs import runs_to_window
from protomask.structures.annotations import labelme_file, labelme_polygons, labelme_shapes
from protomask.structures.coco_json import read_json_object, shown, whole_number
from protomask.structures.file_names import FileNames, name_flaw, with_slashes

_OUTLINES = ("polygon", "oriented_rectangle", "rotation")
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_CROWD_FLAG = "iscrowd"


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read a folder of LabelMe files, and those below it.

    Shapes of one label with the same ``group_id`` are one object. Points and lines have no area and are left out;
    images without a JSON count as not annotated and are left out. Classes are those in ``labels.txt`` or
    ``classes.txt``, then all others by name.

    Args:
        source: folder; its subfolders ``train``, ``val``, ``test`` are splits.
        reading: its class names are not used, the files have them.

    Raises:
        DataError: naming file and key.

    """
    splits: dict[str, list[ImageRecord]] = {}
    names = list(read_class_names(source) or ())
    contents: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for split, folder in split_folders(source).items():
        files = sorted(folder.rglob("*.json"))
        contents[split] = [(file, read_json_object(file, "shapes and imagePath")) for file in files]
    labels = {
        shape["label"] for files in contents.values() for file, content in files for shape in _shapes(file, content)
    }
    names += sorted(labels - set(names))
    for split, described in contents.items():
        read = (_read_image(file, content, names, source, reading) for file, content in reading.each(described))
        splits[split] = [image for image in read if image is not None]
        used = {image.source.resolve() for image in splits[split] if isinstance(image.source, Path)}
        for path in list_images(split_folders(source)[split]):
            if path.resolve() not in used:
                reading.remarks.add("images without a JSON left out", path)
    if not any(splits.values()):
        raise DataError(f"{source}: expected LabelMe JSON files, found none")
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _shapes(file: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(f"{file}: expected a LabelMe file with a list of shapes, got the keys {sorted(content)[:8]}")
    for index, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f"{file}: shapes[{index}]: expected an object with a label")
    return shapes


def _read_image(
    file: Path, content: dict[str, Any], names: Sequence[str], root: Path, reading: Reading
) -> ImageRecord | None:
    found = _find_image(file, content, root, reading)
    if found is None:
        return None
    source, name = found
    size = read_header(source, f"{file}: imagePath {content.get('imagePath')}").upright_size
    stated = (content.get("imageHeight"), content.get("imageWidth"))
    if None not in stated and tuple(map(whole_number, stated)) != size:
        got = f"{shown(stated[1])}x{shown(stated[0])}"
        raise DataError(f"{file}: imageWidth x imageHeight is {got}, the image is {size[1]}x{size[0]}")
    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for index, shape in enumerate(_shapes(file, content)):
        group = shape.get("group_id")
        if not isinstance(group, int | float | str | None):
            raise DataError(f"{file}: shapes[{index}]: group_id: expected a number, got {shown(group)}")
        groups.setdefault(("single", index) if group is None else (shape["label"], group), []).append((index, shape))
    objects = []
    for members in groups.values():
        parts = [
            part
            for index, shape in members
            if (part := _read_shape(file, index, shape, size, reading.remarks)) is not None
        ]
        if parts:
            flags = members[0][1].get("flags") or {}
            label = names.index(members[0][1]["label"])
            crowd = bool(flags.get(_CROWD_FLAG)) if isinstance(flags, dict) else False
            objects.append(ObjectRecord(label=label, segmentation=union(parts, size), is_crowd=crowd))
    name = (file.parent / name).relative_to(root).as_posix()
    return ImageRecord(source=source, name=name, size=size, objects=objects, is_upright=True)


def _find_image(file: Path, content: dict[str, Any], root: Path, reading: Reading) -> tuple[Path | bytes, str] | None:
    """The image file or the bytes in the JSON, and a name for it; only files of the data set are looked at."""
    stated = content.get("imagePath")
    if not isinstance(stated, str) or not stated:
        raise DataError(f"{file}: imagePath: expected the path of the image, got {shown(stated)}")
    path = PurePosixPath(with_slashes(stated))
    if (flaw := name_flaw(path.name)) is not None:
        raise DataError(f"{file}: imagePath: expected the path of the image, got {shown(stated)}: {flaw}")
    # A path may lead to a folder beside that of the JSON.
    is_path = name_flaw("/".join(part for part in with_slashes(stated).split("/") if part != "..")) is None
    choices = [file.parent / path] if is_path and is_inside(file.parent / path, root) else []
    for choice in (*choices, file.parent / path.name):
        if choice.is_file():
            return choice, path.name
    names = FileNames(one.name for one in file.parent.iterdir())
    if (spelled := names.find(path.name)) is not None and (file.parent / spelled).is_file():
        return file.parent / spelled, spelled
    data = content.get("imageData")
    if not data:
        close = names.close_to(path.name)
        hint = f"; did you mean {close}?" if close else ""
        if not choices:
            hint = f"; {shown(stated)} leads out of the data set {root}"
        reading.missing(f"{file}: imagePath", f"the image {file.parent / path.name} does not exist{hint}")
        return None
    pixels = read_base64(data, f"{file}: imageData")
    ending = {"JPEG": ".jpg", "PNG": ".png"}.get(read_header(pixels, f"{file}: imageData").format, path.suffix)
    return pixels, path.stem + ending


def _read_shape(file: Path, index: int, shape: dict[str, Any], size: tuple[int, int], remarks: Remarks) -> Part | None:
    """One polygon, a mask (H, W) bool, or None for what has no area."""
    where = f"{file}: shapes[{index}] ({shape['label']})"
    kind = shape.get("shape_type") or "polygon"
    if kind in _WITHOUT_AREA:
        remarks.add("points and lines left out, they have no area", where)
        return None
    try:
        points = np.array(shape.get("points"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) <= MAX_COORDINATE).all():
        raise DataError(f"{where}: points: expected a list of [x, y] in px, got {shown(shape.get('points'))}")
    if kind in _OUTLINES:
        if len(points) < 3:
            raise DataError(f"{where}: points: expected 3 or more of a {kind}, got {len(points)}")
    elif kind == "rectangle" and len(points) in (2, 4):
        if len(points) == 2:
            (x1, y1), (x2, y2) = points
            points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    elif kind in ("rectangle", "circle", "mask") and len(points) != 2:
        raise DataError(f"{where}: points: expected 2 of a {kind}, got {len(points)}")
    elif kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        return ellipse((float(points[0, 0]), float(points[0, 1])), (radius, radius))
    elif kind == "mask":
        left, top = (int(value) for value in points.min(axis=0).round())
        content = read_base64(shape.get("mask"), f"{where}: mask")
        return read_patch(content, f"{where}: mask", corner=(top, left), size=size)
    else:
        known = ", ".join((*_OUTLINES, "rectangle", "circle", "mask", *_WITHOUT_AREA))
        raise DataError(f"{where}: shape_type: expected one of {known}; got {shown(kind)}")
    numbers: list[float] = points.ravel().tolist()
    return numbers


def write(dataset: DatasetRecord, folder: Path, images: ImageWriter, remarks: Remarks) -> None:
    """Write ``SPLIT/`` with a JSON beside each image, and ``labels.txt``.

    Objects without holes are polygons, those with holes masks; a crowd has the flag ``iscrowd``.
    """
    for split, records in dataset.splits.items():
        (folder / split).mkdir()
        for image in records:
            images.write(image, folder / split)
            shapes: list[dict[str, Any]] = []
            for group, found in enumerate(image.objects, start=1):
                own = _write_shapes(found, image)
                for shape in own:
                    shape |= {
                        "label": dataset.class_names[found.label],
                        "group_id": group if len(own) > 1 else None,
                        "flags": {_CROWD_FLAG: True} if found.is_crowd else {},
                        "description": "",
                    }
                if not own:
                    remarks.add("objects that cover no pixel left out", image.name)
                shapes += own
            target = folder / split / f"{image.stem}.json"
            content = labelme_file(image.name, image.size, shapes)
            target.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    write_class_names(folder, dataset.class_names)


def _write_shapes(found: ObjectRecord, image: ImageRecord) -> list[dict[str, Any]]:
    if isinstance(found.segmentation, list):
        return labelme_polygons(found.segmentation)
    code = rle_of(found, image)
    runs, (height, _) = rle_to_runs(code)
    return labelme_shapes(runs_to_window(runs, height)) if rle_area(code) else []
