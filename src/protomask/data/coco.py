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
from collections.abc import Callable, Mapping, Sequence
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
SampleTransform = Callable[[Tensor, Target], Sample]
_Box = tuple[float, float, float, float]
_Rle = dict[str, Any]  # {"size": [h, w], "counts": bytes}

_NAMED = 5  # how many items a message names before it only counts
_MAX_COORDINATE = 1e5  # px; the rasteriser walks along every edge, so a stray 1e9 would never end
_BOX_OVERHANG = 1.0  # px outside the image that rounding explains
_BOX_SLACK = 8.0  # px: thin slivers do not rasterise, so good boxes may be this much larger than their mask
_BOX_MIN_IOU = 0.5
# Six bits per character, from "0" on; bit 5 says that the number goes on, so it is clear in the last one.
_RLE_COUNTS = re.compile("[0-o]*[0-O]")


class DataWarning(UserWarning):
    """Annotations that were dropped or repaired; the message counts them and names the first few."""


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


class CocoDataset(Dataset[Sample]):
    """The images of one COCO instance JSON, in the file's order, images without objects included.

    ``dataset[i]`` is ``(image, target)``: image (3, H, W) uint8 RGB, 0..255; target in px of that image, annotations in
    the file's order. With ``transform`` it is ``transform(image, target)``.

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
        transform: called with every image and target.
        class_names: names in label order; categories are matched by name. By default the file's categories in order of
            their ids.

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
        transform: SampleTransform | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.transform = transform
        content = read_json(self.annotation_file, "images, annotations and categories")
        images = _entries(content, "images", self.annotation_file)
        categories = _entries(content, "categories", self.annotation_file)
        self.class_names, self.category_ids = _match_categories(categories, class_names, self.annotation_file)
        self.image_ids, self._image_sizes, file_names = _read_images(images, self.annotation_file)
        self._image_files = _find_images(file_names, self.image_dir, self.annotation_file)
        records, problems = self._read_annotations(_entries(content, "annotations", self.annotation_file))
        self.problems: tuple[AnnotationProblem, ...] = tuple(problems)
        # One buffer instead of millions of Python objects: worker processes share it, and it is small.
        packed = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        self._offsets = np.cumsum([0, *map(len, packed)])
        self._records = np.frombuffer(b"".join(packed), dtype=np.uint8)
        self._warned = False
        _warn(self.annotation_file, problems)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        image = self.load_image(index)
        target, problems = self.load_target(index, (image.shape[1], image.shape[2]))
        if problems and not self._warned:
            self._warned = True
            _warn(self.annotation_file, problems, "; more of this kind are repaired without a word")
        return (image, target) if self.transform is None else self.transform(image, target)

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
        image_id, stated_size = self.image_ids[index], self._image_sizes[index]
        size = stated_size if image_size is None else image_size
        problems: list[AnnotationProblem] = []
        if size != stated_size:
            problems.append(
                AnnotationProblem(image_id, None, f"the file is {_wxh(size)} px, the JSON says {_wxh(stated_size)}")
            )
        annotations = self.load_annotations(index)
        kept: list[Annotation] = []
        encoded: list[_Rle] = []
        boxes: list[_Box] = []
        for annotation in annotations:
            try:
                rle = _encode(annotation.segmentation, stated_size, size)
            except (ValueError, TypeError, OverflowError) as error:
                raise self._undecodable(image_id, annotation, error) from error
            mask_box = None if rle is None else box_of_rle(rle)
            if rle is None or mask_box is None:
                reason = "coordinates are not finite or absurdly large" if rle is None else "empty mask"
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, f"{reason}, dropped"))
                continue
            box, message = _choose_box(annotation.bbox, mask_box, stated_size, size)
            if message:
                problems.append(AnnotationProblem(image_id, annotation.annotation_id, message))
            kept.append(annotation)
            encoded.append(rle)
            boxes.append(box)
        masks = torch.zeros((0, *size), dtype=torch.bool)
        if kept:
            try:
                masks = torch.from_numpy(_decode(encoded))
            except ValueError:
                for annotation, rle in zip(kept, encoded, strict=True):
                    try:
                        _decode([rle])
                    except ValueError as error:
                        raise self._undecodable(image_id, annotation, error) from error
                raise
        target = Target(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([annotation.label for annotation in kept], dtype=torch.int64),
            masks=masks,
            is_crowd=torch.tensor([annotation.is_crowd for annotation in kept], dtype=torch.bool),
            image_size=size,
            image_id=image_id,
        )
        return target, problems

    def _undecodable(self, image_id: int, annotation: Annotation, error: Exception) -> DataError:
        where = f"{self.annotation_file}: image {image_id} annotation {annotation.annotation_id}"
        return DataError(f"{where}: segmentation cannot be decoded: {error}")

    def _read_annotations(
        self, entries: list[dict[str, Any]]
    ) -> tuple[list[list[Annotation]], list[AnnotationProblem]]:
        """Group the annotations by image, in one pass; raise on structure, report noise."""
        file = self.annotation_file
        label_of = {category_id: label for label, category_id in enumerate(self.category_ids)}
        index_of = {image_id: index for index, image_id in enumerate(self.image_ids)}
        records: list[list[Annotation]] = [[] for _ in self.image_ids]
        problems: list[AnnotationProblem] = []
        seen: set[int] = set()
        for position, entry in enumerate(entries):
            try:
                annotation_id, image_id = entry["id"], entry["image_id"]
                category_id, segmentation = entry["category_id"], entry["segmentation"]
            except KeyError as error:
                raise DataError(
                    f"{file}: annotations[{position}] (image {entry.get('image_id')} annotation {entry.get('id')}): "
                    f"key {error} is missing"
                ) from error
            where = f"{file}: image {image_id} annotation {annotation_id}"
            if type(annotation_id) is not int:
                raise DataError(f"{where}: expected an integer annotation id, got {annotation_id!r}")
            if annotation_id in seen:
                raise DataError(f"{where}: the annotation id occurs twice")
            seen.add(annotation_id)
            index = index_of.get(image_id) if type(image_id) is int else None
            if index is None:
                raise DataError(f"{where}: no image has the id {image_id!r}")
            label = label_of.get(category_id) if type(category_id) is int else None
            if label is None:
                raise DataError(
                    f"{where}: unknown category_id {category_id!r}, the file's categories are {_few(self.category_ids)}"
                )
            bbox = entry.get("bbox")
            if bbox is not None:
                if not (isinstance(bbox, list) and len(bbox) == 4 and set(map(type, bbox)) <= {int, float}):
                    raise DataError(f"{where}: expected a bbox of four numbers [x, y, w, h], got {bbox!r}")
                bbox = (float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3]))
            height, width = self._image_sizes[index]
            if isinstance(segmentation, list):
                segmentation, messages = _check_polygons(segmentation, where)
            else:
                messages = _check_rle(segmentation, (height, width), where)
            problems += [AnnotationProblem(image_id, annotation_id, message) for message in messages]
            if segmentation:
                is_crowd = bool(entry.get("iscrowd", 0))
                records[index].append(Annotation(annotation_id, label, is_crowd, bbox, segmentation))
        return records, problems


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file; ``expected`` says what it should have.

    Raises: DataError naming file, line and column.

    """
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: annotation file cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: line {error.lineno} column {error.colno}: not valid JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object with {expected}, got a {type(content).__name__}")
    return content


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    if key not in content:
        raise DataError(f"{file}: key {key!r} is missing, a COCO instance JSON has images, annotations and categories")
    entries = content[key]
    if not isinstance(entries, list):
        raise DataError(f"{file}: expected {key!r} to be a list, got {type(entries).__name__}")
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{file}: expected {key}[{position}] to be an object, got {type(entry).__name__}")
    return entries


def _match_categories(
    categories: list[dict[str, Any]], class_names: Sequence[str] | None, file: Path
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    name_of: dict[int, str] = {}
    for position, category in enumerate(categories):
        category_id, name = category.get("id"), category.get("name")
        if type(category_id) is not int or not isinstance(name, str):
            raise DataError(f"{file}: categories[{position}]: expected an integer id and a name, got {category!r}")
        if category_id in name_of:
            raise DataError(f"{file}: category id {category_id} occurs twice")
        name_of[category_id] = name
    id_of = {name: category_id for category_id, name in name_of.items()}
    if len(id_of) != len(name_of):
        twice = sorted({name for name in id_of if list(name_of.values()).count(name) > 1})
        raise DataError(f"{file}: category names occur more than once: {_few(twice)}")
    if class_names is None:
        category_ids = tuple(sorted(name_of))
        return tuple(name_of[category_id] for category_id in category_ids), category_ids
    names = tuple(class_names)
    if len(set(names)) != len(names) or set(names) != set(id_of):
        raise DataError(
            f"{file}: the categories do not match the class names\n"
            f"  class names: {', '.join(names)}\n  categories:  {', '.join(id_of)}"
        )
    return names, tuple(id_of[name] for name in names)


def _read_images(images: list[dict[str, Any]], file: Path) -> tuple[tuple[int, ...], list[tuple[int, int]], list[str]]:
    """Ids, sizes (H, W) and file names, in the file's order."""
    sizes: dict[int, tuple[int, int]] = {}
    names: list[str] = []
    for position, entry in enumerate(images):
        where = f"{file}: images[{position}] (image {entry.get('id')})"
        missing = [key for key in ("id", "file_name", "width", "height") if key not in entry]
        if missing:
            raise DataError(f"{where}: key {missing[0]!r} is missing")
        image_id, name, width, height = entry["id"], entry["file_name"], entry["width"], entry["height"]
        if type(image_id) is not int:
            raise DataError(f"{where}: expected an integer image id, got {image_id!r}")
        if image_id in sizes:
            raise DataError(f"{where}: the image id occurs twice")
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: expected a file_name, got {name!r}")
        if not all(_is_number(side) and float(side).is_integer() and side > 0 for side in (width, height)):
            raise DataError(f"{where}: expected a positive width and height, got {width!r} and {height!r}")
        sizes[image_id] = (int(height), int(width))
        names.append(name)
    return tuple(sizes), list(sizes.values()), names


def _find_images(file_names: list[str], image_dir: Path, file: Path) -> list[str]:
    """Path of each image relative to ``image_dir``; each folder is listed once instead of asking for every file."""
    if not image_dir.is_dir():
        raise DataError(f"{file}: expected the images in the folder {image_dir}, which does not exist")
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
        else:
            found.append(str(choice))
    if missing:
        raise DataError(
            f"{file}: {len(missing)} of {len(file_names)} image files are missing in {image_dir}: {_few(missing)}"
        )
    return found


def _check_polygons(segmentation: list[Any], where: str) -> tuple[list[list[float]], list[str]]:
    """The parts that can be rasterised, and what to say about the others."""
    for part in segmentation:
        if not isinstance(part, list) or not set(map(type, part)) <= {int, float}:
            raise DataError(f"{where}: expected polygons as lists [x1, y1, x2, y2, ...], got {str(part)[:60]}")
    kept = [part for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
    if not segmentation:
        return kept, ["no segmentation, dropped"]
    if len(kept) == len(segmentation):
        return kept, []
    dropped = next(len(part) for part in segmentation if len(part) < 6 or len(part) % 2)
    what = f"polygon of {dropped} numbers (expected at least 3 points), dropped"
    return kept, [what if not kept else f"{what}; {len(kept)} other parts kept"]


def _check_rle(segmentation: Any, image_size: tuple[int, int], where: str) -> list[str]:
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise DataError(f"{where}: expected a segmentation of polygons or an RLE with size and counts")
    size, counts = segmentation["size"], segmentation["counts"]
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise DataError(f"{where}: expected an RLE size [height, width], got {size!r}")
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
            raise DataError(f"{where}: expected RLE counts that sum to {size[0]} x {size[1]} = {size[0] * size[1]}")
    elif not isinstance(counts, str):
        raise DataError(f"{where}: expected RLE counts as a list or a string, got {type(counts).__name__}")
    if tuple(size) != image_size:
        return [f"the RLE is {size[1]}x{size[0]} px, the JSON says {_wxh(image_size)}"]
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
        if not all(abs(value) <= _MAX_COORDINATE for part in segmentation for value in part):
            return None
        encoded = mask_codec.merge(mask_codec.frPyObjects(segmentation, *stated_size))
    elif isinstance(segmentation["counts"], list):
        encoded = mask_codec.frPyObjects(segmentation, *segmentation["size"])
    elif _RLE_COUNTS.fullmatch(segmentation["counts"]):
        encoded = {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}
    else:
        raise ValueError("the RLE counts are not a COCO run-length string")
    return encoded if tuple(encoded["size"]) == size else _fit(encoded, size)


def _decode(encoded: list[_Rle]) -> NDArray[np.bool_]:
    """Masks (N, H, W) of one size; each is stored column by column, as RLE has it."""
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

    mask = _decode([rle])[0]
    height, width = size
    if _same_aspect((mask.shape[0], mask.shape[1]), size):
        image = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        fitted = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    else:
        fitted = np.zeros(size, dtype=np.bool_)
        part = mask[:height, :width]
        fitted[: part.shape[0], : part.shape[1]] = part
    result: _Rle = mask_codec.encode(np.asfortranarray(fitted.view(np.uint8)))
    return result


def _same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
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
    if size != stated_size and _same_aspect(stated_size, size):
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


def _wxh(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _few(items: Sequence[object]) -> str:
    more = f", and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(map(str, items[:_NAMED])) + more


def _warn(file: Path, problems: Sequence[AnnotationProblem], note: str = "") -> None:
    if problems:
        shown = "; ".join(map(str, problems[:_NAMED]))
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        warnings.warn(f"{file}: {len(problems)} annotation problems: {shown}{more}{note}", DataWarning, stacklevel=3)
