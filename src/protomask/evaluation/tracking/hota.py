"""HOTA: detection and association in one number (Luiten et al., IJCV 2020), as TrackEval computes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.detection.assignment import assign
from protomask.evaluation.tracking.sequence import Sequence

ALPHAS = np.arange(1, 20) * 0.05
"""IoU thresholds, over which HOTA is the mean."""
_EPSILON = np.finfo(np.float64).eps

Counts = NDArray[np.float64]
"""(19,), one per threshold."""


@dataclass(frozen=True, kw_only=True)
class Hota:
    """What HOTA is made of, so that videos can be added up.

    Attributes:
        matched, missed, wrong: true positives, false negatives and false positives.
        association, recall, precision: sums over the true positives of the share of frames that their object and track
            have in common: of all frames of the two, of the object's, and of the track's.
        location: sum over the true positives of their IoU.

    """

    matched: Counts
    missed: Counts
    wrong: Counts
    association: Counts
    recall: Counts
    precision: Counts
    location: Counts

    def __add__(self, other: Hota) -> Hota:
        return Hota(**{name: own + vars(other)[name] for name, own in vars(self).items()})

    def values(self) -> dict[str, float]:
        """HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr and LocA in [0, 1]."""
        matched = np.maximum(self.matched, 1)
        detection = self.matched / np.maximum(self.matched + self.missed + self.wrong, 1)
        association = self.association / matched
        found = np.where(self.matched > 0, self.location / matched, 1.0)
        curves = {
            "HOTA": np.sqrt(detection * association),
            "DetA": detection,
            "AssA": association,
            "DetRe": self.matched / np.maximum(self.matched + self.missed, 1),
            "DetPr": self.matched / np.maximum(self.matched + self.wrong, 1),
            "AssRe": self.recall / matched,
            "AssPr": self.precision / matched,
            "LocA": found,
        }
        return {name: float(curve.mean()) for name, curve in curves.items()}


def hota(sequence: Sequence) -> Hota:
    """Count one video."""
    truth_frames, found_frames = sequence.counts()
    alike = _alike(sequence, truth_frames, found_frames)
    size = len(ALPHAS)
    common = np.zeros((size, sequence.num_truth, sequence.num_found))
    matched, location = np.zeros(size), np.zeros(size)
    for frame in sequence.frames:
        rows, columns = assign(alike[np.ix_(frame.truth, frame.found)] * frame.overlaps)
        overlaps = frame.overlaps[rows, columns]
        enough = overlaps[None] >= ALPHAS[:, None] - _EPSILON
        matched += enough.sum(axis=1)
        location += (enough * overlaps).sum(axis=1)
        common[:, frame.truth[rows], frame.found[columns]] += enough
    truth, found = truth_frames[None, :, None], found_frames[None, None, :]
    return Hota(
        matched=matched,
        missed=truth_frames.sum() - matched,
        wrong=found_frames.sum() - matched,
        association=(common * common / np.maximum(truth + found - common, 1)).sum(axis=(1, 2)),
        recall=(common * common / np.maximum(truth, 1)).sum(axis=(1, 2)),
        precision=(common * common / np.maximum(found, 1)).sum(axis=(1, 2)),
        location=location,
    )


def _alike(sequence: Sequence, truth_frames: NDArray[np.int64], found_frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, M) how well objects and tracks agree over the whole video; it decides which of them are matched."""
    shared = np.zeros((sequence.num_truth, sequence.num_found))
    for frame in sequence.frames:
        overlaps = frame.overlaps
        total = overlaps.sum(axis=0)[None] + overlaps.sum(axis=1)[:, None] - overlaps
        share = np.divide(overlaps, total, out=np.zeros_like(overlaps), where=total > _EPSILON)
        shared[np.ix_(frame.truth, frame.found)] += share
    alike: NDArray[np.float64] = shared / np.maximum(truth_frames[:, None] + found_frames[None] - shared, _EPSILON)
    return alike
