"""Mask AP of a data set as it is, by boundaries, and after the repair of each fault of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.evaluation.errors.boundary import boundary_ious
from protomask.evaluation.errors.groups import GroupedObjects
from protomask.evaluation.errors.mask_errors import FAULTS, GOOD, SPLIT, Box, ImageFaults, find_faults
from protomask.evaluation.errors.matching import (
    THRESHOLDS,
    Floats,
    ImageOverlaps,
    match_detections,
    mean_precision,
    outcomes,
    overlaps_of,
)
from protomask.evaluation.errors.report import BoundaryAP, MaskFaults
from protomask.evaluation.errors.tide import IGNORED, Judged

Outcomes = NDArray[np.int8]


class MaskLedger:
    """Collects masks image by image.

    Args:
        groups: sizes, crowding and classes, of the same images.

    """

    def __init__(self, groups: GroupedObjects) -> None:
        self._groups = groups
        self._judged: list[Judged] = []
        self._faults: list[ImageFaults] = []
        self._found: list[Outcomes] = []
        self._by_boundary: list[Outcomes] = []
        self._repaired: list[dict[int, Outcomes]] = []  # of the faults that an image has

    def examine(
        self, overlaps: ImageOverlaps, judged: Judged, boxes: Sequence[Box] | None, score_threshold: float
    ) -> ImageFaults:
        """Look for faults in the masks of one image that score above a threshold and lie in no crowd region."""
        counted = (judged.scores > score_threshold) & (judged.kinds != IGNORED)
        return find_faults(overlaps, counted, boxes)

    def add(self, overlaps: ImageOverlaps, judged: Judged, faults: ImageFaults) -> None:
        """Take one image."""
        ious = overlaps.class_ious
        self._judged.append(judged)
        self._faults.append(faults)
        self._found.append(_results(ious, overlaps.in_crowd))
        self._by_boundary.append(_results(boundary_ious(overlaps), overlaps.in_crowd))
        kinds = [kind for kind in range(len(FAULTS)) if (faults.faults == kind).any()]
        self._repaired.append({kind: _repair(overlaps, faults, kind) for kind in kinds})

    def boundary(self) -> BoundaryAP:
        """Boundary AP of all images."""
        values = self._precisions(self._by_boundary)
        return BoundaryAP(AP=_mean(values), AP50=values[0], AP75=values[5])

    def faults(self) -> MaskFaults:
        """How many masks have which fault, and what it costs."""
        judged = Judged.cat(self._judged)
        starts = np.cumsum([0, *(len(part.object_labels) for part in self._judged)])
        parts = zip(self._faults, starts, strict=False)
        targets = np.concatenate(
            [np.zeros(0, dtype=np.int64), *(np.where(one.targets >= 0, one.targets + at, -1) for one, at in parts)]
        )
        kinds = np.concatenate([np.zeros(0, dtype=np.int8), *(one.faults for one in self._faults)])
        precisions = self._precisions(self._found)
        before = _mean(precisions)
        tallies = {}
        for kind, name in enumerate(FAULTS):
            repaired = [one.get(kind, found) for one, found in zip(self._repaired, self._found, strict=True)]
            after = _mean(self._precisions(repaired)) if (kinds == kind).any() else before
            cost = 0.0 if before is None or after is None else max(0.0, after - before)
            tallies[name] = self._groups.tally("segm", kinds == kind, targets, judged.labels, cost)
        return MaskFaults(
            AP=before,
            AP75=precisions[5],
            examined=int((kinds >= GOOD).sum()),
            good=int((kinds == GOOD).sum()),
            faults=tallies,
            mean_leakage=_mean_known([one.leaked for one in self._faults]),
            mean_outside_box=_mean_known([one.outside_box for one in self._faults]),
        )

    def _precisions(self, found: Sequence[Outcomes]) -> list[float | None]:
        """Mean AP at each IoU threshold."""
        judged = Judged.cat(self._judged)
        results = np.concatenate([np.zeros((len(THRESHOLDS), 0), dtype=np.int8), *found], axis=1)
        counts = np.bincount(judged.object_labels, minlength=self._groups.num_classes).tolist()
        return [mean_precision(judged.scores, judged.labels, row, counts) for row in results]


def _results(class_ious: Floats, in_crowd: Floats) -> Outcomes:
    return outcomes(match_detections(class_ious, THRESHOLDS), in_crowd, THRESHOLDS)


def _repair(overlaps: ImageOverlaps, faults: ImageFaults, kind: int) -> Outcomes:
    """(T, D) outcomes if each mask with a fault were its object; of several pieces of one, only the best is kept."""
    wrong = np.flatnonzero(faults.faults == kind)
    ious, in_crowd = overlaps.ious.copy(), overlaps.in_crowd.copy()
    ious[wrong] = overlaps_of(overlaps.objects, overlaps.objects, "segm")[faults.targets[wrong]]
    in_crowd[wrong] = 0
    pieces = wrong[:0]
    if kind == SPLIT:
        _, best = np.unique(faults.targets[wrong], return_index=True)
        pieces = np.delete(wrong, best)
        ious[pieces] = 0
    results = _results(np.where(overlaps.same, ious, 0.0), in_crowd)
    results[:, pieces] = -1
    return results


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _mean_known(parts: Sequence[Floats]) -> float | None:
    values = np.concatenate([np.zeros(0), *parts])
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
