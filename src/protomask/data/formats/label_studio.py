"""Label Studio: a JSON of tasks, the full export or JSON_MIN, with polygons, brush masks and ellipses.

Coordinates are percent of the upright image. Rectangles do not say which pixels an object has, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from protomask.data.coco.segmentation import encode_segmentation, same_aspect
from protomask.data.folders import split_name
from protomask.data.formats.image_files import ImageFiles
from protomask.data.formats.records import (
    DatasetRecord,
    ImageHeader,
    ImageRecord,
    ObjectRecord,
    Reading,
    read_header,
)
from protomask.data.formats.shapes import ellipse, max_patch_pixels, number, outline, read_base64, read_patch, union
from protomask.data.recognition import label_studio_files
from protomask.errors import DataError
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.masks.brush import decode_brush
from protomask.masks.rle import encode_rle
from protomask.masks.segmentations import Segmentation
from protomask.structures.coco_json import read_json, shown, whole_number

_IMAGE_KEYS = ("image", "img", "picture", "photo")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # that Label Studio puts before the names of files it is given
_PIXEL_DIGITS = 3  # percent are never exact; outlines are drawn to a hundredth of a pixel
_SIZE_KEYS = ("original_height", "original_width")


@dataclass(frozen=True)
class _Task:
    """An image and what is drawn on it: the values of its regions, each with the keys that say its size."""

    where: str
    names: tuple[str, ...]
    regions: tuple[Mapping[str, Any], ...]


def read(source: Path, reading: Reading) -> DatasetRecord:
    """Read a JSON of Label Studio.

    Images are found by the names of the files that were uploaded, with or without the eight digits that Label Studio
    puts before them. Of several annotations of a task the ground truth counts, else the last one. Classes are in the
    order of their names.

    Args:
        source: folder with the JSON and the images (anywhere in it), or the JSON; a folder called ``train``, ``val`` or
            ``test`` that holds a JSON is a split.
        reading: its class names are not used, the regions have them.

    Raises:
        DataError: naming file, task and region.

    """
    files = (label_studio_files(source) or sorted(source.glob("*.json"))) if source.is_dir() else [source]
    root = source.parent if source.is_file() else source
    tasks = {file: _tasks(file, reading) for file in files}
    names = sorted({
        name for found in tasks.values() for task in found for one in task.regions if (name := _class_of(one))
    })  # fmt: skip
    splits: dict[str, list[ImageRecord]] = {}
    for file, found in tasks.items():
        images = ImageFiles([reading.image_dir] if reading.image_dir else [file.parent, root], reading)
        split = (split_name(file.parent.name) if file.parent != root else None) or "train"
        for task in reading.each(found):
            record = _read_image(task, names, images, root, reading)
            if record is not None:
                splits.setdefault(split, []).append(record)
    return DatasetRecord(class_names=tuple(names), splits=splits)


def _tasks(file: Path, reading: Reading) -> list[_Task]:
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(f"{file}: expected a list of tasks of Label Studio, got {shown(content)}")
    tasks = []
    for index, task in enumerate(content):
        if not isinstance(task, Mapping):
            raise DataError(f"{file}: task {index}: expected an object, got {shown(task)}")
        where = f"{file}: task {shown(task.get('id', index))}"
        data = task.get("data")
        if isinstance(data, Mapping):
            regions = _regions_of_annotations(task, where, reading)
            uploaded = [task["file_upload"]] if isinstance(task.get("file_upload"), str) else []
        else:
            data, uploaded, regions = task, [], _regions_of_values(task)
        if regions is None:
            reading.remarks.add("tasks without an annotation left out", where)
        else:
            tasks.append(_Task(where, _image_names(where, data, uploaded), tuple(regions)))
    return tasks


def _regions_of_annotations(task: Mapping[str, Any], where: str, reading: Reading) -> list[Mapping[str, Any]] | None:
    """Regions of the annotation that counts; None if there is none."""
    found = task.get("annotations", task.get("completions"))
    if not isinstance(found, list):
        raise DataError(f"{where}: annotations: expected a list, got {shown(found)}")
    kept = [one for one in found if isinstance(one, Mapping) and not one.get("was_cancelled")]
    if not kept:
        return None
    if len(kept) > 1:
        reading.remarks.add("tasks with several annotations, of which one was taken", where)
    chosen = max(enumerate(kept), key=lambda pair: (bool(pair[1].get("ground_truth")), pair[0]))[1]
    results = chosen.get("result")
    if not isinstance(results, list):
        raise DataError(f"{where}: result: expected a list, got {shown(results)}")
    # A region and its label may be two results with one id.
    merged: dict[Any, dict[str, Any]] = {}
    for index, result in enumerate(results):
        value = result.get("value") if isinstance(result, Mapping) else None
        if isinstance(result, Mapping) and isinstance(value, Mapping):
            key = result["id"] if isinstance(result.get("id"), str) else index
            sizes = {name: result[name] for name in (*_SIZE_KEYS, "image_rotation") if name in result}
            merged.setdefault(key, {}).update({**value, **sizes})
    return [*merged.values()]


def _regions_of_values(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Regions of a task of JSON_MIN, whose keys are the names of the tags."""
    lists = [value for value in task.values() if isinstance(value, list)]
    return [one for values in lists for one in values if isinstance(one, Mapping)]


def _image_names(where: str, data: Mapping[str, Any], uploaded: Sequence[str]) -> tuple[str, ...]:
    """Names that the file of an image may have, the likeliest first."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    chosen = next((texts[key] for key in _IMAGE_KEYS if key in texts), None)
    chosen = chosen or next((text for text in texts.values() if _suffix(_path_of(text)) in IMAGE_SUFFIXES), None)
    if chosen is None:
        raise DataError(
            f"{where}: expected the image of the task, got the keys {', '.join(map(shown, list(data)[:8]))}"
        )
    names = [_path_of(chosen), *uploaded]
    stripped = [_UPLOAD.sub("", name.rpartition("/")[2]) for name in names]
    return tuple(dict.fromkeys([*names, *(name for name in stripped if name)]))


def _suffix(path: str) -> str:
    return PurePosixPath(path.rpartition("/")[2]).suffix.lower()


def _path_of(text: str) -> str:
    """The path in a URL, or in a link to a file of the server."""
    try:
        parts = urlsplit(text)
        local = parse_qs(parts.query).get("d")
    except ValueError:
        return text
    if local:
        return local[0]
    return unquote(parts.path) if "://" in text or text.startswith("/data/") else text


def _class_of(region: Mapping[str, Any]) -> str | None:
    """The first label of a region; None if it has none, or is not a region of an image."""
    if not any(key in region for key in ("points", "rle", "radiusX", "imageDataURL")):
        return None
    labels = next((value for key, value in region.items() if str(key).endswith("labels") and value), None)
    return labels[0] if isinstance(labels, list) and isinstance(labels[0], str) and labels[0] else None


def _read_image(
    task: _Task, names: Sequence[str], images: ImageFiles, root: Path, reading: Reading
) -> ImageRecord | None:
    if any(region.get("image_rotation") for region in task.regions):
        reading.remarks.add("images that were turned while they were labelled left out", task.where)
        return None
    image = images.find(task.names[0], task.where, or_else=task.names[1:])
    if image is None:
        return None
    header = read_header(image, task.where)
    size = _frame(task, header)
    objects = []
    for index, region in enumerate(task.regions):
        where = f"{task.where}: region {index}"
        name = _class_of(region)
        if name is not None:
            segmentation = _read_region(where, region, size)
            objects.append(ObjectRecord(label=names.index(name), segmentation=segmentation))
        elif "width" in region and "height" in region:
            reading.remarks.add("rectangles left out, they do not say which pixels an object has", where)
        elif _SIZE_KEYS[0] in region:
            reading.remarks.add("regions without a label or an area left out", where)
    return ImageRecord(
        source=image,
        name=image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name,
        size=size,
        objects=objects,
        is_upright=size == header.upright_size,
    )


def _stated_size(region: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) of the image as Label Studio saw it."""
    height, width = (whole_number(region.get(key)) for key in _SIZE_KEYS)
    return (height, width) if height is not None and width is not None and min(height, width) > 0 else None


def _frame(task: _Task, header: ImageHeader) -> tuple[int, int]:
    """(H, W) of the image, upright or as it is stored: what its regions were drawn on.

    Raises:
        DataError: they were drawn on an image of another shape.

    """
    for region in task.regions:
        stated = _stated_size(region)
        frames = (header.upright_size, header.size)
        if stated is not None:
            fitting = next((frame for frame in frames if stated == frame or same_aspect(stated, frame)), None)
            if fitting is None:
                got = f"{stated[1]}x{stated[0]}"
                expected = f"{header.upright_size[1]}x{header.upright_size[0]}"
                raise DataError(f"{task.where}: original_width x original_height is {got}, the image is {expected}")
            return fitting
    return header.upright_size


def _read_region(where: str, region: Mapping[str, Any], size: tuple[int, int]) -> Segmentation:
    height, width = size
    if "points" in region:
        points = outline(region["points"], f"{where}: points")
        pixels = [value * (height if index % 2 else width) / 100 for index, value in enumerate(points)]
        return [[round(value, _PIXEL_DIGITS) for value in pixels]]
    if "radiusX" in region:
        x, y, x_radius, y_radius = (
            number(region.get(key), f"{where}: {key}") for key in ("x", "y", "radiusX", "radiusY")
        )
        turn = number(region.get("rotation") or 0, f"{where}: rotation")
        sides = (width / 100, height / 100)
        return [ellipse((x * sides[0], y * sides[1]), (x_radius * sides[0], y_radius * sides[1]), turn)]
    if "imageDataURL" in region:
        url = region["imageDataURL"]
        text = url.partition(",")[2] if isinstance(url, str) else url
        content = read_base64(text, f"{where}: imageDataURL")
        return union([read_patch(content, f"{where}: imageDataURL", corner=(0, 0), size=size)], size)
    return _read_brush(where, region, size)


def _read_brush(where: str, region: Mapping[str, Any], size: tuple[int, int]) -> Segmentation:
    stated = _stated_size(region) or size
    if stated[0] * stated[1] > max_patch_pixels(size):
        raise DataError(f"{where}: original_width x original_height is far larger than the image")
    try:
        mask = decode_brush(region["rle"], stated[0] * stated[1])
    except DataError as error:
        raise DataError(f"{where}: rle: {error}") from error
    code = encode_rle(mask.reshape(1, *stated))[0]
    # Labelled on a copy of another size: it is scaled.
    return encode_segmentation(code, size) or code
