"""Prototype models (YOLACT): from the candidates of one image to what is kept of them, and to its masks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.averaging import Votes, find_votes
from protomask.detection.mask_nms import Pairs, best_pairs, mask_overlaps, nms_by_overlaps
from protomask.detection.mask_shape import MaskShape
from protomask.detection.nms import batched_nms, cross_class_fast_nms, fast_nms
from protomask.detection.options import Crop, Duplicates, Edges, NmsMode, Overlap, PredictOptions
from protomask.detection.rows import instances_of
from protomask.detection.soft_nms import batched_soft_nms
from protomask.errors import ConfigError
from protomask.masks.grids import assemble_windows
from protomask.settings import Count, NonNegative, Settings, Unit
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import MaskSource


@dataclass(frozen=True, kw_only=True)
class PrototypeRule(Settings):
    """How a prototype model's candidates become detections.

    Attributes:
        nms: kind of non-maximum suppression.
        overlap: what NMS compares.
        iou_threshold: overlap above which NMS suppresses.
        candidate_threshold: anchors whose best class score is not above this are never looked at.
        max_detections: maximum number of instances per image.
        max_candidates: anchors per class that enter fast NMS.
        candidates_per_level: maximum number of anchors of each pyramid level that are looked at, those with the best
            scores; None for no limit.
        anchors_per_level: number of anchors of each level, in their order.
        threshold_detections: ``candidate_threshold`` also holds for each detection of fast NMS.
        clip_boxes: clip boxes to the image before NMS and before masks are cropped.
        empty_boxes_suppress: in fast NMS, a better box without area suppresses another one without area.
        duplicates: what becomes of what NMS suppresses, see `protomask.detection.averaging`.
        crop: how masks are cut, see `protomask.detection.mask_shape.MaskShape`.
        crop_margin: by what share of its sides the box is widened that cuts them.
        edges: how their outlines are made.
        input_side: pixels of the network's square input: the greedy modes measure pixels.

    """

    nms: NmsMode = "fast"
    overlap: Overlap = "box_iou"
    iou_threshold: Unit = 0.5
    candidate_threshold: Unit = 0.05
    max_detections: Count = 100
    max_candidates: Count = 200
    candidates_per_level: Count | None = None
    anchors_per_level: tuple[Count, ...] = ()
    threshold_detections: bool = False
    clip_boxes: bool = False
    empty_boxes_suppress: bool = True
    duplicates: Duplicates = "drop"
    crop: Crop = "box"
    crop_margin: NonNegative = 0.0
    edges: Edges = "grid"
    input_side: Count = 550

    @property
    def shape(self) -> MaskShape:
        """How masks are cut out."""
        return MaskShape(self.crop, self.crop_margin, self.edges)

    def least_candidate(self, score_threshold: float) -> float:
        """The class score above which anchors are candidates where only those above a threshold are wanted.

        What is averaged must not depend on what is wanted.
        """
        return (
            self.candidate_threshold if self.duplicates == "average" else max(self.candidate_threshold, score_threshold)
        )

    def settle(self, options: PredictOptions) -> PrototypeRule:
        """The rule with what the caller chose, and with what follows from it."""
        names = (
            "nms", "overlap", "iou_threshold", "candidate_threshold", "max_detections", "duplicates", "crop",
            "crop_margin", "edges",
        )  # fmt: skip
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        rule = self.replace(**given)
        if rule.max_detections > rule.max_candidates:
            # As many candidates for each detection as before, or dense images would lose detections to that limit.
            more = ceil(self.max_candidates * rule.max_detections / self.max_detections)
            rule = rule.replace(max_candidates=more)
        if options.max_detections is None and rule.nms == "cross_class_fast":
            # Officially it returns all that it keeps.
            rule = rule.replace(max_detections=max(rule.max_candidates, rule.max_detections))
        return rule


class PrototypeRows(NamedTuple):
    """What was kept in one image.

    Attributes:
        boxes: (N, 4) float32 xyxy, relative to the image.
        labels: (N,) int64.
        class_scores: (N,) float32, descending.
        masks: makes the masks in the frame of the original image from (N, h, w) grids, or from prototypes.
        mask_scores: (N,) float32 estimated IoU, not limited to [0, 1]; None without mask rescoring.

    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32]
    masks: PrototypeMasks | NDArray[np.float32]
    mask_scores: NDArray[np.float32] | None = None


class PrototypeMasks(NamedTuple):
    """Masks as (h, w, k) float32 prototypes and (N, k) float32 coefficients."""

    prototypes: NDArray[np.float32]
    coefficients: NDArray[np.float32]


class Kept(NamedTuple):
    """What NMS kept: (N,) rows of the candidates, (N, 4) relative boxes, (N,) labels and class scores.

    ``votes`` says which rows the boxes and masks are means of; None where each is its own.
    """

    rows: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32]
    votes: Votes | None = None

    def means(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, n) values of what was kept, averaged where boxes are, of (K, n) values of all candidates."""
        if self.votes is None:
            return values[self.rows]
        return self.votes.average(values[self.votes.rows], len(self.rows))


def detect(
    class_logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    rule: PrototypeRule,
    *,
    score_threshold: float = 0.0,
    anchors: NDArray[np.int64] | None = None,
    labels: NDArray[np.int64] | None = None,
    masks: PrototypeMasks | None = None,
) -> Kept:
    """Candidates, thresholds, NMS.

    Args:
        class_logits: (K, C + 1) float32, background first.
        boxes: (K, 4) float32 xyxy, relative to the image.
        rule: thresholds and NMS.
        score_threshold: only class scores above this are of interest; what scores less neither suppresses better boxes
            nor takes their places.
        anchors: (K,) int64, ascending: which anchor each row belongs to, where not all of them are given.
        labels: (L,) int64, ascending: the classes that are wanted, None for all. The others count towards no limit of
            detections; they suppress what they would suppress without this choice.
        masks: of the K rows, for a rule whose NMS compares masks.

    """
    threshold = rule.least_candidate(score_threshold)
    with np.errstate(over="ignore", invalid="ignore"):  # a network that diverged gives anything
        candidates, class_scores = _candidates(class_logits, threshold, rule, anchors)
        boxes = boxes[candidates]
        if rule.clip_boxes:
            boxes = boxes.clip(0, 1)
        # It can ask for sides beyond what a float holds.
        finite = np.isfinite(boxes).all(axis=1)
        candidates, boxes, class_scores = candidates[finite], boxes[finite], class_scores[finite]
        own = None if masks is None else PrototypeMasks(masks.prototypes, masks.coefficients[candidates])
        by_class = np.ascontiguousarray(class_scores.T)
        kept, found, scores = _suppress_wanted(boxes, by_class, own, rule, score_threshold, labels)
    if score_threshold > 0:
        above = scores > np.float32(score_threshold)
        kept, found, scores = kept[above], found[above], scores[above]
    if rule.duplicates == "drop":
        return Kept(candidates[kept], boxes[kept], found, scores)
    votes = find_votes(boxes, by_class, kept, found)
    averaged = votes.average(boxes[votes.rows], len(kept))
    means = Kept(candidates[kept], averaged, found, scores, votes._replace(rows=candidates[votes.rows]))
    return means if masks is None or rule.overlap == "box_iou" else _suppress_means(means, masks, rule)


def paint(
    rows: PrototypeRows,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    shape: MaskShape = MaskShape(),  # noqa: B008 - it never changes
) -> Instances:
    """What was kept as `Instances` in the frame of the original image (H, W), with masks of a shape."""
    height, width = image_size
    masks: MaskSource
    with np.errstate(over="ignore"):
        boxes = rows.boxes * np.array([width, height, width, height], dtype=np.float32)
        if isinstance(rows.masks, PrototypeMasks):
            masks = shape.of_prototypes(rows.masks.prototypes, rows.masks.coefficients, rows.boxes, image_size)
        else:
            masks = shape.of_grids(rows.masks, rows.boxes, image_size)
    return instances_of(
        boxes=boxes,
        labels=rows.labels,
        class_scores=rows.class_scores,
        mask_scores=rows.mask_scores,
        masks=masks,
        image_size=image_size,
        class_names=class_names,
    )


def _candidates(
    class_logits: NDArray[np.float32], threshold: float, rule: PrototypeRule, anchors: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Anchors whose best class scores above the threshold: (K,) rows, and their (K, C) scores."""
    possible = possible_rows(class_logits, threshold)
    class_scores = _softmax(class_logits[possible])[:, 1:]
    best_scores = class_scores.max(axis=1, initial=0.0)
    eligible = best_scores > np.float32(threshold)
    if rule.candidates_per_level is not None:
        numbers = possible if anchors is None else anchors[possible]
        eligible &= best_of_levels(best_scores, numbers, rule.anchors_per_level, rule.candidates_per_level)
    return possible[eligible], class_scores[eligible]


def possible_rows(class_logits: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """(K,) rows of (A, C + 1) logits whose best class may score above a threshold; cheaper than all scores."""
    # A softmax is at most what it would be of this class and the background alone, so most anchors need none.
    lead = class_logits[:, 1:].max(axis=1) - class_logits[:, 0]
    limit = threshold - 1e-4
    if limit <= 0:
        return np.arange(len(class_logits))
    return np.flatnonzero(lead > np.float32(np.log(limit / (1 - limit)) if limit < 1 else np.inf))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    scores: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return scores


def best_of_levels(
    scores: NDArray[np.float32], anchors: NDArray[np.int64], anchors_per_level: tuple[int, ...], limit: int
) -> NDArray[np.bool_]:
    """Mark the anchors with the best scores on each pyramid level.

    Args:
        scores: (K,) best class score of some anchors.
        anchors: (K,) int64, which these are.
        anchors_per_level: number of anchors of each level, in their order.
        limit: maximum number of anchors marked on each level.

    Returns:
        (K,) bool.

    Raises:
        ConfigError: the levels have fewer anchors than there are.

    """
    ends = np.cumsum(anchors_per_level)
    if len(anchors) and anchors.max() >= ends[-1]:
        raise ConfigError(
            f"candidates_per_level: expected {ends[-1]} anchors ({', '.join(map(str, anchors_per_level))} on the "
            f"levels), got number {anchors.max()}"
        )
    best = np.zeros(len(scores), dtype=np.bool_)
    level_of = np.searchsorted(ends, anchors, side="right")
    for level in range(len(anchors_per_level)):
        own = np.flatnonzero(level_of == level)
        best[own[np.argsort(-scores[own], kind="stable")[:limit]]] = True
    return best


def _suppress_wanted(
    boxes: NDArray[np.float32],
    class_scores: NDArray[np.float32],
    masks: PrototypeMasks | None,
    rule: PrototypeRule,
    score_threshold: float,
    wanted: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """`_suppress`, of which only some classes are wanted."""
    if wanted is None:
        return _suppress(boxes, class_scores, masks, rule, score_threshold)
    if rule.nms != "cross_class_fast":  # classes do not meet
        kept, labels, scores = _suppress(boxes, class_scores[wanted], masks, rule, score_threshold)
        return kept, wanted[labels], scores
    unlimited = rule.replace(max_detections=max(len(boxes), 1))
    kept, labels, scores = _suppress(boxes, class_scores, masks, unlimited, score_threshold)
    chosen = np.flatnonzero(np.isin(labels, wanted))[: rule.max_detections]
    return kept[chosen], labels[chosen], scores[chosen]


def _suppress(
    boxes: NDArray[np.float32],
    class_scores: NDArray[np.float32],
    masks: PrototypeMasks | None,
    rule: PrototypeRule,
    score_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, labels and scores that remain of (K, 4) boxes with (C, K) scores, best first."""
    if rule.overlap != "box_iou":
        return _suppress_by_masks(boxes, class_scores, masks, rule, score_threshold)
    threshold = max(rule.candidate_threshold, score_threshold)
    if rule.nms == "fast":
        return fast_nms(
            boxes, class_scores, iou_threshold=rule.iou_threshold,
            max_candidates=rule.max_candidates, max_detections=rule.max_detections,
            score_threshold=threshold if rule.threshold_detections else score_threshold or None,
            empty_suppress=rule.empty_boxes_suppress,
        )  # fmt: skip
    if rule.nms == "cross_class_fast":
        kept, labels, scores = cross_class_fast_nms(
            boxes, class_scores, iou_threshold=rule.iou_threshold, max_candidates=rule.max_candidates,
            empty_suppress=rule.empty_boxes_suppress,
        )  # fmt: skip
        top = slice(rule.max_detections)
        return kept[top], labels[top], scores[top]
    # The greedy modes measure pixels: the official one counts a box from 3 to 5 as three wide.
    pixel_boxes = boxes * np.float32(rule.input_side)
    if rule.nms == "batched":
        return batched_nms(
            pixel_boxes, class_scores, iou_threshold=rule.iou_threshold, score_threshold=threshold,
            max_detections=rule.max_detections, legacy_offset=1.0, inclusive=True,
        )  # fmt: skip
    return batched_soft_nms(
        pixel_boxes, class_scores, method="linear" if rule.nms == "soft_linear" else "gaussian",
        iou_threshold=rule.iou_threshold, score_threshold=threshold, max_detections=rule.max_detections,
    )  # fmt: skip


def _suppress_by_masks(
    boxes: NDArray[np.float32],
    class_scores: NDArray[np.float32],
    masks: PrototypeMasks | None,
    rule: PrototypeRule,
    score_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """`_suppress` by masks as they are cropped to their boxes."""
    if masks is None:
        raise ConfigError(f"overlap: expected box_iou where masks are not known before NMS, got {rule.overlap}")
    across = rule.nms == "cross_class_fast"
    threshold: float | None = max(rule.candidate_threshold, score_threshold)
    if across or (rule.nms == "fast" and not rule.threshold_detections):
        threshold = score_threshold or None
    rows, labels, scores = best_pairs(
        class_scores, rule.max_detections, score_threshold=threshold, across_classes=across
    )
    used, places = np.unique(rows, return_inverse=True)
    own = PrototypeMasks(masks.prototypes, masks.coefficients[used])
    kept, found, kept_scores = _compare((places.reshape(-1).astype(np.int64), labels, scores), boxes[used], own, rule)
    return used[kept], found, kept_scores


def _suppress_means(kept: Kept, masks: PrototypeMasks, rule: PrototypeRule) -> Kept:
    """What remains where averaged masks are compared, too: they can be more alike than those that NMS compared."""
    if rule.nms.startswith("soft"):  # which drops nothing
        return kept
    means = PrototypeMasks(masks.prototypes, kept.means(masks.coefficients))
    pairs = np.arange(len(kept.rows)), kept.labels, kept.class_scores
    chosen, labels, scores = _compare(pairs, kept.boxes, means, rule)
    votes = None if kept.votes is None else kept.votes.of(chosen)
    return Kept(kept.rows[chosen], kept.boxes[chosen], labels, scores, votes)


def _compare(
    pairs: Pairs, boxes: NDArray[np.float32], masks: PrototypeMasks, rule: PrototypeRule
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, labels and scores that NMS by masks leaves of pairs, whose rows are those of the boxes and masks."""
    height, width = masks.prototypes.shape[:2]
    windows = assemble_windows(masks.prototypes, masks.coefficients, boxes)
    return nms_by_overlaps(
        pairs, mask_overlaps(windows, (height, width), rule.overlap), rule.nms, iou_threshold=rule.iou_threshold,
        max_detections=rule.max_detections, max_candidates=rule.max_candidates,
    )  # fmt: skip
