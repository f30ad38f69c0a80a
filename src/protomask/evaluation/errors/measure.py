"""Errors on a data set, image by image: types, faults of masks, boundary AP, the worst images."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from protomask.errors import ConfigError
from protomask.evaluation.errors.groups import GroupedObjects
from protomask.evaluation.errors.mask_errors import FAULTS, Box, ImageFaults
from protomask.evaluation.errors.mask_ledger import MaskLedger
from protomask.evaluation.errors.matching import ImageOverlaps, compare_image
from protomask.evaluation.errors.report import ErrorReport, ImageErrors, Mark, TypeErrors
from protomask.evaluation.errors.tide import MISSED, TYPES, Judged, judge_image, measure_costs
from protomask.evaluation.match import IouType, prepare_results
from protomask.evaluation.rows import Results, read_rows
from protomask.evaluation.truth import GroundTruth, Row, TruthSource

SCORE_THRESHOLD = 0.3
"""Detections count above this score, as in prediction and in the confusion matrix."""


def measure_errors(
    ground_truth: TruthSource,
    results: Mapping[IouType, Results],
    *,
    max_detections: int = 100,
    score_threshold: float = SCORE_THRESHOLD,
    image_ids: Iterable[int] | None = None,
    worst: int = 6,
    on_progress: Callable[[int, int], None] | None = None,
) -> ErrorReport:
    """Find the errors of results, what each type costs, and the images with the most of them.

    Masks are compared as run-length codes; dense are only the two that are looked at, in the window of both.

    Args:
        ground_truth: as for `protomask.evaluation.coco.evaluate_coco`.
        results: COCO result rows of boxes (``bbox``), of masks (``segm``), or both. Where both list the same detections
            in one order, boxes are those that the masks were found in.
        max_detections: detections of each image and class that count, the best.
        score_threshold: detections are counted above this score; costs and boundary AP take all of them.
        image_ids: images to look at; None is every image of the ground truth.
        worst: number of images to list.
        on_progress: called with the number of images done, and of all.

    Raises:
        ConfigError: there are no results to look at, or a number is out of range.
        DataError: the ground truth cannot be read, or a row is wrong.

    """
    if not results or set(results) - {"bbox", "segm"}:
        raise ConfigError(f"results: expected rows of 'bbox', 'segm' or both, got {sorted(results)}")
    if max_detections < 1:
        raise ConfigError(f"max_detections: expected at least 1, got {max_detections}")
    if not 0 <= score_threshold <= 1:
        raise ConfigError(f"score_threshold: expected a number from 0 to 1, got {score_threshold}")
    truth = GroundTruth.load(ground_truth, masks="segm" in results)
    rows = {iou_type: read_rows(given) for iou_type, given in results.items()}
    found = {iou_type: _by_image(prepare_results(given, truth, iou_type)) for iou_type, given in rows.items()}
    boxes = _own_boxes(rows, found)
    study = _Study(truth, found, boxes, max_detections, score_threshold)
    wanted = sorted(truth.images if image_ids is None else set(image_ids))
    for done, image_id in enumerate(wanted, start=1):
        study.add(image_id)
        if on_progress is not None:
            on_progress(done, len(wanted))
    return study.report(worst)


def _by_image(rows: Sequence[Row]) -> dict[int, list[Row]]:
    grouped = defaultdict[int, list[Row]](list)
    for row in rows:
        grouped[row["image_id"]].append(row)
    return grouped


def _own_boxes(
    rows: Mapping[IouType, Sequence[Row]], found: Mapping[IouType, Mapping[int, Sequence[Row]]]
) -> dict[int, Box] | None:
    """The box that each mask was found in, by id of the record; None where boxes are not known."""
    masks, given = rows.get("segm"), rows.get("bbox")
    if not masks or not given or not given[0].get("bbox"):
        return None
    listed = [[(row["image_id"], row["category_id"]) for row in side] for side in (masks, given)]
    if listed[0] != listed[1]:
        return None
    return {row["id"]: row["bbox"] for group in found["bbox"].values() for row in group}


class _Study:
    """Collects what is known of each image; only the marks of an image are made again, for the worst ones."""

    def __init__(
        self,
        truth: GroundTruth,
        found: Mapping[IouType, Mapping[int, Sequence[Row]]],
        boxes: Mapping[int, Box] | None,
        limit: int,
        score_threshold: float,
    ) -> None:
        self._truth, self._found, self._boxes = truth, found, boxes
        self._limit, self._score_threshold = limit, score_threshold
        self._annotations = _by_image(truth.annotations)
        categories = sorted(truth.category_names)
        self._labels = {category: label for label, category in enumerate(categories)}
        self._groups = GroupedObjects([truth.category_names[category] for category in categories])
        self._judged: dict[IouType, list[Judged]] = {iou_type: [] for iou_type in found}
        self._masks = MaskLedger(self._groups) if "segm" in found else None
        self._counts: dict[int, Counter[str]] = {}

    def add(self, image_id: int) -> None:
        """Look at one image."""
        annotations = self._annotations.get(image_id, [])
        first = True
        for iou_type in self._found:
            overlaps, judged, faults = self._look_at(image_id, annotations, iou_type)
            self._judged[iou_type].append(judged)
            self._groups.add_detections(iou_type, [row["area"] for row in overlaps.rows])
            if first:
                self._groups.add_objects(overlaps.objects, judged.object_labels)
                first = False
            if faults is not None and self._masks is not None:
                self._masks.add(overlaps, judged, faults)
            if iou_type == "segm" or "segm" not in self._found:
                marks = self._marks(overlaps, judged, faults)
                self._counts[image_id] = Counter(name for mark in marks for name in (mark.error, mark.fault) if name)

    def _look_at(
        self, image_id: int, annotations: Sequence[Row], iou_type: IouType
    ) -> tuple[ImageOverlaps, Judged, ImageFaults | None]:
        overlaps = compare_image(self._found[iou_type].get(image_id, []), annotations, iou_type, self._limit)
        judged = judge_image(overlaps, self._labels)
        if iou_type != "segm" or self._masks is None:
            return overlaps, judged, None
        boxes = None if self._boxes is None else [self._boxes[row["id"]] for row in overlaps.rows]
        return overlaps, judged, self._masks.examine(overlaps, judged, boxes, self._score_threshold)

    def _marks(self, overlaps: ImageOverlaps, judged: Judged, faults: ImageFaults | None) -> tuple[Mark, ...]:
        counted = judged.scores > self._score_threshold
        marks = []
        for index, row in enumerate(overlaps.rows[: int(counted.sum())]):
            kind, fault = int(judged.kinds[index]), -1 if faults is None else int(faults.faults[index])
            error = TYPES[kind] if kind >= 0 else None
            marks.append(Mark(error=error, fault=FAULTS[fault] if fault >= 0 else None, row=row))
        missed = judged.missed(counted).tolist()
        lost = [one for one, is_missed in zip(overlaps.objects, missed, strict=True) if is_missed]
        return (*marks, *(Mark(error=TYPES[MISSED], fault=None, row=one) for one in lost))

    def report(self, worst: int) -> ErrorReport:
        """Everything about the images that were added."""
        types = {iou_type: self._type_errors(iou_type) for iou_type in self._found}
        ranked = sorted(self._counts, key=lambda image_id: (-self._counts[image_id].total(), image_id))
        shown = [image_id for image_id in ranked[:worst] if self._counts[image_id]]
        return ErrorReport(
            num_images=len(self._counts),
            score_threshold=self._score_threshold,
            objects=self._groups.objects(),
            box=types.get("bbox"),
            mask=types.get("segm"),
            faults=None if self._masks is None else self._masks.faults(),
            boundary=None if self._masks is None else self._masks.boundary(),
            worst=tuple(self._image(image_id) for image_id in shown),
        )

    def _type_errors(self, iou_type: IouType) -> TypeErrors:
        judged = Judged.cat(self._judged[iou_type])
        costs = measure_costs(judged, len(self._labels))
        counted = judged.scores > self._score_threshold
        types = {}
        for kind, name in enumerate(TYPES):
            if kind == MISSED:
                tally = self._groups.tally_objects(judged.missed(counted), costs.types[name])
            else:
                chosen = counted & (judged.kinds == kind)
                tally = self._groups.tally(iou_type, chosen, judged.targets, judged.labels, costs.types[name])
            types[name] = tally
        return TypeErrors(
            AP50=costs.AP50,
            correct=int((counted & (judged.kinds == -1)).sum()),
            types=types,
            false_positives_AP_cost=costs.false_positives,
            false_negatives_AP_cost=costs.false_negatives,
        )

    def _image(self, image_id: int) -> ImageErrors:
        iou_type: IouType = "segm" if "segm" in self._found else "bbox"
        seen = self._look_at(image_id, self._annotations.get(image_id, []), iou_type)
        return ImageErrors(
            image_id=image_id,
            file_name=self._truth.images[image_id]["file_name"],
            counts=dict(self._counts[image_id].most_common()),
            marks=self._marks(*seen),
        )
