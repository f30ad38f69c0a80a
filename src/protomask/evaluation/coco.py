"""COCO average precision of boxes and masks, equal to pycocotools to the last digit.

Both libraries that can match receive the same records, and one function reduces their precision and recall arrays to
tables, because the summary of pycocotools looks up 100 detections by name and reports -1 for any other limit.
`protomask.evaluation.tables` says what the numbers are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.errors import ConfigError, DataError
from protomask.evaluation.match import Backend, IouType, count_objects, match_results, prepare_results, score_of
from protomask.evaluation.results import named_after
from protomask.evaluation.rows import Results, fit_row, read_rows, renumber
from protomask.evaluation.tables import CocoMetrics, CocoTable, build_table
from protomask.evaluation.truth import GroundTruth, Row, TruthSource
from protomask.files import replacing
from protomask.structures.coco_json import few

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

_TABLE_NAMES: dict[str, str] = {"bbox": "box", "segm": "mask"}
_GEOMETRY_KEYS: dict[str, str] = {"bbox": "bbox", "segm": "segmentation"}


class CocoEvaluator:
    """Collects predictions image by image and evaluates them against COCO annotations.

    It keeps only COCO rows (masks as RLE), never dense masks. If the model scores its masks, boxes are ranked by the
    class score and masks by the product of both scores, as in the published evaluations of such models.

    Args:
        ground_truth: path of a COCO instance JSON, its content (not changed), parsed or not, a data set, or a
            `GroundTruth` with masks.
        category_ids: category id of each label (index = label).
        max_detections: maximum number of detections per image and category that count; COCO's is 100, dense scenes
            need more.

    Raises:
        DataError: the ground truth cannot be read, or has no category of an id in ``category_ids``.
        ConfigError: ``max_detections`` is not a positive integer.

    """

    def __init__(
        self,
        ground_truth: TruthSource,
        *,
        category_ids: Sequence[int],
        max_detections: int = 100,
    ) -> None:
        self._truth = GroundTruth.load(ground_truth, masks=True)
        self._truth.check_categories(category_ids)
        self.category_ids = tuple(category_ids)
        self.max_detections = _limits([*(limit for limit in (1, 10) if limit < max_detections), max_detections])
        self._image_ids: dict[int, None] = {}
        self._results: dict[IouType, list[Row]] = {"bbox": [], "segm": []}

    @property
    def truth(self) -> GroundTruth:
        """The annotations that predictions are compared with, including masks."""
        return self._truth

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the images seen, in the order they came."""
        return tuple(self._image_ids)

    @property
    def results(self) -> dict[IouType, list[Row]]:
        """COCO result rows for boxes and for masks, as `evaluate_coco` takes them and `save_results` writes them.

        Mask rows have no ``bbox``: official evaluators would otherwise sort masks into small, medium and large by the
        area of the box.
        """
        return self._results

    def update(self, image_id: int, instances: Instances) -> None:
        """Add the predictions for one image, which may have no instance.

        If the size of the image file is not the one in the annotations, the predictions are brought into the frame of
        the annotations, as training brings annotations into the frame of the file.

        Raises:
            DataError: there is no such image, or it was added before.

        """
        if image_id not in self._truth.images:
            raise DataError(f"{self._truth.source}: no image with id {image_id}")
        if image_id in self._image_ids:
            raise DataError(f"image id {image_id} was given twice; its predictions would be counted twice")
        self._image_ids[image_id] = None
        size = self._truth.size_of(image_id)
        for found in instances.to_coco(image_id, self.category_ids):
            row = fit_row(found, instances.image_size, size)
            for iou_type, rows in self._results.items():
                geometry = _GEOMETRY_KEYS[iou_type]
                rows.append(
                    {
                        "image_id": row["image_id"],
                        "category_id": row["category_id"],
                        geometry: row[geometry],
                        "score": score_of(row, iou_type),
                    }
                )

    def exchange(self, gather: Callable[[list[Any]], list[Any]]) -> None:
        """Merge what evaluators of the same annotations saw in other processes.

        Args:
            gather: joins the lists of all processes, in every process.

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
        """Compute both tables.

        Args:
            seen_only: evaluate only the images given to `update`. By default every image of the annotations counts,
                and the objects of an image that was never given count as missed.
            backend: the library that matches predictions with ground truth; the numbers are the same.

        """
        image_ids = sorted(self._image_ids) if seen_only else sorted(self._truth.images)
        return _evaluate(self._truth, self._results, image_ids, self.max_detections, backend)

    def save_results(self, path: str | Path) -> dict[IouType, Path]:
        """Write ``NAME_bbox.json`` and ``NAME_segm.json`` beside ``path`` (``NAME.json``) and return their paths.

        There are two files because boxes and masks may have different scores and mask rows must not have a box (see
        `results`). An official evaluator that loads each for its own IoU type gets exactly the numbers of `evaluate`.
        """
        paths = {iou_type: named_after(path, f"{iou_type}.json") for iou_type in self._results}
        for iou_type, target in paths.items():
            with replacing(target, error=DataError) as file:
                file.write(json.dumps(self._results[iou_type]).encode())
        return paths


def evaluate_coco(
    ground_truth: TruthSource,
    results: Results | Mapping[IouType, Results],
    *,
    iou_types: Sequence[IouType] = ("bbox", "segm"),
    max_detections: Sequence[int] = (1, 10, 100),
    image_ids: Iterable[int] | None = None,
    backend: Backend = "fast",
) -> CocoMetrics:
    """Compute the COCO metrics of result rows.

    Rows are read as the official loader reads them. In particular, the area that makes an unmatched detection small,
    medium or large is that of the box if rows have a ``bbox``, even for masks, and that of the mask otherwise; leave
    ``bbox`` out of mask rows to compare with published mask tables. Two things differ: boxes are ranked by
    ``class_score`` if a row has it, and a box is never taken for a mask.

    Args:
        ground_truth: COCO instance annotations (polygons, RLE, crowds): path of the JSON, its content (not changed),
            parsed or not, a data set, or a `GroundTruth`.
        results: COCO result rows (not changed) or the path of their JSON, for all of ``iou_types``; or a mapping with
            one for each IoU type. If ``images.json`` beside the JSON numbers images or classes otherwise, names decide.
        iou_types: the tables to make: ``bbox``, ``segm``.
        max_detections: ascending limits of detections per image and category. AP is read at the last, AR at each.
        image_ids: images to evaluate; None is every image of the ground truth, in which case the objects of images
            without results count as missed. Results for other images are ignored.
        backend: ``fast`` (faster-coco-eval) or ``pycocotools``; the numbers are the same.

    Raises:
        ConfigError: an argument is out of range.
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
        raise DataError(f"image_ids: {truth.source} has no image with id {few(unknown_images)}")
    if isinstance(results, Mapping):
        missing = [iou_type for iou_type in iou_types if iou_type not in results]
        if missing:
            raise ConfigError(f"results: expected rows for each of {list(iou_types)}, got {list(results)}")
        rows = {iou_type: _rows_of(results[iou_type], truth) for iou_type in iou_types}
    else:
        shared = _rows_of(results, truth)
        rows = dict.fromkeys(iou_types, shared)
    return _evaluate(truth, rows, wanted, limits, backend)


def _rows_of(results: Results, truth: GroundTruth) -> Sequence[Row]:
    rows = read_rows(results)
    return renumber(rows, results, truth) if isinstance(results, str | Path) else rows


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
    counts = count_objects(truth, image_ids)
    for iou_type, rows in results.items():
        prepared = prepare_results(rows, truth, iou_type)
        precision, recall = match_results(truth, prepared, iou_type, image_ids, limits, backend, counts)
        tables[_TABLE_NAMES[iou_type]] = build_table(precision, recall, truth, counts[:, 0].tolist(), limits)
    return CocoMetrics(box=tables["box"], mask=tables["mask"], max_detections=limits, num_images=len(image_ids))


def _limits(max_detections: Sequence[int]) -> tuple[int, ...]:
    limits = tuple(max_detections)
    positive = all(isinstance(limit, int) and limit > 0 for limit in limits)
    if not limits or not positive or list(limits) != sorted(set(limits)):
        raise ConfigError(f"max_detections: expected ascending positive integers such as (1, 10, 100), got {limits}")
    return limits
