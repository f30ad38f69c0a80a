"""COCO instance JSON: reading it and checking its structure, entry by entry.

Checking finds all faults; the caller decides whether the first of them is an error or all of them are findings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from protomask.errors import DataError

Box = tuple[float, float, float, float]

NAMED = 5
"""Number of items that a message lists before it only counts."""

_MAX_PIXELS = 2**31 - 1  # what run-length codes can count, and far more than any readable image has


class DataWarning(UserWarning):
    """Annotations were dropped or repaired; the message counts them and names the first few."""


class Fault(DataError):
    """A contradiction to the format, or within the file, in an annotation file.

    Attributes:
        kind: short name of the broken rule, the same for everything that breaks it.
        where: place in the file: ids, or key and position; empty if it is the file itself.
        reason: expected and got.
        items: everything concerned, if that is more than one thing.

    """

    def __init__(self, file: Path, kind: str, where: str, reason: str, items: Sequence[str] = ()) -> None:
        super().__init__(": ".join(filter(None, (str(file), where, reason))))
        self.kind, self.where, self.reason, self.items = kind, where, reason, tuple(items)


class _Flaw(Exception):
    """A `Fault` before its place is known."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class AnnotationProblem(NamedTuple):
    """One thing that was dropped or repaired in an annotation (or, without ``annotation_id``, in an image)."""

    image_id: int
    annotation_id: int | None
    message: str

    def __str__(self) -> str:
        where = f"image {self.image_id}"
        if self.annotation_id is not None:
            where += f" annotation {self.annotation_id}"
        return f"{where}: {self.message}"


class Annotation(NamedTuple):
    """One object as the file has it; ``label`` is 0-based, ``segmentation`` polygons in px or an RLE."""

    annotation_id: int
    label: int
    is_crowd: bool
    bbox: Box | None  # x, y, w, h as in the file
    segmentation: list[list[float]] | dict[str, Any]


@dataclass(frozen=True)
class CocoFile:
    """An annotation file, parsed once for everything that needs it.

    Attributes:
        path: path of the file.
        content: its content, not checked and never changed.

    """

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> CocoFile:
        """Parse a file.

        Raises:
            Fault: the file cannot be read, or is not a JSON object.

        """
        return cls(Path(path), read_json(Path(path), "images, annotations and categories"))


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The usable content of an annotation file.

    Attributes:
        class_names: name of each label, 0-based, background excluded.
        category_ids: category id of each label.
        image_ids: id of each image, in the file's order.
        image_sizes: (H, W) of each image.
        file_names: file name of each image, as written.
        annotations: well-formed annotations of each image.
        problems: what was dropped or repaired.

    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    image_sizes: list[tuple[int, int]]
    file_names: list[str]
    annotations: list[list[Annotation]]
    problems: list[AnnotationProblem]


class _Faults:
    """Collects the faults of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, kind: str, where: str, reason: str) -> None:
        self.found.append(Fault(self.file, kind, where, reason))


def read_schema(file: CocoFile, class_names: Sequence[str] | None = None) -> tuple[Schema, list[Fault]]:
    """Check the structure of an annotation file.

    Args:
        file: parsed file.
        class_names: names in label order; categories are matched by name. By default the file's categories in order of
            their ids.

    Returns:
        The usable content and all faults: of single entries, which are left out with what belongs to them, and of
        class names that do not match.

    Raises:
        Fault: a list is missing.

    """
    faults = _Faults(file.path)
    images, categories, annotations = (
        _read_entries(file, key, faults) for key in ("images", "categories", "annotations")
    )
    names, category_ids = _match_categories(categories, class_names, faults)
    sizes, file_names = _read_images(images, faults)
    # What belongs to a left-out entry is not another fault.
    orphaned = {"image_id": _lost_ids(images, sizes), "category_id": _lost_ids(categories, category_ids)}
    kept = [entry for entry in enumerate(annotations) if not _is_orphaned(entry[1], orphaned)]
    records, problems = _read_annotations(kept, sizes, category_ids, faults)
    schema = Schema(
        class_names=names,
        category_ids=category_ids,
        image_ids=tuple(sizes),
        image_sizes=list(sizes.values()),
        file_names=file_names,
        annotations=records,
        problems=problems,
    )
    return schema, faults.found


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """Read the object in a JSON file.

    Args:
        file: path of the file.
        expected: what the object should have, for messages.

    Raises:
        Fault: the file cannot be read, or is not a JSON object; the message names file, line and column.

    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        reason = f"annotation file cannot be read: {error.strerror or error}"
        raise Fault(file, "annotation file", "", reason) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Fault(file, "annotation file", where, f"not valid JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise Fault(file, "annotation file", "", f"not valid JSON: {error}") from error
    if not isinstance(content, dict):
        reason = f"expected an object with {expected}, got a {type(content).__name__}"
        raise Fault(file, "annotation file", "", reason)
    return content


def _read_entries(file: CocoFile, key: str, faults: _Faults) -> list[dict[str, Any]]:
    if key not in file.content:
        reason = f"key {key!r} is missing, a COCO instance JSON has images, annotations and categories"
        raise Fault(file.path, "annotation file", "", reason)
    entries = file.content[key]
    if not isinstance(entries, list):
        reason = f"expected {key!r} to be a list, got {type(entries).__name__}"
        raise Fault(file.path, "annotation file", "", reason)
    kept = []
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            kept.append(entry)
        else:
            faults.add("entry", "", f"expected {key}[{position}] to be an object, got {type(entry).__name__}")
    return kept


def _match_categories(
    categories: list[dict[str, Any]], class_names: Sequence[str] | None, faults: _Faults
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    name_of: dict[int, str] = {}
    for position, category in enumerate(categories):
        category_id, name = category.get("id"), category.get("name")
        if type(category_id) is not int or not isinstance(name, str):
            reason = f"expected an integer id and a name, got {category!r}"
            faults.add("category", f"categories[{position}]", reason)
        elif category_id in name_of:
            faults.add("category id twice", "", f"category id {category_id} occurs twice")
        else:
            name_of[category_id] = name
    names = list(name_of.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults.add("category name twice", "", f"category names occur more than once: {few(twice)}")
    elif class_names is not None:
        wanted = tuple(class_names)
        id_of = {name: category_id for category_id, name in name_of.items()}
        if len(set(wanted)) == len(wanted) and set(wanted) == set(id_of):
            return wanted, tuple(id_of[name] for name in wanted)
        shown = f"\n  class names: {', '.join(wanted)}\n  categories:  {', '.join(id_of)}"
        faults.add("class names", "", f"the categories do not match the class names{shown}")
    category_ids = tuple(sorted(name_of))
    return tuple(name_of[category_id] for category_id in category_ids), category_ids


def _read_images(images: list[dict[str, Any]], faults: _Faults) -> tuple[dict[int, tuple[int, int]], list[str]]:
    """Sizes (H, W) by id, and file names, in the file's order."""
    sizes: dict[int, tuple[int, int]] = {}
    names: list[str] = []
    for position, entry in enumerate(images):
        try:
            image_id, size, name = _read_image(entry, sizes)
        except _Flaw as flaw:
            faults.add(flaw.kind, f"images[{position}] (image {entry.get('id')})", flaw.reason)
        else:
            sizes[image_id] = size
            names.append(name)
    return sizes, names


def _read_image(entry: Mapping[str, Any], seen: Mapping[int, Any]) -> tuple[int, tuple[int, int], str]:
    missing = [key for key in ("id", "file_name", "width", "height") if key not in entry]
    if missing:
        raise _Flaw("image key", f"key {missing[0]!r} is missing")
    image_id, name, width, height = entry["id"], entry["file_name"], entry["width"], entry["height"]
    if type(image_id) is not int:
        raise _Flaw("image id", f"expected an integer image id, got {image_id!r}")
    if image_id in seen:
        raise _Flaw("image id twice", "the image id occurs twice")
    if not isinstance(name, str) or not name:
        raise _Flaw("file_name", f"expected a file_name, got {name!r}")
    if not all(_is_number(side) and float(side).is_integer() and side > 0 for side in (width, height)):
        raise _Flaw("image size", f"expected a positive width and height, got {width!r} and {height!r}")
    if width * height > _MAX_PIXELS:
        raise _Flaw("image size", f"expected the width and height of an image, got {width!r} and {height!r}")
    return image_id, (int(height), int(width)), name


def _lost_ids(entries: Sequence[Mapping[str, Any]], read: Iterable[int]) -> set[str]:
    """Ids of the entries that were not read, as text, so that "7" stands for 7."""
    return {str(entry.get("id")) for entry in entries} - set(map(str, read))


def _is_orphaned(annotation: Mapping[str, Any], lost_ids: Mapping[str, set[str]]) -> bool:
    return any(lost and str(annotation.get(key)) in lost for key, lost in lost_ids.items())


def _read_annotations(
    entries: Iterable[tuple[int, dict[str, Any]]],
    images: Mapping[int, tuple[int, int]],
    category_ids: Sequence[int],
    faults: _Faults,
) -> tuple[list[list[Annotation]], list[AnnotationProblem]]:
    """The annotations of each image, and what was dropped or repaired in them.

    Args:
        entries: position in the file and entry.
        images: size (H, W) of each image by id.
        category_ids: category id of each label.
        faults: receives the faults of the entries left out.

    """
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    index_of = {image_id: index for index, image_id in enumerate(images)}
    records: list[list[Annotation]] = [[] for _ in images]
    problems: list[AnnotationProblem] = []
    seen: set[int] = set()
    for position, entry in entries:
        try:
            image_id, annotation, messages = _read_annotation(entry, seen, images, label_of)
        except _Flaw as flaw:
            where = f"image {entry.get('image_id')} annotation {entry.get('id')}"
            if flaw.kind == "annotation key":
                where = f"annotations[{position}] ({where})"
            faults.add(flaw.kind, where, flaw.reason)
            continue
        problems += [AnnotationProblem(image_id, annotation.annotation_id, message) for message in messages]
        if annotation.segmentation:
            records[index_of[image_id]].append(annotation)
    return records, problems


def _read_annotation(
    entry: Mapping[str, Any], seen: set[int], images: Mapping[int, tuple[int, int]], label_of: Mapping[int, int]
) -> tuple[int, Annotation, list[str]]:
    """Id of the image, the annotation with its usable parts, and messages about the other parts."""
    try:
        annotation_id, image_id = entry["id"], entry["image_id"]
        category_id, segmentation = entry["category_id"], entry["segmentation"]
    except KeyError as error:
        raise _Flaw("annotation key", f"key {error} is missing") from error
    if type(annotation_id) is not int:
        raise _Flaw("annotation id", f"expected an integer annotation id, got {annotation_id!r}")
    if annotation_id in seen:
        raise _Flaw("annotation id twice", "the annotation id occurs twice")
    seen.add(annotation_id)
    size = images.get(image_id) if type(image_id) is int else None
    if size is None:
        raise _Flaw("unknown image", f"no image has the id {image_id!r}")
    label = label_of.get(category_id) if type(category_id) is int else None
    if label is None:
        known = few(list(label_of))
        raise _Flaw("unknown category", f"unknown category_id {category_id!r}, the file's categories are {known}")
    bbox = entry.get("bbox")
    if bbox is not None:
        if not (isinstance(bbox, list) and len(bbox) == 4 and set(map(type, bbox)) <= {int, float}):
            raise _Flaw("bbox", f"expected a bbox of four numbers [x, y, w, h], got {bbox!r}")
        bbox = (float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3]))
    if isinstance(segmentation, list):
        segmentation, messages = _check_polygons(segmentation)
    else:
        messages = _check_rle(segmentation, size)
    is_crowd = entry.get("iscrowd") or 0
    if is_crowd not in (0, 1):
        raise _Flaw("iscrowd", f"expected iscrowd 0 or 1, got {is_crowd!r}")
    return image_id, Annotation(annotation_id, label, bool(is_crowd), bbox, segmentation), messages


def _check_polygons(segmentation: list[Any]) -> tuple[list[list[float]], list[str]]:
    """The parts that can be rasterised, and messages about the others."""
    for part in segmentation:
        if not isinstance(part, list) or not set(map(type, part)) <= {int, float}:
            raise _Flaw("polygons", f"expected polygons as lists [x1, y1, x2, y2, ...], got {str(part)[:60]}")
    kept = [part for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
    if not segmentation:
        return kept, ["no segmentation, dropped"]
    if len(kept) == len(segmentation):
        return kept, []
    dropped = next(len(part) for part in segmentation if len(part) < 6 or len(part) % 2)
    what = f"polygon of {dropped} numbers (expected at least 3 points), dropped"
    return kept, [what if not kept else f"{what}; {len(kept)} other parts kept"]


def _check_rle(segmentation: Any, image_size: tuple[int, int]) -> list[str]:
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise _Flaw("RLE", "expected a segmentation of polygons or an RLE with size and counts")
    size, counts = segmentation["size"], segmentation["counts"]
    sound = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not sound or size[0] * size[1] > _MAX_PIXELS:
        raise _Flaw("RLE size", f"expected an RLE size [height, width], got {size!r}")
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
            pixels = f"{size[0]} x {size[1]} = {size[0] * size[1]}"
            raise _Flaw("RLE counts", f"expected RLE counts that sum to {pixels}")
    elif not isinstance(counts, str):
        raise _Flaw("RLE counts", f"expected RLE counts as a list or a string, got {type(counts).__name__}")
    if tuple(size) != image_size:
        return [f"the RLE is {size[1]}x{size[0]} px, the JSON says {wxh(image_size)}"]
    return []


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def wxh(size: tuple[int, int]) -> str:
    """A size (H, W) as text, width first."""
    return f"{size[1]}x{size[0]}"


def few(items: Sequence[object]) -> str:
    """The first items as text, and the number of the others."""
    more = f", and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(map(str, items[:NAMED])) + more
