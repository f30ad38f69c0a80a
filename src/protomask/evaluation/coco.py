"""COCO average precision of boxes and masks, equal to pycocotools to the last digit.

Matching is done by faster-coco-eval (default) or pycocotools; both are given the same prepared records, and the tables
are reduced from their precision and recall arrays by one piece of code here, because the summary of pycocotools looks
up 100 detections by name and reports -1 for any other limit.

Definitions: https://cocodataset.org/#detection-eval. Averages go over IoU 0.50:0.05:0.95 unless the name says
otherwise; AP is read at the largest of ``max_detections``; sizes are areas in px²: small up to 32², medium up to 96²,
large above. A value is None where no ground truth could have been found (COCO prints -1 there).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError, DataError
from protomask.files import replacing

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

IouType = Literal["bbox", "segm"]
Backend = Literal["fast", "pycocotools"]
Row = dict[str, Any]
Results = Sequence[Row] | str | Path

_TABLE_NAMES: dict[str, str] = {"bbox": "box", "segm": "mask"}
_GEOMETRY_KEYS: dict[str, str] = {"bbox": "bbox", "segm": "segmentation"}
# Area ranges in px², both ends included, in the order of the area axis of both libraries.
_AREAS: dict[str, tuple[float, float]] = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}
_AREA_INDEX = {name: index for index, name in enumerate(_AREAS)}
_LISTED_IDS = 5


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One category of a table. ``AP`` and ``AP50`` in [0, 1], None where ``num_objects`` is 0 (crowds not counted)."""

    AP: float | None
    AP50: float | None
    num_objects: int


@dataclass(frozen=True, kw_only=True)
class CocoTable:
    """The twelve COCO numbers for boxes or for masks, each in [0, 1], or None where there is no ground truth.

    Attributes:
        AR: average recall by detections allowed per image and category; sizes are read at the largest.
        per_class: by category name, in the order of category ids, categories without ground truth included.
        precision: (10, 101, K) float64 at IoU 0.50:0.05:0.95, recall 0:0.01:1 and each category, all sizes, at the
            largest number of detections; -1 where there is no ground truth.

    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    AP_small: float | None
    AP_medium: float | None
    AP_large: float | None
    AR: Mapping[int, float | None]
    AR_small: float | None
    AR_medium: float | None
    AR_large: float | None
    per_class: Mapping[str, ClassMetrics]
    precision: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def AR_1(self) -> float | None:
        """Average recall with one detection per image and category; None also where 1 is not among the limits."""
        return self.AR.get(1)

    @property
    def AR_10(self) -> float | None:
        """Average recall with ten detections per image and category; None also where 10 is not among the limits."""
        return self.AR.get(10)

    @property
    def AR_max(self) -> float | None:
        """Average recall with the largest number of detections."""
        return self.AR[max(self.AR)]

    def precision_curve(self, iou: float) -> list[float]:
        """Precision in [0, 1] at recall 0, 0.01 .. 1, mean over the categories with ground truth; empty without any.

        Args:
            iou: one of 0.5, 0.55 .. 0.95.

        """
        curves = self.precision[round((iou - 0.5) / 0.05)]
        present = curves[:, (curves > -1).all(axis=0)]
        return present.mean(axis=1).tolist() if present.size else []

    def rows(self) -> list[tuple[str, float | None]]:
        """(name, value) in the order in which COCO prints them."""
        return [
            ("AP", self.AP),
            ("AP50", self.AP50),
            ("AP75", self.AP75),
            ("AP_small", self.AP_small),
            ("AP_medium", self.AP_medium),
            ("AP_large", self.AP_large),
            *((f"AR_{limit}", value) for limit, value in self.AR.items()),
            ("AR_small", self.AR_small),
            ("AR_medium", self.AR_medium),
            ("AR_large", self.AR_large),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: the names of `rows`, ``AR_max``, and ``per_class``."""
        classes = {
            name: {"AP": one.AP, "AP50": one.AP50, "num_objects": one.num_objects}
            for name, one in self.per_class.items()
        }
        return {**dict(self.rows()), "AR_max": self.AR_max, "per_class": classes}


@dataclass(frozen=True, kw_only=True)
class CocoMetrics:
    """Box and mask tables of one evaluation; a table that was not asked for is None.

    Attributes:
        max_detections: the limits of detections per image and category, ascending; AP is read at the last.
        num_images: images evaluated, those without detections included.

    """

    box: CocoTable | None
    mask: CocoTable | None
    max_detections: tuple[int, ...]
    num_images: int

    @property
    def tables(self) -> dict[str, CocoTable]:
        """The tables there are, by name: ``box``, ``mask``."""
        named = {"box": self.box, "mask": self.mask}
        return {name: table for name, table in named.items() if table is not None}

    def rows(self) -> list[tuple[str, list[float | None]]]:
        """(name, one value per table in the order of `tables`)."""
        columns = [table.rows() for table in self.tables.values()]
        return [(cells[0][0], [value for _, value in cells]) for cells in zip(*columns, strict=True)]

    def class_rows(self) -> list[tuple[str, int, list[float | None]]]:
        """(category name, ground-truth objects, AP and AP50 of each table in the order of `tables`)."""
        columns = [table.per_class for table in self.tables.values()]
        rows = []
        for name, first in columns[0].items():
            values = [value for column in columns for value in (column[name].AP, column[name].AP50)]
            rows.append((name, first.num_objects, values))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        tables = {name: table.to_dict() for name, table in self.tables.items()}
        return {"num_images": self.num_images, "max_detections": list(self.max_detections), **tables}

    def as_text(self) -> str:
        """Both tables and the categories as aligned plain text; ``-`` where there is no ground truth."""
        summary = [["", *self.tables], *([name, *map(_cell, values)] for name, values in self.rows())]
        class_header = ["class", "objects", *(f"{table} {value}" for table in self.tables for value in ("AP", "AP50"))]
        classes = [
            class_header,
            *([name, str(count), *map(_cell, values)] for name, count, values in self.class_rows()),
        ]
        return f"{_align(summary)}\n\n{_align(classes)}\n"


class CocoEvaluator:
    """Collects predictions image by image and evaluates them against a COCO annotation file.

    Only COCO rows are kept (masks as RLE), never dense masks. Where the model scores its masks, boxes are ranked by
    the class score and masks by the product of both scores, as the published evaluations of such models do.

    Args:
        annotation_file: ground truth: path of a COCO instance JSON, or its content.
        category_ids: category id of each label (index = label).
        max_detections: detections per image and category that count; COCO's is 100, dense scenes need more.

    Raises:
        DataError: the annotation file cannot be read, or has no category of an id in ``category_ids``.
        ConfigError: ``max_detections`` is not a positive integer.

    """

    def __init__(
        self,
        annotation_file: str | Path | Mapping[str, Any],
        *,
        category_ids: Sequence[int],
        max_detections: int = 100,
    ) -> None:
        self._truth = GroundTruth.load(annotation_file, masks=True)
        self._truth.check_categories(category_ids)
        self.category_ids = tuple(category_ids)
        self.max_detections = _limits([*(limit for limit in (1, 10) if limit < max_detections), max_detections])
        self._image_ids: dict[int, None] = {}
        self._results: dict[IouType, list[Row]] = {"bbox": [], "segm": []}

    @property
    def truth(self) -> GroundTruth:
        """What the predictions are compared with, masks included."""
        return self._truth

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the images seen, in order of their coming."""
        return tuple(self._image_ids)

    @property
    def results(self) -> dict[IouType, list[Row]]:
        """COCO result rows, separately for boxes and masks, as `evaluate_coco` takes them and `save_results` writes.

        Mask rows carry no ``bbox``: official evaluators would otherwise sort masks into small, medium and large by the
        area of the box.
        """
        return self._results

    def update(self, image_id: int, instances: Instances) -> None:
        """Take the predictions for one image; an image without any instance is seen as well.

        Raises:
            DataError: the annotation file has no such image, or it was given before.

        """
        if image_id not in self._truth.images:
            raise DataError(f"{self._truth.source}: no image with id {image_id}")
        if image_id in self._image_ids:
            raise DataError(f"image id {image_id} was given twice; its predictions would be counted twice")
        self._image_ids[image_id] = None
        for row in instances.to_coco(image_id, self.category_ids):
            for iou_type, rows in self._results.items():
                geometry = _GEOMETRY_KEYS[iou_type]
                rows.append(
                    {
                        "image_id": row["image_id"],
                        "category_id": row["category_id"],
                        geometry: row[geometry],
                        "score": _score_of(row, iou_type),
                    }
                )

    def exchange(self, gather: Callable[[list[Any]], list[Any]]) -> None:
        """Take over what evaluators of the same annotation file saw in other processes.

        Args:
            gather: gives every process the lists of all processes as one.

        Raises:
            DataError: two processes saw the same image.

        """
        seen = [image_id for ids in gather([self.image_ids]) for image_id in ids]
        if len(set(seen)) < len(seen):
            raise DataError("two processes predicted the same image; its predictions would be counted twice")
        self._image_ids = dict.fromkeys(seen)
        for iou_type, rows in self._results.items():
            self._results[iou_type] = [row for part in gather([rows]) for row in part]

    def evaluate(self, *, seen_only: bool = False, backend: Backend = "fast") -> CocoMetrics:
        """Both tables.

        Args:
            seen_only: evaluate only images given to `update`. By default the whole annotation file counts, and the
                objects of an image that was never given are missed.
            backend: what matches predictions with ground truth; the numbers are the same.

        """
        image_ids = sorted(self._image_ids) if seen_only else sorted(self._truth.images)
        return _evaluate(self._truth, self._results, image_ids, self.max_detections, backend)

    def save_results(self, path: str | Path) -> dict[IouType, Path]:
        """Write ``NAME_bbox.json`` and ``NAME_segm.json`` beside ``path`` (``NAME.json``) and return their paths.

        Two files, because boxes and masks may have different scores and mask rows must not have a box (see `results`):
        an official evaluator that loads each for its own IoU type gets the numbers of ``evaluate()`` exactly.
        """
        path = Path(path)
        stem = path.stem if path.suffix == ".json" else path.name
        paths = {iou_type: path.with_name(f"{stem}_{iou_type}.json") for iou_type in self._results}
        for iou_type, target in paths.items():
            with replacing(target, error=DataError) as file:
                file.write(json.dumps(self._results[iou_type]).encode())
        return paths


def evaluate_coco(
    ground_truth: str | Path | Mapping[str, Any],
    results: Results | Mapping[IouType, Results],
    *,
    iou_types: Sequence[IouType] = ("bbox", "segm"),
    max_detections: Sequence[int] = (1, 10, 100),
    image_ids: Iterable[int] | None = None,
    backend: Backend = "fast",
) -> CocoMetrics:
    """COCO metrics of result rows.

    Rows are read as the official loader reads them. In particular the area that decides whether an unmatched detection
    is small, medium or large is the box's where rows have a ``bbox``, even for masks, and the mask's where they have
    none; leave ``bbox`` out of mask rows to compare with published mask tables. Two things differ: boxes are ranked by
    ``class_score`` where a row has it, and a box is never taken for a mask.

    Args:
        ground_truth: COCO instance annotations (polygons, RLE, crowds): path of the JSON, or its content (not changed).
        results: COCO result rows (not changed) or the path of their JSON, for all of ``iou_types``; or a mapping with
            one for each IoU type.
        iou_types: which tables to make: ``bbox``, ``segm``.
        max_detections: ascending limits of detections per image and category. AP is read at the last, AR at each.
        image_ids: images to evaluate; None is every image of the ground truth, and objects of images without results
            are then missed. Results for other images are left out.
        backend: ``fast`` (faster-coco-eval) or ``pycocotools``; the numbers are the same.

    Raises:
        ConfigError: an argument has a value that cannot work.
        DataError: a file cannot be read, a row lacks a key, or an image or category id is not in the ground truth.

    """
    unknown_types = [iou_type for iou_type in iou_types if iou_type not in _TABLE_NAMES]
    if unknown_types or not iou_types:
        raise ConfigError(f"iou_types: expected some of {list(_TABLE_NAMES)}, got {list(iou_types)}")
    truth = GroundTruth.load(ground_truth, masks="segm" in iou_types)
    limits = _limits(max_detections)
    wanted = sorted(truth.images) if image_ids is None else sorted(set(image_ids))
    unknown_images = [image_id for image_id in wanted if image_id not in truth.images]
    if unknown_images:
        raise DataError(f"image_ids: {truth.source} has no image with id {_listed(unknown_images)}")
    if isinstance(results, Mapping):
        missing = [iou_type for iou_type in iou_types if iou_type not in results]
        if missing:
            raise ConfigError(f"results: expected rows for each of {list(iou_types)}, got {list(results)}")
        rows = {iou_type: _read_rows(results[iou_type]) for iou_type in iou_types}
    else:
        shared = _read_rows(results)
        rows = dict.fromkeys(iou_types, shared)
    return _evaluate(truth, rows, wanted, limits, backend)


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Annotations prepared for either library; ids renumbered from 1, as both take id 0 for "not matched".

    Attributes:
        source: what messages call it.
        images: image records of the file by image id.
        category_names: by category id.
        annotations: COCO records with ``bbox``, ``area`` and ``iscrowd``; ``segmentation`` is a compressed RLE, or None
            where masks were not asked for.

    """

    source: str
    images: dict[int, Row]
    category_names: dict[int, str]
    annotations: list[Row]

    @classmethod
    def load(cls, ground_truth: str | Path | Mapping[str, Any], *, masks: bool) -> GroundTruth:
        """Read and check annotations: path of a COCO instance JSON, or its content (not changed).

        Raises:
            DataError: the file cannot be read, or a record lacks a key or has an impossible value.

        """
        if isinstance(ground_truth, Mapping):
            source, content = "ground truth", ground_truth
        else:
            source, content = str(ground_truth), _read_json(ground_truth)
        if not isinstance(content, Mapping):
            raise DataError(f"{source}: expected a COCO object with images, annotations and categories, got a list")
        for key in ("images", "categories"):
            if not isinstance(content.get(key), list):
                raise DataError(f"{source}: expected a list under key '{key}'")
        images = {_id_of(image, f"{source}: images[{i}]"): image for i, image in enumerate(content["images"])}
        names = {
            _id_of(category, f"{source}: categories[{i}]"): str(category.get("name", category["id"]))
            for i, category in enumerate(content["categories"])
        }
        annotations: list[Row] = []
        for position, annotation in enumerate(content.get("annotations", [])):
            where = f"{source}: annotation id {annotation.get('id', f'missing at index {position}')}"
            for key in ("image_id", "category_id"):
                if key not in annotation:
                    raise DataError(f"{where}: key '{key}' is missing")
            # Annotations of images that are not listed are left out, as the official evaluator does.
            if annotation["image_id"] in images and annotation["category_id"] in names:
                prepared = _prepare_truth(annotation, images[annotation["image_id"]], masks=masks, where=where)
                annotations.append({**prepared, "id": len(annotations) + 1})
        return cls(source=source, images=images, category_names=_unique_names(names), annotations=annotations)

    def check_categories(self, category_ids: Sequence[int]) -> None:
        """Raises: DataError if an id that a model predicts is not in the file."""
        unknown = [category for category in category_ids if category not in self.category_names]
        if unknown:
            raise DataError(f"{self.source}: no category with id {_listed(unknown)}, which the model predicts")


def _prepare_truth(annotation: Row, image: Row, *, masks: bool, where: str) -> Row:
    from pycocotools import mask as coco_mask

    segmentation = annotation.get("segmentation")
    if masks and segmentation is None:
        raise DataError(f"{where}: key 'segmentation' is missing, which the mask table needs")
    for key in ("bbox", "area"):
        if key not in annotation and segmentation is None:
            raise DataError(f"{where}: key '{key}' is missing")
    rle = None
    if masks or "bbox" not in annotation or "area" not in annotation:
        rle = _to_rle(segmentation, image, where)
    bbox = annotation["bbox"] if "bbox" in annotation else coco_mask.toBbox(rle).tolist()
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": _checked_box(bbox, where),
        "area": annotation["area"] if "area" in annotation else float(coco_mask.area(rle)),
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "segmentation": rle,
    }


def prepare_results(rows: Sequence[Row], truth: GroundTruth, iou_type: IouType) -> list[Row]:
    """Records as the official loader makes them, checked; areas come from boxes where the first row has a box.

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
                hint = "; for boxes alone ask for iou_types=('bbox',)" if key == "segmentation" and has_boxes else ""
                raise DataError(f"results[{index}]: key '{key}' is missing, needed for iou type '{iou_type}'{hint}")
    for key, known in (("image_id", truth.images), ("category_id", truth.category_names)):
        unknown = [value for value in dict.fromkeys(row[key] for row in rows) if value not in known]
        if unknown:
            raise DataError(f"results: {key} not in {truth.source}: {_listed(unknown)}")

    prepared = []
    for index, row in enumerate(rows):
        where = f"results[{index}] (image id {row['image_id']})"
        score = _score_of(row, iou_type)
        if not _is_finite(score):
            raise DataError(f"{where}: expected a finite score, got {score!r}")
        rle = None
        if iou_type == "segm" or not has_boxes:
            rle = _to_rle(row["segmentation"], truth.images[row["image_id"]], where)
        box = _checked_box(row["bbox"], where) if has_boxes else coco_mask.toBbox(rle).tolist()
        prepared.append(
            {
                "id": index + 1,
                "image_id": row["image_id"],
                "category_id": row["category_id"],
                "score": float(score),
                "bbox": box,
                "area": box[2] * box[3] if has_boxes else float(coco_mask.area(rle)),
                "iscrowd": 0,
                "segmentation": rle,
            }
        )
    return prepared


def _score_of(row: Row, iou_type: IouType) -> Any:
    return row.get("class_score", row["score"]) if iou_type == "bbox" else row["score"]


def _evaluate(
    truth: GroundTruth,
    results: Mapping[IouType, Sequence[Row]],
    image_ids: Sequence[int],
    limits: tuple[int, ...],
    backend: Backend,
) -> CocoMetrics:
    if backend not in ("fast", "pycocotools"):
        raise ConfigError(f"backend: expected 'fast' or 'pycocotools', got {backend!r}")
    tables: dict[str, CocoTable | None] = {"box": None, "mask": None}
    counts = _count_objects(truth, image_ids)
    for iou_type, rows in results.items():
        prepared = prepare_results(rows, truth, iou_type)
        precision, recall = _match(truth, prepared, iou_type, image_ids, limits, backend, counts)
        tables[_TABLE_NAMES[iou_type]] = _reduce(precision, recall, truth, counts[:, 0].tolist(), limits)
    return CocoMetrics(**tables, max_detections=limits, num_images=len(image_ids))


def _match(
    truth: GroundTruth,
    results: list[Row],
    iou_type: IouType,
    image_ids: Sequence[int],
    limits: tuple[int, ...],
    backend: Backend,
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (IoU, recall, category, area, limit) and recall (IoU, category, area, limit); -1: no ground truth."""
    num_categories, num_areas, num_limits = len(truth.category_names), len(_AREAS), len(limits)
    # Both libraries read an empty list of images or categories as "all of them".
    if not image_ids or not num_categories:
        nothing = np.full((10, 101, num_categories, num_areas, num_limits), -1.0)
        return nothing, nothing[:, 0]

    frame = {
        "images": list(truth.images.values()),
        "categories": [{"id": key, "name": name} for key, name in truth.category_names.items()],
    }
    # Shallow copies, because both libraries write into the records they are given.
    truth_content = {**frame, "annotations": [dict(annotation) for annotation in truth.annotations]}
    result_content = {**frame, "annotations": results}
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
        matcher.params.imgIds = list(image_ids)
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


def _count_objects(truth: GroundTruth, image_ids: Sequence[int]) -> np.ndarray:
    """Objects to be found, crowds not counted, (category in order of id, area) int64."""
    wanted = set(image_ids)
    row_of = {category_id: k for k, category_id in enumerate(sorted(truth.category_names))}
    counts = np.zeros((len(row_of), len(_AREAS)), dtype=np.int64)
    for annotation in truth.annotations:
        if annotation["image_id"] in wanted and not annotation["iscrowd"]:
            for a, (smallest, largest) in enumerate(_AREAS.values()):
                counts[row_of[annotation["category_id"]], a] += smallest <= annotation["area"] <= largest
    return counts


def _reduce(
    precision: np.ndarray,
    recall: np.ndarray,
    truth: GroundTruth,
    num_objects: Sequence[int],
    limits: tuple[int, ...],
) -> CocoTable:
    def ap(iou: slice = slice(None), area: str = "all", category: slice = slice(None)) -> float | None:
        return _mean(precision[iou, :, category, _AREA_INDEX[area], -1])

    def ar(limit: int = -1, area: str = "all") -> float | None:
        return _mean(recall[:, :, _AREA_INDEX[area], limit])

    iou50, iou75 = slice(0, 1), slice(5, 6)
    per_class = {}
    for k, category_id in enumerate(sorted(truth.category_names)):
        one = slice(k, k + 1)
        per_class[truth.category_names[category_id]] = ClassMetrics(
            AP=ap(category=one), AP50=ap(iou50, category=one), num_objects=num_objects[k]
        )
    return CocoTable(
        AP=ap(),
        AP50=ap(iou50),
        AP75=ap(iou75),
        AP_small=ap(area="small"),
        AP_medium=ap(area="medium"),
        AP_large=ap(area="large"),
        AR={limit: ar(m) for m, limit in enumerate(limits)},
        AR_small=ar(area="small"),
        AR_medium=ar(area="medium"),
        AR_large=ar(area="large"),
        per_class=per_class,
        precision=precision[:, :, :, _AREA_INDEX["all"], -1],
    )


def _mean(values: np.ndarray) -> float | None:
    present = values[values > -1]
    return float(np.mean(present)) if present.size else None


def _to_rle(segmentation: Any, image: Row, where: str) -> Row:
    """COCO compressed RLE of polygons, of uncompressed or of compressed RLE, checked against the image's size."""
    from pycocotools import mask as coco_mask

    size: list[Any] = [image.get("height"), image.get("width")]
    if isinstance(segmentation, list):
        if None in size:
            raise DataError(f"{where}: image id {image['id']} has no height and width, which a polygon mask needs")
        # Fewer than three points enclose nothing, and pycocotools would take four numbers for a box.
        parts = [part for part in segmentation if isinstance(part, list) and len(part) >= 6]
        if not parts:
            return dict(coco_mask.encode(np.zeros((size[0], size[1]), dtype=np.uint8, order="F")))
        return dict(coco_mask.merge(coco_mask.frPyObjects(parts, *size)))
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= segmentation.keys():
        raise DataError(f"{where}: expected polygons or an RLE with 'size' and 'counts', got {segmentation!r:.80}")
    height, width = segmentation["size"]
    if None not in size and [height, width] != size:
        raise DataError(f"{where}: expected an RLE of the image's size {size}, got {[height, width]}")
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        return {"size": [height, width], "counts": counts}
    if sum(counts) != height * width:
        raise DataError(f"{where}: expected RLE counts that add up to {height * width} pixels, got {sum(counts)}")
    return dict(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _checked_box(box: Any, where: str) -> list[float]:
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(_is_finite, box)):
        raise DataError(f"{where}: expected a box of four finite numbers [x, y, width, height], got {box!r:.80}")
    return [float(value) for value in box]


def _is_finite(value: Any) -> bool:
    # float and int first: the check against Real, for NumPy's numbers, is slow.
    return isinstance(value, (float, int, Real)) and math.isfinite(value)


def _limits(max_detections: Sequence[int]) -> tuple[int, ...]:
    limits = tuple(max_detections)
    positive = all(isinstance(limit, int) and limit > 0 for limit in limits)
    if not limits or not positive or list(limits) != sorted(set(limits)):
        raise ConfigError(f"max_detections: expected ascending positive integers such as (1, 10, 100), got {limits}")
    return limits


def _id_of(record: Row, where: str) -> int:
    value = record.get("id")
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: expected an integer under key 'id', got {value!r}")
    return value


def _unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Category names by id; a name that several categories share gets the id behind it."""
    given = list(names.values())
    return {key: name if given.count(name) == 1 else f"{name} ({key})" for key, name in names.items()}


def _read_rows(results: Results) -> Sequence[Row]:
    rows = _read_json(results) if isinstance(results, (str, Path)) else results
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        source = results if isinstance(results, (str, Path)) else "results"
        raise DataError(f"{source}: expected a list of COCO result objects, got {type(rows).__name__}")
    return rows


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error


def _silent(*_: object) -> None:
    """Take the place of a library's print."""


def _listed(ids: Sequence[Any]) -> str:
    more = f" and {len(ids) - _LISTED_IDS} more" if len(ids) > _LISTED_IDS else ""
    return ", ".join(map(repr, ids[:_LISTED_IDS])) + more


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
