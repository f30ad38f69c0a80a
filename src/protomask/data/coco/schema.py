"""COCO instance JSON: checking its structure, entry by entry, with one list of repairs.

Checking finds all faults; the caller decides whether the first of them is an error or all of them are findings.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from protomask.structures.coco_json import (
    NAMED,
    CocoFile,
    Fault,
    Faults,
    Flaw,
    ImageEntry,
    few,
    finite_number,
    max_pixels,
    read_categories,
    read_entries,
    read_images,
    shown,
    used_ids,
    whole_number,
    without_unused,
)

BOX_SOURCE = "box"
"""``mask_source`` of a mask that is only the box of its object."""
Box = tuple[float, float, float, float]
Size = tuple[int, int]

_NO_SIZE = (0, 0)
_ROOT, _TWIN = "is the parent of all others and has", "has the same name as another one and"
_MAX_MASK_BYTES = 1 << 33  # of the masks of one image, a byte per pixel
_RLE_SCALE = 64  # an RLE may be of an image with so many times as many pixels
_RLE_PIXELS = 1 << 22  # ... and of so many more


class DataWarning(UserWarning):
    """Annotations were dropped or repaired; the message counts them and names the first few."""


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


def warn_of(file: Path, problems: Sequence[AnnotationProblem], note: str = "", *, stacklevel: int = 3) -> None:
    """One `DataWarning` about everything that was dropped or repaired in a file."""
    if problems:
        shown_ones = "; ".join(map(str, problems[:NAMED]))
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        text = f"{file}: {len(problems)} annotation problems: {shown_ones}{more}{note}"
        warnings.warn(text, DataWarning, stacklevel=stacklevel + 1)


class Annotation(NamedTuple):
    """One object as the file has it; ``label`` is 0-based, ``segmentation`` polygons in px or an RLE.

    ``bbox`` [x, y, w, h] and ``area`` are None where the file has none; the mask says them then. ``mask_source`` is
    what the file says of how the mask was made, empty where it says nothing.
    """

    annotation_id: int
    label: int
    is_crowd: bool
    bbox: Box | None
    segmentation: list[list[float]] | dict[str, Any]
    area: float | None = None
    mask_source: str = ""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The usable content of an annotation file.

    Attributes:
        class_names: name of each label, 0-based, background excluded.
        category_ids: category id of each label.
        image_ids: id of each image, in the file's order.
        image_sizes: (H, W) of each image; (0, 0) where nothing says it, and nothing needs it.
        file_names: file name of each image, as written.
        annotations: well-formed annotations of each image.
        problems: what was dropped or repaired.
        notes: what was left out without a loss.

    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    image_sizes: list[Size]
    file_names: list[str]
    annotations: list[list[Annotation]]
    problems: list[AnnotationProblem]
    notes: list[str]


def read_schema(
    file: CocoFile,
    class_names: Sequence[str] | None = None,
    *,
    needs_files: bool = True,
    needs_masks: bool = True,
) -> tuple[Schema, list[Fault]]:
    """Check the structure of an annotation file.

    Args:
        file: parsed file.
        class_names: names in label order; categories are matched by name. By default the file's categories in order of
            their ids.
        needs_files: the image files are to be opened. Otherwise names of files, of categories and ids of annotations
            are not needed, nor sizes that no outline needs; and what belongs to no image or category of the file is
            left out with a problem.
        needs_masks: otherwise annotations with a box but without a segmentation are kept.

    Returns:
        The usable content and all faults: of single entries, which are left out with what belongs to them, and of
        class names that do not match.

    Raises:
        Fault: a list is missing.

    """
    faults = Faults(file.path)
    # Without image files there may be no annotations: a file of images that were predicted has none.
    keys = ("images", "categories", "annotations")
    content = (
        file
        if needs_files or "annotations" in file.content
        else CocoFile(file.path, {**file.content, "annotations": []})
    )
    image_entries, category_entries, annotation_entries = (read_entries(content, key, faults) for key in keys)
    found = read_categories(category_entries, faults, needs_names=needs_files)
    used = used_ids(content, "category_id")
    categories = without_unused(found, used, category_entries, class_names)
    notes = [
        f"category {category_id} ({name}) {_TWIN if name in categories.values() else _ROOT} no object, left out"
        for category_id, name in found.items()
        if category_id not in categories
    ]
    if not needs_files:
        categories = _with_unique_names(categories)
    names, category_ids = _match_categories(categories, class_names, faults)
    images = read_images(image_entries, faults, needs_files=needs_files)
    # What belongs to a left-out entry is not another fault.
    orphaned = {"image_id": _lost_ids(image_entries, images), "category_id": _lost_ids(category_entries, found)}
    kept = [entry for entry in annotation_entries if not _is_orphaned(entry[1], orphaned)]
    sizes = _sizes(images, kept)
    reader = _Reader(sizes, category_ids, faults, is_strict=needs_files, needs_masks=needs_masks)
    reader.read(kept)
    if needs_files:
        _check_memory(sizes, reader.records, faults)
    schema = Schema(
        class_names=names,
        category_ids=category_ids,
        image_ids=tuple(sizes),
        image_sizes=list(sizes.values()),
        file_names=[image.file_name for image in images.values()],
        annotations=reader.records,
        problems=reader.problems,
        notes=notes,
    )
    return schema, faults.found


def _check_memory(sizes: Mapping[int, Size], records: Sequence[Sequence[Annotation]], faults: Faults) -> None:
    for (image_id, (height, width)), objects in zip(sizes.items(), records, strict=True):
        if height * width * len(objects) > _MAX_MASK_BYTES:
            what = f"{len(objects)} objects of {width}x{height} px"
            faults.add(
                "masks too large", f"image {image_id}", f"expected masks of 8 GiB or less in an image, got {what}"
            )


def _with_unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Category names by id; a name that several categories share gets the id behind it."""
    given = list(names.values())
    twice = {name for name in given if given.count(name) > 1} if len(set(given)) < len(given) else set()
    return {key: f"{name} ({key})" if name in twice else name for key, name in names.items()}


def _match_categories(
    name_of: Mapping[int, str], class_names: Sequence[str] | None, faults: Faults
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = list(name_of.values())
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        faults.add("category name twice", "", f"category names occur more than once: {few(twice)}")
    elif class_names is not None:
        wanted = tuple(class_names)
        id_of = {name: category_id for category_id, name in name_of.items()}
        if len(set(wanted)) == len(wanted) and set(wanted) == set(id_of):
            return wanted, tuple(id_of[name] for name in wanted)
        told = f"\n  class names: {', '.join(wanted)}\n  categories:  {', '.join(id_of)}"
        faults.add("class names", "", f"the categories do not match the class names{told}")
    category_ids = tuple(sorted(name_of))
    return tuple(name_of[category_id] for category_id in category_ids), category_ids


def _as_key(value: Any) -> str:
    """An id as text, so that "7" and 7.0 stand for 7."""
    number = whole_number(value)
    return value[:80] if isinstance(value, str) else shown(value if number is None else number)


def _lost_ids(entries: Sequence[tuple[int, Mapping[str, Any]]], read: Iterable[int]) -> set[str]:
    """Ids of the entries that were not read, as text."""
    return {_as_key(entry.get("id")) for _, entry in entries} - set(map(_as_key, read))


def _is_orphaned(annotation: Mapping[str, Any], lost_ids: Mapping[str, set[str]]) -> bool:
    return any(lost and _as_key(annotation.get(key)) in lost for key, lost in lost_ids.items())


def _sizes(images: Mapping[int, ImageEntry], annotations: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[int, Size]:
    """(H, W) of each image; where it is not stated, that of its run-length codes."""
    sizes = {image_id: image.size or _NO_SIZE for image_id, image in images.items()}
    if _NO_SIZE in sizes.values():
        for _, entry in annotations:
            image_id, segmentation = whole_number(entry.get("image_id")), entry.get("segmentation")
            if sizes.get(-1 if image_id is None else image_id) == _NO_SIZE and isinstance(segmentation, Mapping):
                size = rle_size(segmentation.get("size"))
                if size is not None and image_id is not None:
                    sizes[image_id] = size
    return sizes


class _Reader:
    """Reads annotations one by one.

    Attributes:
        records: annotations of each image.
        problems: what was dropped or repaired in them.

    """

    def __init__(
        self,
        images: Mapping[int, Size],
        category_ids: Sequence[int],
        faults: Faults,
        *,
        is_strict: bool,
        needs_masks: bool,
    ) -> None:
        self._images, self._faults = images, faults
        self._is_strict, self._needs_masks = is_strict, needs_masks
        self._label_of = {category_id: label for label, category_id in enumerate(category_ids)}
        self._index_of = {image_id: index for index, image_id in enumerate(images)}
        self._seen: set[int] = set()
        self.records: list[list[Annotation]] = [[] for _ in images]
        self.problems: list[AnnotationProblem] = []

    def read(self, entries: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Take annotations, each with its position."""
        for position, entry in entries:
            try:
                image_id, annotation, messages = self._read_one(position, entry)
            except Flaw as flaw:
                where = f"image {_place(entry.get('image_id'))} annotation {_place(entry.get('id'))}"
                if flaw.kind == "annotation key":
                    where = f"annotations[{position}] ({where})"
                self._faults.add(flaw.kind, where, flaw.reason)
                continue
            self.problems += [AnnotationProblem(image_id, annotation.annotation_id, message) for message in messages]
            if annotation.label >= 0 and (annotation.segmentation or self._is_box(annotation)):
                self.records[self._index_of[image_id]].append(annotation)

    def _is_box(self, annotation: Annotation) -> bool:
        return not self._needs_masks and annotation.bbox is not None

    def _read_one(self, position: int, entry: Mapping[str, Any]) -> tuple[int, Annotation, list[str]]:
        """Id of the image, the annotation with its usable parts, and messages about the other parts.

        The label is -1 if the annotation belongs to nothing in the file.
        """
        for key in ("id", "image_id", "category_id") if self._is_strict else ("image_id", "category_id"):
            if key not in entry:
                raise Flaw("annotation key", f"key {key!r} is missing")
        annotation_id = self._id_of(entry, position)
        image_id = whole_number(entry["image_id"])
        size = None if image_id is None else self._images.get(image_id)
        if image_id is None or size is None:
            text = f"no image has the id {shown(entry['image_id'])}"
            if self._is_strict or image_id is None:
                raise Flaw("unknown image", text)
            return image_id, Annotation(annotation_id, -1, False, None, []), [f"{text}, left out"]
        category_id = whole_number(entry["category_id"])
        label = None if category_id is None else self._label_of.get(category_id)
        if label is None:
            text = f"unknown category_id {shown(entry['category_id'])}, the file's categories are "
            text += few(list(self._label_of))
            if self._is_strict or category_id is None:
                raise Flaw("unknown category", text)
            return image_id, Annotation(annotation_id, -1, False, None, []), [f"{text}, left out"]
        bbox = read_box(entry.get("bbox"))
        area, messages = _read_area(entry.get("area"))
        is_crowd = entry.get("iscrowd")
        if is_crowd not in (None, 0, 1):
            raise Flaw("iscrowd", f"expected iscrowd 0 or 1, got {shown(is_crowd)}")
        source = entry.get("mask_source")
        mask_source = source if isinstance(source, str) else ""
        annotation = Annotation(annotation_id, label, bool(is_crowd), bbox, [], area, mask_source)
        segmentation = entry.get("segmentation")
        if segmentation is None or (isinstance(segmentation, Sequence | Mapping) and not len(segmentation)):
            dropped = [] if self._is_box(annotation) else ["no segmentation, dropped"]
            return image_id, annotation, [*messages, *dropped]
        usable, more = _read_segmentation(segmentation, size)
        return image_id, annotation._replace(segmentation=usable), [*messages, *more]

    def _id_of(self, entry: Mapping[str, Any], position: int) -> int:
        annotation_id = whole_number(entry.get("id"))
        if not self._is_strict:
            return position + 1 if annotation_id is None else annotation_id
        if annotation_id is None:
            raise Flaw("annotation id", f"expected an integer annotation id, got {shown(entry['id'])}")
        if annotation_id in self._seen:
            raise Flaw("annotation id twice", "the annotation id occurs twice")
        self._seen.add(annotation_id)
        return annotation_id


def _place(value: Any) -> str:
    return value[:20] if isinstance(value, str) else shown(value)


def read_box(bbox: Any) -> Box | None:
    """A box [x, y, w, h] of a file in floats, which may be infinite or NaN; None if there is none.

    Raises:
        Flaw: it is something else.

    """
    if bbox is None:
        return None
    if isinstance(bbox, Sequence) and not isinstance(bbox, str) and len(bbox) == 4:
        if {*map(type, bbox)} == {float}:
            return (bbox[0], bbox[1], bbox[2], bbox[3])
        # NaN and infinity are numbers that a file may hold; the mask says the box then.
        x, y, w, h = (value if type(value) is float else finite_number(value) for value in bbox)
        if x is not None and y is not None and w is not None and h is not None:
            return (x, y, w, h)
    raise Flaw("bbox", f"expected a bbox of four numbers [x, y, w, h], got {shown(bbox)}")


def _read_area(area: Any) -> tuple[float | None, list[str]]:
    if area is None:
        return None, []
    number = finite_number(area)
    if number is None or number < 0:
        return None, [f"area {shown(area)} is not an area, taken from the mask"]
    return number, []


def _read_segmentation(segmentation: Any, size: Size) -> tuple[list[list[float]] | dict[str, Any], list[str]]:
    """The parts of a segmentation that can be rasterised, and messages about the others."""
    if isinstance(segmentation, Mapping):
        return _read_rle(segmentation, size)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        reason = f"expected a segmentation of polygons or an RLE with size and counts, got {shown(segmentation)}"
        raise Flaw("RLE", reason)
    if size == _NO_SIZE:
        raise Flaw("image size", "the image has no width and height, which an outline needs")
    return _read_polygons(segmentation)


def _read_polygons(segmentation: Sequence[Any]) -> tuple[list[list[float]], list[str]]:
    parts = [_read_polygon(part) for part in segmentation]
    kept = [part for part in parts if len(part) >= 6 and len(part) % 2 == 0]
    if len(kept) == len(parts):
        return kept, []
    dropped = next(len(part) for part in parts if len(part) < 6 or len(part) % 2)
    what = f"polygon of {dropped} numbers (expected at least 3 points), dropped"
    return kept, [what if not kept else f"{what}; {len(kept)} other parts kept"]


def _read_polygon(part: Any) -> list[float]:
    if isinstance(part, list) and {*map(type, part)} <= {int, float}:
        return part
    if isinstance(part, Sequence) and not isinstance(part, str):
        numbers = [value if type(value) is float else finite_number(value) for value in part]
        if all(value is not None for value in numbers):
            return [value for value in numbers if value is not None]
        pairs = all(isinstance(point, Sequence) and not isinstance(point, str) and len(point) == 2 for point in part)
        got = "pairs [[x1, y1], ...]" if pairs else shown(part)
    else:
        got = shown(part)
    raise Flaw("polygons", f"expected polygons as lists [x1, y1, x2, y2, ...], got {got}")


def _read_rle(segmentation: Mapping[str, Any], image_size: Size) -> tuple[dict[str, Any], list[str]]:
    if not {"size", "counts"} <= segmentation.keys():
        raise Flaw(
            "RLE", f"expected a segmentation of polygons or an RLE with size and counts, got {shown(segmentation)}"
        )
    size, counts = rle_size(segmentation["size"]), segmentation["counts"]
    if size is None:
        raise Flaw("RLE size", f"expected an RLE size [height, width], got {shown(segmentation['size'])}")
    if image_size != _NO_SIZE and size[0] * size[1] > _RLE_SCALE * image_size[0] * image_size[1] + _RLE_PIXELS:
        raise Flaw("RLE size", f"expected an RLE of an image of {wxh(image_size)} px, got one of {wxh(size)} px")
    if isinstance(counts, Sequence) and not isinstance(counts, str | bytes):
        numbers = [whole_number(count) for count in counts]
        lengths = [number for number in numbers if number is not None and number >= 0]
        if len(lengths) < len(numbers) or sum(lengths) != size[0] * size[1]:
            pixels = f"{size[0]} x {size[1]} = {size[0] * size[1]}"
            raise Flaw("RLE counts", f"expected RLE counts that sum to {pixels}")
        counts = lengths
    elif not isinstance(counts, str | bytes):
        raise Flaw("RLE counts", f"expected RLE counts as a list or a string, got {type(counts).__name__}")
    messages = [] if image_size in (size, _NO_SIZE) else [f"the RLE is {wxh(size)} px, the JSON says {wxh(image_size)}"]
    return {"size": [*size], "counts": counts}, messages


def rle_size(size: Any) -> Size | None:
    """(H, W) of a run-length code; None if it is not the size of an image."""
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        height, width = map(whole_number, size)
        if height is not None and width is not None and min(height, width) > 0 and height * width <= max_pixels():
            return height, width
    return None


def wxh(size: Size) -> str:
    """A size (H, W) as text, width first."""
    return f"{size[1]}x{size[0]}"
