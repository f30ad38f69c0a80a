"""COCO instance annotations as a dataset of (image, :class:`Target`), strict about structure and tolerant of noise.

The whole annotation file is checked once when the dataset is made; masks are decoded when an image is asked for.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from protomask.errors import DataError
from protomask.ops.masks import Rle
from protomask.structures.image import to_rgb_array
from protomask.structures.instances import Target

Sample = tuple[Tensor, Target]
_Box = tuple[float, float, float, float]
_Rle = dict[str, Any]  # {"size": [h, w], "counts": bytes}

_NAMED = 5  # how many items a message names before it only counts
MAX_COORDINATE = 1e5  # px; the rasteriser walks along every edge, so a stray 1e9 would never end
_MAX_PIXELS = 2**31 - 1  # what run-length codes can count, and far more than any picture that can be read
_BOX_OVERHANG = 1.0  # px outside the image that rounding explains
_BOX_SLACK = 8.0  # px: thin slivers do not rasterise, so good boxes may be this much larger than their mask
_BOX_MIN_IOU = 0.5
# Six bits per character, from "0" on; bit 5 says that the number goes on, so it is clear in the last one.
_RLE_COUNTS = re.compile("[0-o]*[0-O]")


class DataWarning(UserWarning):
    """Annotations that were dropped or repaired; the message counts them and names the first few."""


class Fault(DataError):
    """What contradicts the format or itself in an annotation file.

    Attributes:
        kind: short name of the broken rule, the same for everything that breaks it.
        where: place in the file: ids, or key and position; empty for the file itself.
        reason: expected and got.
        items: what it is about where that is more than one thing.

    """

    def __init__(self, file: Path, kind: str, where: str, reason: str, items: Sequence[str] = ()) -> None:
        super().__init__(": ".join(filter(None, (str(file), where, reason))))
        self.kind, self.where, self.reason, self.items = kind, where, reason, tuple(items)


class _Flaw(Exception):
    """A `Fault` on its way to those who know where it is."""

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


@dataclass(frozen=True, kw_only=True)
class DatasetPaths:
    """Where the two splits of a dataset lie; all four exist."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def open_dataset(path: str | Path) -> DatasetPaths:
    """Find the four parts of a dataset.

    Args:
        path: a folder with ``annotations/{train,val}.json`` and ``images/{train,val}/``, or a YAML file with exactly
            the keys ``train_annotations``, ``train_images``, ``val_annotations``, ``val_images`` (paths relative to the
            YAML).

    Raises:
        DataError: a part is missing; the message names the path expected.

    """
    path = Path(path)
    if path.is_dir():
        parts = {
            f"{split}_{kind}": path / kind / (f"{split}.json" if kind == "annotations" else split)
            for split in ("train", "val")
            for kind in ("annotations", "images")
        }
    elif path.suffix.lower() in (".yaml", ".yml"):
        parts = _read_dataset_yaml(path)
    else:
        raise DataError(
            f"dataset {path}: expected a folder with annotations/{{train,val}}.json and images/{{train,val}}/, "
            f"or a .yaml file naming these four paths; got "
            f"{'a file of another kind' if path.exists() else 'a path that does not exist'}"
        )
    for name, part in parts.items():
        is_there = part.is_file() if name.endswith("annotations") else part.is_dir()
        if not is_there:
            kind = "file" if name.endswith("annotations") else "folder"
            raise DataError(f"dataset {path}: {name} is missing, expected the {kind} {part}")
    return DatasetPaths(**parts)


def _read_dataset_yaml(path: Path) -> dict[str, Path]:
    import yaml

    expected = list(DatasetPaths.__dataclass_fields__)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"dataset {path}: cannot be read as YAML: {error}") from error
    keys = sorted(map(str, content)) if isinstance(content, dict) else []
    if keys != sorted(expected) or not all(isinstance(content[key], str) for key in keys):
        got = keys if isinstance(content, dict) else type(content).__name__
        raise DataError(f"dataset {path}: expected the keys {expected}, each with one path; got {got}")
    return {key: path.parent / content[key] for key in expected}


class Annotation(NamedTuple):
    """One object as the file has it: ``label`` is 0-based, ``segmentation`` polygons in px or an RLE."""

    annotation_id: int
    label: int
    is_crowd: bool
    bbox: _Box | None  # x, y, w, h as in the file
    segmentation: list[list[float]] | dict[str, Any]


class EncodedObject(NamedTuple):
    """One annotation that can be used: its mask as compressed RLE, its box xyxy, both in px of the same frame."""

    annotation: Annotation
    rle: _Rle
    box: _Box


class CocoDataset(Dataset[Sample]):
    """The images of one COCO instance JSON, in the file's order, images without objects included.

    ``dataset[i]`` is ``(image, target)``: image (3, H, W) uint8 RGB, 0..255; target in px of that image, annotations in
    the file's order.

    Polygons (multi-part too), compressed and uncompressed RLE, and crowds are read. Boxes are the file's
    ``[x, y, x + w, y + h]``, unclipped, and those of the mask where the file's are not sane. Pixels and annotations
    share the frame stated in the JSON: EXIF orientation is applied only if it, and not the stored size, leads there.

    Annotations that cannot be used (empty mask, fewer than three points) are dropped, repairable ones (box outside the
    image or far from its mask, image file of another size) repaired. What the file alone tells is in ``problems`` and
    in one :class:`DataWarning` when the dataset is made; what only decoding tells is in :meth:`load_target` and warned
    about once.

    Args:
        annotation_file: COCO instance JSON.
        image_dir: folder of the images. ``file_name`` may hold subfolders of it; they are also found without them.
        class_names: names in label order; categories are matched by name. By default the file's categories in order of
            their ids.
        faults: takes what would be raised about single entries, which are left out, or about class names and missing
            files; nothing is warned about then.

    Attributes:
        class_names: name of each label, 0-based, background excluded.
        category_ids: the file's category id of each label.
        image_ids: the file's image id of each item.
        problems: what was dropped or repaired on sight of the file.

    Raises:
        DataError: the annotation file cannot be read, is not COCO instance JSON or contradicts itself, or image files
            are missing; the message names file, image id and annotation id.

    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        *,
        class_names: Sequence[str] | None = None,
        faults: list[Fault] | None = None,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        content = read_json(self.annotation_file, "images, annotations and categories")
        images, categories, annotations = (
            _entries(content, key, self.annotation_file, faults) for key in ("images", "categories", "annotations")
        )
        self.class_names, self.category_ids = _match_categories(categories, class_names, self.annotation_file, faults)
        self.image_ids, self._image_sizes, file_names = _read_images(images, self.annotation_file, faults)
        self._image_files = _find_images(file_names, self.image_dir, self.annotation_file, faults)
        # What belongs to an entry left out is no fault of its own.
        orphaned = (_ids(images, self.image_ids), _ids(categories, self.category_ids))
        records, problems = self._read_annotations(annotations, orphaned, faults)
        self.problems: tuple[AnnotationProblem, ...] = tuple(problems)
        # One buffer instead of millions of Python objects: worker processes share it, and it is small.
        packed = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        self._offsets = np.cumsum([0, *map(len, packed)])
        self._records = np.frombuffer(b"".join(packed), dtype=np.uint8)
        self._num_annotations = sum(map(len, records))
        self._warned = False
        if faults is None:
            _warn(self.annotation_file, problems)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_annotations(self) -> int:
        """Well-formed annotations of all images."""
        return self._num_annotations

    def __getitem__(self, index: int) -> Sample:
        image = self.load_image(index)
        target, problems = self.load_target(index, (image.shape[1], image.shape[2]))
        if problems and not self._warned:
            self._warned = True
            _warn(self.annotation_file, problems, "; more of this kind are repaired without a word")
        return image, target

    def keep_first(self, count: int) -> None:
        """Forget all but the first ``count`` images."""
        self.image_ids = self.image_ids[:count]
        self._image_sizes = self._image_sizes[:count]
        self._image_files = self._image_files[:count]

    def image_path(self, index: int) -> Path:
        """File of item ``index``."""
        return self.image_dir / self._image_files[index]

    def load_image(self, index: int) -> Tensor:
        """Pixels of item ``index``: (3, H, W) uint8 RGB, 0..255.

        Raises:
            DataError: the file cannot be decoded.

        """
        path = self.image_path(index)
        height, width = self._image_sizes[index]
        try:
            with Image.open(path) as opened:
                image: Image.Image = opened
                if image.size != (width, height):
                    upright = ImageOps.exif_transpose(image)
                    image = upright if upright.size == (width, height) else image
                pixels = to_rgb_array(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: image {self.image_ids[index]} cannot be read: {error}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def image_size(self, index: int) -> tuple[int, int]:
        """(H, W) of item ``index`` as the JSON states it."""
        return self._image_sizes[index]

    def load_annotations(self, index: int) -> list[Annotation]:
        """Annotations of item ``index`` as the file has them, less what ``problems`` says was dropped."""
        annotations: list[Annotation] = pickle.loads(
            self._records[self._offsets[index] : self._offsets[index + 1]].data
        )
        return annotations

    def load_target(
        self, index: int, image_size: tuple[int, int] | None = None
    ) -> tuple[Target, list[AnnotationProblem]]:
        """Truth of item ``index``, and what had to be dropped or repaired to decode it.

        Args:
            index: item.
            image_size: (H, W) of the pixels, by default what the JSON says. Annotations of another size are scaled to
                it if they have its aspect ratio (the image was resized), else cut or padded at the right and bottom.

        Raises:
            DataError: an RLE cannot be decoded.

        """
        image_id = self.image_ids[index]
        size = self._image_sizes[index] if image_size is None else image_size
        kept, problems = self.encode_objects(index, size)
        masks = torch.zeros((0, *size), dtype=torch.bool)
        if kept:
            try:
                masks = torch.from_numpy(decode_masks([item.rle for item in kept]))
            except ValueError:
                for item in kept:
                    try:
                        decode_masks([item.rle])
                    except ValueError as error:
                        raise self._undecodable(image_id, item.annotation, error) from error
                raise
        target = Target(
            boxes=torch.tensor([item.box for item in kept], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([item.annotation.label for item in kept], dtype=torch.int64),
            masks=masks,
            is_crowd=torch.tensor([item.annotation.is_crowd for item in kept], dtype=torch.bool),
            image_size=size,
            image_id=image_id,
        )
        return target, problems

    def encode_objects(
        self, index: int, size: tuple[int, int], faults: list[Fault] | None = None
    ) -> tuple[list[EncodedObject], list[AnnotationProblem]]:
        """The annotations of item ``index`` that can be used, on the frame ``size`` (H, W), and what was repaired.

        Raises:
            Fault: a segmentation cannot be encoded; with ``faults`` it is put there, and the annotation left out.

        """
        image_id, stated_size = self.image_ids[index], self._image_sizes[index]
        problems: list[AnnotationProblem] = []
        if size != stated_size:
            problems.append(
                AnnotationProblem(image_id, None, f"the file is {wxh(size)} px, the JSON says {wxh(stated_size)}")
            )
        kept: list[EncodedObject] = []
        for annotation in self.load_annotations(index):
            try:
                rle = _encode(annotation.segmentation, stated_size, size)
            except (ValueError, TypeError, OverflowError) as error:
                _refuse(self._undecodable(image_id, annotation, error), faults)
                continue
            mask_box = None if rle is None else box_of_rle(rle)
            if rle is None or mask_box is None:
                reason = "coordinates are not finite or absurdly large" if rle is None else "empty mask"
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, f"{reason}, dropped"))
                continue
            box, message = _choose_box(annotation.bbox, mask_box, stated_size, size)
            if message:
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, message))
            kept.append(EncodedObject(annotation, rle, box))
        return kept, problems

    def _undecodable(self, image_id: int, annotation: Annotation, error: Exception) -> Fault:
        where = f"image {image_id} annotation {annotation.annotation_id}"
        return Fault(self.annotation_file, "segmentation", where, f"segmentation cannot be decoded: {error}")

    def _read_annotations(
        self, entries: list[dict[str, Any]], orphaned: tuple[set[str], set[str]], faults: list[Fault] | None
    ) -> tuple[list[list[Annotation]], list[AnnotationProblem]]:
        """Group the annotations by image, in one pass; raise on structure, report noise."""
        label_of = {category_id: label for label, category_id in enumerate(self.category_ids)}
        index_of = {image_id: index for index, image_id in enumerate(self.image_ids)}
        records: list[list[Annotation]] = [[] for _ in self.image_ids]
        problems: list[AnnotationProblem] = []
        seen: set[int] = set()
        for position, entry in enumerate(entries):
            where = f"image {entry.get('image_id')} annotation {entry.get('id')}"
            if faults is not None and any(
                str(entry.get(key)) in ids for key, ids in zip(("image_id", "category_id"), orphaned, strict=True)
            ):
                continue
            try:
                index, annotation, messages = self._read_annotation(entry, seen, index_of, label_of)
            except _Flaw as flaw:
                if flaw.kind == "annotation key":
                    where = f"annotations[{position}] ({where})"
                _refuse(Fault(self.annotation_file, flaw.kind, where, flaw.reason), faults)
                continue
            image_id = self.image_ids[index]
            problems += [AnnotationProblem(image_id, annotation.annotation_id, message) for message in messages]
            if annotation.segmentation:
                records[index].append(annotation)
        return records, problems

    def _read_annotation(
        self, entry: Mapping[str, Any], seen: set[int], index_of: Mapping[int, int], label_of: Mapping[int, int]
    ) -> tuple[int, Annotation, list[str]]:
        """Index of its image, the annotation with the parts that can be used, and what to say about the others."""
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
        index = index_of.get(image_id) if type(image_id) is int else None
        if index is None:
            raise _Flaw("unknown image", f"no image has the id {image_id!r}")
        label = label_of.get(category_id) if type(category_id) is int else None
        if label is None:
            known = _few(self.category_ids)
            raise _Flaw("unknown category", f"unknown category_id {category_id!r}, the file's categories are {known}")
        bbox = entry.get("bbox")
        if bbox is not None:
            if not (isinstance(bbox, list) and len(bbox) == 4 and set(map(type, bbox)) <= {int, float}):
                raise _Flaw("bbox", f"expected a bbox of four numbers [x, y, w, h], got {bbox!r}")
            bbox = (float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3]))
        if isinstance(segmentation, list):
            segmentation, messages = _check_polygons(segmentation)
        else:
            messages = _check_rle(segmentation, self._image_sizes[index])
        is_crowd = entry.get("iscrowd") or 0
        if is_crowd not in (0, 1):
            raise _Flaw("iscrowd", f"expected iscrowd 0 or 1, got {is_crowd!r}")
        return index, Annotation(annotation_id, label, bool(is_crowd), bbox, segmentation), messages


def _refuse(fault: Fault, faults: list[Fault] | None) -> None:
    if faults is None:
        raise fault
    faults.append(fault)


def _ids(entries: Sequence[Mapping[str, Any]], read: Sequence[int]) -> set[str]:
    """As texts, so that "7" stands for 7, the ids of entries without those that were read."""
    return {str(entry.get("id")) for entry in entries} - set(map(str, read))


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file; ``expected`` says what it should have.

    Raises: DataError naming file, line and column.

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


def _entries(content: Mapping[str, Any], key: str, file: Path, faults: list[Fault] | None) -> list[dict[str, Any]]:
    if key not in content:
        reason = f"key {key!r} is missing, a COCO instance JSON has images, annotations and categories"
        raise Fault(file, "annotation file", "", reason)
    entries = content[key]
    if not isinstance(entries, list):
        raise Fault(file, "annotation file", "", f"expected {key!r} to be a list, got {type(entries).__name__}")
    kept = []
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            kept.append(entry)
        else:
            got = type(entry).__name__
            _refuse(Fault(file, "entry", "", f"expected {key}[{position}] to be an object, got {got}"), faults)
    return kept


def _match_categories(
    categories: list[dict[str, Any]], class_names: Sequence[str] | None, file: Path, faults: list[Fault] | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    name_of: dict[int, str] = {}
    for position, category in enumerate(categories):
        category_id, name = category.get("id"), category.get("name")
        if type(category_id) is not int or not isinstance(name, str):
            reason = f"expected an integer id and a name, got {category!r}"
            _refuse(Fault(file, "category", f"categories[{position}]", reason), faults)
        elif category_id in name_of:
            _refuse(Fault(file, "category id twice", "", f"category id {category_id} occurs twice"), faults)
        else:
            name_of[category_id] = name
    names = list(name_of.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        reason = f"category names occur more than once: {_few(twice)}"
        _refuse(Fault(file, "category name twice", "", reason), faults)
    elif class_names is not None:
        wanted = tuple(class_names)
        id_of = {name: category_id for category_id, name in name_of.items()}
        if len(set(wanted)) == len(wanted) and set(wanted) == set(id_of):
            return wanted, tuple(id_of[name] for name in wanted)
        shown = f"\n  class names: {', '.join(wanted)}\n  categories:  {', '.join(id_of)}"
        _refuse(Fault(file, "class names", "", f"the categories do not match the class names{shown}"), faults)
    category_ids = tuple(sorted(name_of))
    return tuple(name_of[category_id] for category_id in category_ids), category_ids


def _read_images(
    images: list[dict[str, Any]], file: Path, faults: list[Fault] | None
) -> tuple[tuple[int, ...], list[tuple[int, int]], list[str]]:
    """Ids, sizes (H, W) and file names, in the file's order."""
    sizes: dict[int, tuple[int, int]] = {}
    names: list[str] = []
    for position, entry in enumerate(images):
        try:
            image_id, size, name = _read_image(entry, sizes)
        except _Flaw as flaw:
            where = f"images[{position}] (image {entry.get('id')})"
            _refuse(Fault(file, flaw.kind, where, flaw.reason), faults)
        else:
            sizes[image_id] = size
            names.append(name)
    return tuple(sizes), list(sizes.values()), names


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
        raise _Flaw("image size", f"expected the width and height of a picture, got {width!r} and {height!r}")
    return image_id, (int(height), int(width)), name


def _find_images(file_names: list[str], image_dir: Path, file: Path, faults: list[Fault] | None) -> list[str]:
    """Path of each image relative to ``image_dir``; each folder is listed once instead of asking for every file."""
    if not image_dir.is_dir():
        reason = f"expected the images in the folder {image_dir}, which does not exist"
        raise Fault(file, "image folder", "", reason)
    listings: dict[str, set[str]] = defaultdict(set)
    listed: set[str] = set()

    def exists(path: PurePosixPath) -> bool:
        folder = str(path.parent)
        if folder not in listed:
            listed.add(folder)
            if (image_dir / folder).is_dir():
                with os.scandir(image_dir / folder) as entries:
                    listings[folder] = {entry.name for entry in entries}
        return path.name in listings[folder]

    found: list[str] = []
    missing: list[str] = []
    for name in file_names:
        path = PurePosixPath(name.replace("\\", "/"))
        choice = next((candidate for candidate in (path, PurePosixPath(path.name)) if exists(candidate)), None)
        if choice is None:
            missing.append(name)
        found.append(str(choice or path))
    if missing:
        reason = f"{len(missing)} of {len(file_names)} image files are missing in {image_dir}: {_few(missing)}"
        _refuse(Fault(file, "missing files", "", reason, missing), faults)
    return found


def _check_polygons(segmentation: list[Any]) -> tuple[list[list[float]], list[str]]:
    """The parts that can be rasterised, and what to say about the others."""
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


def encode_segmentation(segmentation: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> Rle | None:
    """Run-length code of a COCO segmentation, rasterised as the COCO API does.

    Args:
        segmentation: polygons in px, each with 3 points or more, or an RLE (of another size: it is scaled, cut or
            padded as :meth:`CocoDataset.load_target` says).
        size: (H, W) of the image.

    Returns:
        The code in the frame ``size``; None where coordinates are not finite or absurdly large.

    Raises: ValueError for an RLE that cannot be decoded.

    """
    encoded = _encode(segmentation, size, size)
    return None if encoded is None else Rle(size=[*size], counts=encoded["counts"].decode("ascii"))


def _encode(
    segmentation: list[list[float]] | dict[str, Any], stated_size: tuple[int, int], size: tuple[int, int]
) -> _Rle | None:
    """Compressed RLE in the frame ``size``; None where polygon coordinates cannot be rasterised."""
    from pycocotools import mask as mask_codec

    encoded: _Rle
    if not isinstance(segmentation, dict):
        if not all(abs(value) <= MAX_COORDINATE for part in segmentation for value in part):
            return None
        encoded = mask_codec.merge(mask_codec.frPyObjects(segmentation, *stated_size))
    elif isinstance(segmentation["counts"], list):
        encoded = mask_codec.frPyObjects(segmentation, *segmentation["size"])
    elif _RLE_COUNTS.fullmatch(segmentation["counts"]):
        encoded = {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}
    else:
        raise ValueError("the RLE counts are not a COCO run-length string")
    return encoded if tuple(encoded["size"]) == size else _fit(encoded, size)


def decode_masks(encoded: list[_Rle]) -> NDArray[np.bool_]:
    """Masks (N, H, W) of one size; each is stored column by column, as RLE has it.

    Raises:
        ValueError: a code is damaged.

    """
    from pycocotools import mask as mask_codec

    masks: NDArray[np.bool_] = mask_codec.decode(encoded).view(np.bool_).transpose(2, 0, 1)
    return masks


def box_of_rle(rle: Mapping[str, Any]) -> _Box | None:
    """Tight box (x1, y1, x2, y2) of a compressed code, px, right and bottom exclusive; None of an empty mask."""
    from pycocotools import mask as mask_codec

    x, y, w, h = mask_codec.toBbox(rle).tolist()
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def _fit(rle: _Rle, size: tuple[int, int]) -> _Rle:
    """The same mask on another frame: scaled to it if that has its aspect ratio, else cut or padded."""
    from pycocotools import mask as mask_codec

    mask = decode_masks([rle])[0]
    height, width = size
    if same_aspect((mask.shape[0], mask.shape[1]), size):
        image = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        fitted = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    else:
        fitted = np.zeros(size, dtype=np.bool_)
        part = mask[:height, :width]
        fitted[: part.shape[0], : part.shape[1]] = part
    result: _Rle = mask_codec.encode(np.asfortranarray(fitted.view(np.uint8)))
    return result


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other, scaled and rounded to whole px."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)


def _choose_box(
    bbox: _Box | None, mask_box: _Box, stated_size: tuple[int, int], size: tuple[int, int]
) -> tuple[_Box, str | None]:
    """Box xyxy in the frame of ``size``: the file's where it is sane, else the mask's, with the reason."""
    if bbox is None:
        return mask_box, None
    x, y, w, h = bbox
    if not (all(map(math.isfinite, bbox)) and w > 0 and h > 0):
        return mask_box, f"bbox {list(bbox)} has no area, taken from the mask"
    x_scale = y_scale = 1.0
    if size != stated_size and same_aspect(stated_size, size):
        y_scale, x_scale = size[0] / stated_size[0], size[1] / stated_size[1]
    box = (x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale)
    if _disagrees(box, mask_box):
        return mask_box, f"bbox {list(bbox)} disagrees with the mask, taken from the mask"
    height, width = size
    overhang = max(-box[0], -box[1], box[2] - width, box[3] - height)
    if overhang > _BOX_OVERHANG:
        clipped = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
        return clipped, f"bbox {list(bbox)} reaches outside the image, clipped"
    return box, None


def _disagrees(box: _Box, mask_box: _Box) -> bool:
    if max(abs(a - b) for a, b in zip(box, mask_box, strict=True)) <= _BOX_SLACK:
        return False
    overlap_w = min(box[2], mask_box[2]) - max(box[0], mask_box[0])
    overlap_h = min(box[3], mask_box[3]) - max(box[1], mask_box[1])
    overlap = max(overlap_w, 0.0) * max(overlap_h, 0.0)
    union = (box[2] - box[0]) * (box[3] - box[1]) + (mask_box[2] - mask_box[0]) * (mask_box[3] - mask_box[1]) - overlap
    return overlap < _BOX_MIN_IOU * union


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def wxh(size: tuple[int, int]) -> str:
    """(H, W) as people write it."""
    return f"{size[1]}x{size[0]}"


def _few(items: Sequence[object]) -> str:
    more = f", and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(map(str, items[:_NAMED])) + more


def _warn(file: Path, problems: Sequence[AnnotationProblem], note: str = "") -> None:
    if problems:
        shown = "; ".join(map(str, problems[:_NAMED]))
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        warnings.warn(f"{file}: {len(problems)} annotation problems: {shown}{more}{note}", DataWarning, stacklevel=3)
