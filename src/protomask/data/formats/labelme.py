"""LabelMe: one JSON beside each image, with polygons, rectangles, circles and masks; a ``group_id`` joins parts.

Points are continuous px of the upright image. LabelMe itself draws a polygon with its border, so masks made by its own
export are up to a pixel larger; here outlines are rasterised as COCO does. A shape of type ``mask`` is exact in both.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.coco.segmentation import encode_segmentation
from protomask.data.formats.records import (
    DatasetRecord,
    ImageRecord,
    ImageWriter,
    ObjectRecord,
    Remarks,
    Segmentation,
    is_inside,
    list_images,
    read_class_names,
    read_header,
    rle_of,
    segmentation_of_mask,
    split_folders,
    write_class_names,
)
from protomask.errors import DataError
from protomask.masks.outlines import MAX_COORDINATE
from protomask.masks.rle import Rle, decode_rle, encode_rle, rle_area
from protomask.masks.runs import boxes_of_masks
from protomask.structures.coco_json import read_json_object, shown, whole_number
from protomask.structures.file_names import FileNames, name_flaw, with_slashes

_OUTLINES = ("polygon", "oriented_rectangle", "rotation")
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_CROWD_FLAG = "iscrowd"
_ARC_DEVIATION = 0.05  # px between a circle and the polygon that stands for it
_VERSION = "5.5.0"
_PATCH_SHARE, _PATCH_PIXELS = 4, 1 << 20  # pixels of a mask, per pixel of the image and more


def detect(source: Path) -> str | None:
    """What shows that ``source`` is LabelMe, or None."""
    if source.is_dir():
        for file in sorted(source.rglob("*.json"))[:20]:
            try:
                with file.open("rb") as opened:
                    start = opened.read(1 << 16)
            except OSError:
                continue
            # An image within may come first; it is base64, so it cannot hold the key.
            if b'"shapes"' in start or b'"imageData"' in start:
                return f"{file.relative_to(source)} with shapes"
    return None


def read(source: Path, class_names: Sequence[str] | None, remarks: Remarks) -> DatasetRecord:
    """Read a folder of LabelMe files, and those below it.

    Shapes of one label with the same ``group_id`` are one object. Points and lines have no area and are left out;
    images without a JSON count as not annotated and are left out. Classes are those in ``labels.txt`` or
    ``classes.txt``, then all others by name.

    Args:
        source: folder; its subfolders ``train``, ``val``, ``test`` are splits.
        class_names: not used, the files have them.
        remarks: gets the shapes and images that are left out.

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
        splits[split] = [_read_image(file, content, names, source, remarks) for file, content in described]
        used = {image.source.resolve() for image in splits[split] if isinstance(image.source, Path)}
        for path in list_images(split_folders(source)[split]):
            if path.resolve() not in used:
                remarks.add("images without a JSON left out", path)
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


def _read_image(file: Path, content: dict[str, Any], names: Sequence[str], root: Path, remarks: Remarks) -> ImageRecord:
    source, name = _find_image(file, content, root)
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
            part for index, shape in members if (part := _read_shape(file, index, shape, size, remarks)) is not None
        ]
        if parts:
            flags = members[0][1].get("flags") or {}
            label = names.index(members[0][1]["label"])
            crowd = bool(flags.get(_CROWD_FLAG)) if isinstance(flags, dict) else False
            objects.append(ObjectRecord(label=label, segmentation=_union(parts, size), is_crowd=crowd))
    name = (file.parent / name).relative_to(root).as_posix()
    return ImageRecord(source=source, name=name, size=size, objects=objects, is_upright=True)


def _find_image(file: Path, content: dict[str, Any], root: Path) -> tuple[Path | bytes, str]:
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
        hint = f"; is {close} meant?" if close else ""
        if not choices:
            hint = f"; {shown(stated)} leads out of the data set {root}"
        raise DataError(f"{file}: imagePath: the image {file.parent / path.name} does not exist{hint}")
    pixels = _from_base64(data, f"{file}: imageData")
    ending = {"JPEG": ".jpg", "PNG": ".png"}.get(read_header(pixels, f"{file}: imageData").format, path.suffix)
    return pixels, path.stem + ending


def _from_base64(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataError(f"{where}: expected a file in base64: {error}") from error


def _read_shape(
    file: Path, index: int, shape: dict[str, Any], size: tuple[int, int], remarks: Remarks
) -> list[float] | NDArray[np.bool_] | None:
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
        points = _circle(points)
    elif kind == "mask":
        return _read_mask(where, points, shape.get("mask"), size)
    else:
        known = ", ".join((*_OUTLINES, "rectangle", "circle", "mask", *_WITHOUT_AREA))
        raise DataError(f"{where}: shape_type: expected one of {known}; got {shown(kind)}")
    numbers: list[float] = points.ravel().tolist()
    return numbers


def _circle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polygon of a circle given by its centre and a point on it."""
    radius = float(np.hypot(*(points[1] - points[0])))
    step = 2 * math.acos(1 - min(_ARC_DEVIATION / radius, 0.5)) if radius else math.pi / 2
    angles = np.linspace(0, 2 * math.pi, max(8, math.ceil(2 * math.pi / step)), endpoint=False)
    outline: NDArray[np.float64] = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return outline


def _read_mask(where: str, points: NDArray[np.float64], data: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(_from_base64(data, f"{where}: mask")), formats=("PNG",)) as opened:
            if opened.width * opened.height > _PATCH_SHARE * size[0] * size[1] + _PATCH_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} px are more than the image has")
            patch = np.asarray(opened.convert("L")) > 0
    except DataError:
        raise
    except Exception as error:
        # What a damaged file makes a decoder raise is not documented.
        raise DataError(f"{where}: mask: expected a PNG in base64: {str(error) or type(error).__name__}") from error
    mask = np.zeros(size, dtype=np.bool_)
    left, top = (int(value) for value in points.min(axis=0).round())
    part = patch[max(-top, 0) :, max(-left, 0) :]
    window = mask[max(top, 0) : max(top, 0) + part.shape[0], max(left, 0) : max(left, 0) + part.shape[1]]
    window |= part[: window.shape[0], : window.shape[1]]
    return mask


def _union(parts: Sequence[list[float] | NDArray[np.bool_]], size: tuple[int, int]) -> Segmentation:
    polygons = [part for part in parts if isinstance(part, list)]
    masks = [part for part in parts if isinstance(part, np.ndarray)]
    if not masks:
        return polygons
    if polygons:
        code = encode_segmentation(polygons, size)
        if code is None:
            raise DataError("an outline is longer than any in an image of this size")
        masks.append(decode_rle(code))
    return encode_rle(np.logical_or.reduce(masks)[None])[0]


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
            entry: dict[str, Any] = {
                "version": _VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": image.name,
                "imageData": None,
                "imageHeight": image.size[0],
                "imageWidth": image.size[1],
            }
            target = folder / split / f"{image.stem}.json"
            target.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
    write_class_names(folder, dataset.class_names)


def _write_shapes(found: ObjectRecord, image: ImageRecord) -> list[dict[str, Any]]:
    polygons: Any = found.segmentation
    if isinstance(polygons, dict):
        code = rle_of(found, image)
        if not rle_area(code):
            return []
        polygons = segmentation_of_mask(decode_rle(code))
        if isinstance(polygons, dict):
            return [_mask_shape(code)]
    return [
        {"shape_type": "polygon", "points": np.reshape(polygon, (-1, 2)).tolist(), "mask": None} for polygon in polygons
    ]


def _mask_shape(code: Rle) -> dict[str, Any]:
    mask = decode_rle(code)
    left, top, right, bottom = boxes_of_masks(mask[None])[0].astype(int).tolist()
    buffer = io.BytesIO()
    Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255).save(buffer, format="PNG")
    return {
        "shape_type": "mask",
        # LabelMe counts the last pixel in.
        "points": [[left, top], [right - 1, bottom - 1]],
        "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
    }
