"""FCIS: from the regions of one image to instances, by NMS and by a vote of overlapping regions on each mask.

Boxes here have pixels as their far corners, as published: one from 3 to 5 is three wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection import regions
from protomask.detection.nms import batched_nms, cross_class_fast_nms, fast_nms
from protomask.detection.options import NmsMode
from protomask.detection.soft_nms import batched_soft_nms
from protomask.masks.grids import PASTE_THRESHOLDS, GridWindow, interpolate_runs, region_lines
from protomask.masks.runs import Runs
from protomask.settings import Count, Settings, Unit
from protomask.structures.instances import Instances

Floats = NDArray[np.float32]
MASK_SHARE = float(np.float32(0.4))
"""Least probability, and least share of the votes, of a pixel of a mask (float32, as published)."""
MIN_SIDE = 2.0
"""Network pixels; thinner regions are dropped."""


class VotingRows(NamedTuple):
    """The regions of one image.

    Attributes:
        boxes: (R, 4) float32 xyxy, pixels of the image as the network got it.
        class_probs: (R, num_classes) float32, without the background.
        mask_probs: (R, m, m) float32 in [0, 1], each over its box.

    """

    boxes: Floats
    class_probs: Floats
    mask_probs: Floats


class Elected(NamedTuple):
    """What was kept of one image, in the order of class scores.

    Attributes:
        rows: (N,) int64, the regions that NMS kept.
        labels: (N,) int64.
        class_scores: (N,) float32.
        boxes: (N, 4) int64 xyxy, first and last pixels of the voted masks, in the original image.
        mask_probs: (N, m, m) float32, the votes on a grid over the box.
        num_votes: (N,) int64, regions that voted, the kept one among them.

    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_scores: Floats
    boxes: NDArray[np.int64]
    mask_probs: Floats
    num_votes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VotingRule(Settings):
    """How regions become instances; fields as in `protomask.models.config.ModelConfig`."""

    nms: NmsMode = "batched"
    iou_threshold: Unit = 0.3
    candidate_threshold: Unit = 0.001
    max_detections: Count = 100
    vote_iou: Unit = 0.5


def paint(
    rows: VotingRows,
    image_size: tuple[int, int],
    class_names: tuple[str, ...],
    rule: VotingRule,
    *,
    scale: float,
    score_threshold: float = 0.0,
    labels: NDArray[np.int64] | None = None,
) -> Instances:
    """The instances of one image; see `elect` for the arguments."""
    elected = elect(rows, image_size, rule, scale=scale, score_threshold=score_threshold, labels=labels)
    whole = elected.boxes + np.array([0, 0, 1, 1])
    of_region = regions.RegionRows(
        boxes=whole.astype(np.float32),
        labels=elected.labels,
        class_scores=elected.class_scores,
        mask_probs=elected.mask_probs,
        mask_scores=None,
        input_size=image_size,
    )
    return regions.paint(of_region, image_size, class_names, paste="pixels")


def elect(
    rows: VotingRows,
    image_size: tuple[int, int],
    rule: VotingRule,
    *,
    scale: float,
    score_threshold: float = 0.0,
    labels: NDArray[np.int64] | None = None,
) -> Elected:
    """Choose regions by NMS, and let those that overlap each of them vote on its mask.

    Args:
        rows: of one image.
        image_size: (H, W) of the original image.
        rule: thresholds.
        scale: by which the image was resized for the network.
        score_threshold: only what scores above is looked at.
        labels: (L,) the only classes that are wanted; the others count towards no limit of detections.

    """
    usable = ((rows.boxes[:, 2:] - rows.boxes[:, :2] + 1 >= MIN_SIDE) & np.isfinite(rows.boxes[:, 2:])).all(axis=1)
    usable &= np.isfinite(rows.class_probs).all(axis=1)
    places = np.flatnonzero(usable)
    boxes = in_original_image(rows.boxes[places], image_size, scale)
    probs, masks = rows.class_probs[places], rows.mask_probs[places]
    threshold = max(rule.candidate_threshold, score_threshold)
    kept, kept_labels, scores = _suppress(boxes, probs, rule, threshold, labels)
    ballots = _Ballots(boxes, masks, image_size)
    results = [ballots.count(_votes(boxes, row, probs[:, label], rule.vote_iou)) for row, label in
               zip(kept.tolist(), kept_labels.tolist(), strict=True)]  # fmt: skip
    there = np.array([result is not None for result in results], dtype=np.bool_)
    found = [result for result in results if result is not None]
    cells = masks.shape[1:]
    return Elected(
        rows=places[kept[there]],
        labels=kept_labels[there],
        class_scores=scores[there],
        boxes=np.array([one.box for one in found], dtype=np.int64).reshape(-1, 4),
        mask_probs=np.array([one.shares for one in found], dtype=np.float32).reshape(-1, *cells),
        num_votes=np.array([one.votes for one in found], dtype=np.int64),
    )


def in_original_image(boxes: Floats, image_size: tuple[int, int], scale: float) -> NDArray[np.float64]:
    """(R, 4) boxes of the resized image in the original one of a size (H, W)."""
    last = np.array([image_size[1] - 1, image_size[0] - 1] * 2, dtype=np.float64)
    return (boxes.astype(np.float64) / scale).clip(0, last)


def _suppress(
    boxes: NDArray[np.float64],
    probs: Floats,
    rule: VotingRule,
    threshold: float,
    labels: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Rows, labels and scores that NMS keeps, best first."""
    scores = np.ascontiguousarray(probs.T)
    if rule.nms == "cross_class_fast":
        kept, found, best = cross_class_fast_nms(
            _extended(boxes), scores, iou_threshold=rule.iou_threshold, max_candidates=max(len(boxes), 1),
            score_threshold=threshold,
        )  # fmt: skip
        if labels is not None:
            wanted = np.isin(found, labels)
            kept, found, best = kept[wanted], found[wanted], best[wanted]
        return kept[: rule.max_detections], found[: rule.max_detections], best[: rule.max_detections]
    if labels is not None:  # classes do not meet
        scores = scores[labels]
    iou, limit = rule.iou_threshold, rule.max_detections
    if rule.nms == "batched":
        kept, found, best = batched_nms(
            boxes.astype(np.float32), scores, iou_threshold=iou, score_threshold=threshold, max_detections=limit,
            legacy_offset=1.0,
        )  # fmt: skip
    elif rule.nms == "fast":
        kept, found, best = fast_nms(
            _extended(boxes), scores, iou_threshold=iou, score_threshold=threshold, max_detections=limit,
            max_candidates=max(len(boxes), 1),
        )  # fmt: skip
    else:
        kept, found, best = batched_soft_nms(
            boxes.astype(np.float32), scores, iou_threshold=iou, score_threshold=threshold, max_detections=limit,
            method="linear" if rule.nms == "soft_linear" else "gaussian", offset=1.0,
        )  # fmt: skip
    return kept, found if labels is None else labels[found], best


def _extended(boxes: NDArray[np.float64]) -> Floats:
    """Boxes that end behind their last pixels."""
    extended: Floats = (boxes + np.array([0, 0, 1, 1])).astype(np.float32)
    return extended


class _Votes(NamedTuple):
    """Regions that vote on one mask, and the weight of each."""

    rows: NDArray[np.int64]
    weights: NDArray[np.float64]


class _Result(NamedTuple):
    box: tuple[int, int, int, int]
    shares: Floats
    votes: int


def _votes(boxes: NDArray[np.float64], row: int, probs: Floats, least_iou: float) -> _Votes:
    """Whoever overlaps a region, itself included, votes with its probability of the class."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    shared = np.minimum(boxes[:, 2:], boxes[row, 2:]) - np.maximum(boxes[:, :2], boxes[row, :2]) + 1
    common = np.prod(shared.clip(0), axis=1)
    voters = np.flatnonzero(common / (areas + areas[row] - common) >= least_iou)
    weights = probs[voters].astype(np.float64)
    return _Votes(voters, weights / weights.sum())


class _Ballots:
    """The masks of the regions of one image as pixels; each is drawn once, when it is first needed.

    Args:
        boxes: (R, 4) in the original image.
        masks: (R, m, m) probabilities.
        image_size: (H, W) of the original image.

    """

    def __init__(self, boxes: NDArray[np.float64], masks: Floats, image_size: tuple[int, int]) -> None:
        self._boxes = np.rint(boxes).astype(np.int64)
        self._masks = masks
        self._image_size = image_size
        # In a frame with one more row no run of pixels goes on in the next column.
        self._height = image_size[0] + 1
        self._drawn: dict[int, Runs] = {}

    def count(self, votes: _Votes) -> _Result | None:
        """The mask that wins; None where it has no two rows and columns."""
        boxes = self._boxes[votes.rows]
        left, top = boxes[:, :2].min(axis=0).tolist()
        shares = self._shares(votes, (left, top), boxes[:, 2:].max(axis=0) + 1)
        above = shares >= MASK_SHARE
        rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
        if not len(rows) or rows[-1] == rows[0] or columns[-1] == columns[0]:
            return None
        cells = self._masks.shape[1]
        y, x = (
            _sampled(first + int(line[0]), first + int(line[-1]), cells, side)
            for first, line, side in ((top, rows, self._image_size[0]), (left, columns, self._image_size[1]))
        )
        around = np.pad(shares, 1)
        grid = x.of(y.of(around, top - 1).T, left - 1).T
        box = (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]), top + int(rows[-1]))
        return _Result(box, grid.astype(np.float32), len(votes.rows))

    def _shares(self, votes: _Votes, start: tuple[int, int], stop: NDArray[np.int64]) -> NDArray[np.float64]:
        """(h, w) share of the votes that each pixel of a window of the image has."""
        width, height = int(stop[0]) - start[0], int(stop[1]) - start[1]
        runs = [self._runs(row) for row in votes.rows.tolist()]
        turns = np.concatenate(runs).reshape(-1, 2) if runs else np.zeros((0, 2), dtype=np.int64)
        weights = np.repeat(votes.weights, [len(one) for one in runs])
        column, first = np.divmod(turns[:, 0], self._height)
        last = turns[:, 1] - column * self._height
        line = (column - start[0]) * (height + 1) - start[1]
        size = width * (height + 1)
        begun = np.bincount(line + first, weights, size)
        ended = np.bincount(line + last, weights, size)
        shares: NDArray[np.float64] = (begun - ended).reshape(width, height + 1).cumsum(axis=1)[:, :-1].T
        return shares

    def _runs(self, row: int) -> Runs:
        if row not in self._drawn:
            x1, y1, x2, y2 = self._boxes[row].tolist()
            mask = self._masks[row]
            rows, columns = region_lines((x1, y1, x2 + 1, y2 + 1), len(mask), self._image_size, paste="pixels")
            window = GridWindow(0, 0, mask)
            threshold = PASTE_THRESHOLDS["pixels"]
            [self._drawn[row]] = interpolate_runs([window], rows, columns, self._height, threshold=threshold)
        return self._drawn[row]


class _Samples(NamedTuple):
    """Places of an axis between two pixels each: their numbers, and the share of the second."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float64]

    def of(self, values: NDArray[np.float64], start: int) -> NDArray[np.float64]:
        """Interpolated rows of (h, w) values, whose first row is pixel ``start``."""
        share = self.share[:, None]
        return values[self.first - start] * (1 - share) + values[self.second - start] * share


def _sampled(first: int, last: int, cells: int, limit: int) -> _Samples:
    """The centres of equal cells of the pixels ``first`` to ``last`` of an image with this many pixels."""
    place = first + (np.arange(cells) + 0.5) * ((last - first + 1) / cells) - 0.5
    low = np.floor(place).astype(np.int64)
    return _Samples(low.clip(0, limit - 1), (low + 1).clip(0, limit - 1), place - low)
