"""Matching of detections with ground truth by faster-coco-eval or pycocotools, from the same records."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from protomask.data.coco.schema import rle_size
from protomask.data.coco.segmentation import same_aspect
from protomask.errors import DataError
from protomask.evaluation.rows import checked_box, fit_row, read_mask, warn_of_frames
from protomask.evaluation.truth import GroundTruth, Row
from protomask.structures.coco_json import few, finite_number, shown, whole_number

IouType = Literal["bbox", "segm"]
Backend = Literal["fast", "pycocotools"]

# Area ranges in px², both ends included, in the order of the area axis of both libraries.
AREAS: dict[str, tuple[float, float]] = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
AREA_INDEX = {name: index for index, name in enumerate(AREAS)}


def prepare_results(rows: Sequence[Row], truth: GroundTruth, iou_type: IouType) -> list[Row]:
    """Check result rows and make the records that the official loader would make of them.

    Areas are those of the boxes if the first row has a box, otherwise those of the masks.

    Raises:
        DataError: a row lacks a key or has an impossible value; the message names the row.

    """
    from pycocotools import mask as coco_mask

    has_boxes = bool(rows) and bool(rows[0].get("bbox"))
    for index, row in enumerate(rows):
        required = ["image_id", "category_id", "score"]
        if has_boxes:
            required.append("bbox")
        if iou_type == "segm":
            required.append("segmentation")
        elif not has_boxes and row.get("segmentation") is None:
            required.append("bbox")
        for key in required:
            if row.get(key) is None:
                hint = "; to evaluate only boxes set iou_types=('bbox',)" if key == "segmentation" and has_boxes else ""
                raise DataError(f"results[{index}]: key '{key}' is missing, needed for iou type '{iou_type}'{hint}")
    ids: dict[str, list[int]] = {}
    for key, known in (("image_id", truth.images), ("category_id", truth.category_names)):
        numbers = [whole_number(row[key]) for row in rows]
        ids[key] = [number for number in numbers if number is not None and number in known]
        if len(ids[key]) < len(rows):
            values = [row[key] for row, number in zip(rows, numbers, strict=True) if number not in known]
            unknown = list(dict.fromkeys(map(shown, values)))
            raise DataError(f"results: {key} not in {truth.source}: {few(unknown)}")

    prepared = []
    frames = []
    for index, row in enumerate(rows):
        image_id = ids["image_id"][index]
        where = f"results[{index}] (image id {image_id})"
        score = finite_number(score_of(row, iou_type))
        if score is None:
            raise DataError(f"{where}: expected a finite score, got {shown(score_of(row, iou_type))}")
        rle = None
        size = truth.size_of(image_id)
        own_size = size
        if iou_type == "segm" or not has_boxes:
            rle, own_size = read_mask(row["segmentation"], size, where)
        elif isinstance(row.get("segmentation"), Mapping):
            # The box lies in the frame of the mask beside it.
            own_size = rle_size(row["segmentation"].get("size")) or size
            own_size = own_size if same_aspect(own_size, size) else size
        box = checked_box(row["bbox"], where) if has_boxes else coco_mask.toBbox(rle).tolist()
        if own_size != size and 0 not in size:
            frames.append((where, own_size, size))
            if has_boxes:
                box = fit_row({"bbox": box}, own_size, size)["bbox"]
        prepared.append(
            {
                "id": index + 1,
                "image_id": image_id,
                "category_id": ids["category_id"][index],
                "score": score,
                "bbox": box,
                "area": box[2] * box[3] if has_boxes else float(coco_mask.area(rle)),
                "iscrowd": 0,
                "segmentation": rle,
            }
        )
    warn_of_frames(frames)
    return prepared


def score_of(row: Row, iou_type: IouType) -> Any:
    """The score that ranks a row: for boxes ``class_score`` if the row has it, for masks ``score``."""
    return row.get("class_score", row["score"]) if iou_type == "bbox" else row["score"]


def match_results(
    truth: GroundTruth,
    results: list[Row],
    iou_type: IouType,
    image_ids: Sequence[int],
    limits: tuple[int, ...],
    backend: Backend,
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (IoU, recall, category, area, limit) and recall (IoU, category, area, limit); -1: no ground truth."""
    num_categories, num_areas, num_limits = len(truth.category_names), len(AREAS), len(limits)
    # Both libraries read an empty list of images or categories as "all of them".
    if not image_ids or not num_categories:
        nothing = np.full((10, 101, num_categories, num_areas, num_limits), -1.0)
        return nothing, nothing[:, 0]

    # Numbered again in their order: the libraries cannot hold every number that a file may.
    image_number = {key: number for number, key in enumerate(sorted(truth.images), start=1)}
    category_number = {key: number for number, key in enumerate(sorted(truth.category_names), start=1)}
    frame = {
        "images": [{**image, "id": image_number[key]} for key, image in truth.images.items()],
        "categories": [{"id": category_number[key], "name": name} for key, name in truth.category_names.items()],
    }

    def numbered(rows: Sequence[Row]) -> list[Row]:
        # Copies, because both libraries write into the records they are given.
        return [
            {
                **row,
                "image_id": image_number[row["image_id"]],
                "category_id": category_number[row["category_id"]],
            }
            for row in rows
        ]

    truth_content = {**frame, "annotations": numbered(truth.annotations)}
    result_content = {**frame, "annotations": numbered(results)}
    with contextlib.redirect_stdout(io.StringIO()) if backend == "pycocotools" else contextlib.nullcontext():
        if backend == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            indexed = []
            for content in (truth_content, result_content):
                coco = COCO()
                coco.dataset = content
                coco.createIndex()
                indexed.append(coco)
            matcher = COCOeval(*indexed, iou_type)
        else:
            from faster_coco_eval import COCO as FastCOCO
            from faster_coco_eval import COCOeval_faster

            contents = [FastCOCO(content, print_function=_silent) for content in (truth_content, result_content)]
            matcher = COCOeval_faster(*contents, iou_type, print_function=_silent)
        recalls = np.asarray(matcher.params.recThrs)
        # Half way from the first to the second object found, for every category and area.
        second_object = 1.5 / np.maximum(counts, 1)
        if backend == "fast":
            matcher.params.recThrs = np.union1d(recalls, second_object)
        matcher.params.imgIds = [image_number[image_id] for image_id in image_ids]
        matcher.params.maxDets = list(limits)
        matcher.evaluate()
        matcher.accumulate()
    precision, recall = matcher.eval["precision"], matcher.eval["recall"]
    if backend == "fast":
        precision = _as_official(precision, matcher.params.recThrs, recalls, second_object)
    return precision, recall


def _as_official(
    precision: np.ndarray, thresholds: np.ndarray, recalls: np.ndarray, second_object: np.ndarray
) -> np.ndarray:
    """Precision at ``recalls``, with the rounding of pycocotools, from precision at finer ``thresholds``.

    pycocotools divides by the number of detections plus 2⁻⁵², which rounds away from two detections on, but makes the
    precision 1 - 2⁻⁵² instead of 1 where only the very first detection counts. The faster library divides by the number
    itself. A curve begins with exactly one correct detection where it is 1 up to the first object found and less at the
    second one.
    """
    at_second = np.take_along_axis(
        precision, np.searchsorted(thresholds, second_object)[None, None, :, :, None], axis=1
    )
    official = precision[:, np.searchsorted(thresholds, recalls)]
    return np.where((official == 1.0) & (at_second < 1.0), 1.0 / (1.0 + np.spacing(1.0)), official)


def count_objects(truth: GroundTruth, image_ids: Sequence[int]) -> np.ndarray:
    """Number of objects without crowds: (category in order of id, area range) int64."""
    wanted = set(image_ids)
    row_of = {category_id: k for k, category_id in enumerate(sorted(truth.category_names))}
    counts = np.zeros((len(row_of), len(AREAS)), dtype=np.int64)
    for annotation in truth.annotations:
        if annotation["image_id"] in wanted and not annotation["iscrowd"]:
            for a, (smallest, largest) in enumerate(AREAS.values()):
                counts[row_of[annotation["category_id"]], a] += smallest <= annotation["area"] <= largest
    return counts


def _silent(*_: object) -> None:
    """Replace the print of a library."""
