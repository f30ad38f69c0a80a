"""Ground truth: COCO instance annotations, checked, repaired and prepared for matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.schema import Annotation, AnnotationProblem, Size, read_schema, warn_of
from protomask.data.coco.segmentation import NoMask, box_of_rle, choose_box, encode_annotation
from protomask.errors import DataError
from protomask.structures.coco_json import CocoFile, Fault, few

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Annotations prepared for matching, with the repairs that training makes (`protomask.data.coco.schema`).

    Ids count from 1, because both libraries read id 0 as "not matched".

    Attributes:
        source: what messages call it.
        images: image records by image id: ``id``, ``height``, ``width`` and ``file_name``.
        category_names: by category id.
        annotations: COCO records numbered from 1, with ``bbox``, ``area`` and ``iscrowd``; ``segmentation`` is a
            compressed RLE, or None where an annotation has no mask, and none was asked for.
        problems: what was dropped or repaired.

    """

    source: str
    images: dict[int, Row]
    category_names: dict[int, str]
    annotations: list[Row]
    problems: tuple[AnnotationProblem, ...] = ()

    @classmethod
    def load(cls, source: TruthSource, *, masks: bool) -> GroundTruth:
        """Read and check annotations; what is dropped is not counted, and told in one `DataWarning`.

        Args:
            source: path of a COCO instance JSON, its content (not changed), a parsed file, a data set, or ground truth.
            masks: annotations need masks; otherwise a box is enough.

        Raises:
            DataError: the file cannot be read, or a record lacks a key or has an impossible value.

        """
        if isinstance(source, GroundTruth):
            if masks and any(annotation["segmentation"] is None for annotation in source.annotations):
                raise DataError(f"{source.source}: expected annotations with masks, got some loaded without")
            return source
        if isinstance(source, CocoDataset):
            return cls._of_dataset(source)
        if not isinstance(source, str | Path | CocoFile) and "images" not in source and "categories" not in source:
            raise DataError("ground truth: expected a COCO object with images, annotations and categories")
        file = CocoFile.of(source)
        schema, faults = read_schema(file, needs_files=False, needs_masks=masks)
        if faults:
            raise faults[0]
        rows = zip(schema.image_ids, schema.image_sizes, schema.file_names, schema.annotations, strict=True)
        names = dict(zip(schema.category_ids, schema.class_names, strict=True))
        made = _prepare(file.path, rows, schema.category_ids, names, schema.problems)
        warn_of(file.path, made.problems)
        return made

    @classmethod
    def _of_dataset(cls, dataset: CocoDataset) -> GroundTruth:
        """The truth of a data set, in the frames that it has; its own problems were told when it was made."""
        indices = range(len(dataset))
        rows = (
            (
                dataset.image_ids[index],
                dataset.image_size(index),
                dataset.image_path(index).relative_to(dataset.image_dir).as_posix(),
                dataset.load_annotations(index),
            )
            for index in indices
        )
        names = dict(zip(dataset.category_ids, dataset.class_names, strict=True))
        made = _prepare(dataset.annotation_file, rows, dataset.category_ids, names, ())
        warn_of(dataset.annotation_file, made.problems)
        return made

    def check_categories(self, category_ids: Sequence[int]) -> None:
        """Check that the file has every category that a model predicts.

        Raises:
            DataError: an id is not in the file.

        """
        unknown = [category for category in category_ids if category not in self.category_names]
        if unknown:
            raise DataError(f"{self.source}: no category with id {few(unknown)}, which the model predicts")

    def size_of(self, image_id: int) -> Size:
        """(H, W) of an image; (0, 0) where the file does not say it."""
        image = self.images[image_id]
        return image["height"], image["width"]


TruthSource = str | Path | Mapping[str, Any] | CocoFile | CocoDataset | GroundTruth
"""Path of a COCO instance JSON, its content, parsed or not, a data set, or what was loaded before."""


def _prepare(
    file: Path,
    images: Iterator[tuple[int, Size, str, list[Annotation]]],
    category_ids: Sequence[int],
    names: Mapping[int, str],
    problems: Sequence[AnnotationProblem],
) -> GroundTruth:
    records: dict[int, Row] = {}
    annotations: list[Row] = []
    found = list(problems)
    for image_id, size, name, entries in images:
        records[image_id] = {"id": image_id, "height": size[0], "width": size[1], "file_name": name}
        for annotation in entries:
            row, message = _prepare_one(file, image_id, size, annotation)
            if message is not None:
                found.append(AnnotationProblem(image_id, annotation.annotation_id, message))
            if row is not None:
                row |= {"id": len(annotations) + 1, "category_id": category_ids[annotation.label]}
                annotations.append(row)
    return GroundTruth(
        source=str(file), images=records, category_names=dict(names), annotations=annotations, problems=tuple(found)
    )


def _prepare_one(file: Path, image_id: int, size: Size, annotation: Annotation) -> tuple[Row | None, str | None]:
    """A record without ids, None if training would not use it either, and what was repaired."""
    from pycocotools import mask as coco_mask

    row: Row = {"image_id": image_id, "iscrowd": int(annotation.is_crowd), "segmentation": None}
    if not annotation.segmentation:
        if annotation.bbox is None:
            return None, "no segmentation, dropped"
        x, y, w, h = annotation.bbox
        if not all(abs(value) < float("inf") for value in annotation.bbox):
            return None, f"bbox {list(annotation.bbox)} is not finite, dropped"
        area = w * h if annotation.area is None else annotation.area
        return {**row, "bbox": [x, y, w, h], "area": area}, None
    try:
        frame = size if size != (0, 0) else tuple(annotation.segmentation["size"])  # type: ignore[call-overload]
        rle = encode_annotation(annotation, frame, frame)
    except NoMask as error:
        return None, f"{error}, dropped"
    except ValueError as error:
        where = f"image {image_id} annotation {annotation.annotation_id}"
        raise Fault(file, "segmentation", where, f"segmentation cannot be decoded: {error}") from error
    mask_box = box_of_rle(rle)
    if mask_box is None:
        return None, "empty mask, dropped"
    box, message = choose_box(annotation.bbox, mask_box, size, size)
    area = float(coco_mask.area(rle)) if annotation.area is None else annotation.area
    # The file's own numbers where they stand: adding and subtracting would round.
    own = annotation.bbox if annotation.bbox is not None and message is None else None
    bbox = list(own) if own is not None else [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    return {**row, "bbox": bbox, "area": area, "segmentation": rle}, message
