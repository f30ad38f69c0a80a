"""MOTSA, sMOTSA and identity switches (Voigtlaender et al., CVPR 2019), and IDF1 (Ristani et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protomask.detection.assignment import assign
from protomask.evaluation.tracking.sequence import Sequence

LEAST_OVERLAP = 0.5
_EPSILON = np.finfo(np.float64).eps
_SAME = 1000.0
"""Pairs of the frame before stay together if they can."""


@dataclass(frozen=True, kw_only=True)
class Clear:
    """What the CLEAR measures are made of, so that videos can be added up.

    Attributes:
        matched, missed, wrong: true positives, false negatives and false positives.
        switches: how often an object was found by a different track from the last time.
        overlap: sum over the true positives of their IoU.

    """

    matched: int
    missed: int
    wrong: int
    switches: int
    overlap: float

    def __add__(self, other: Clear) -> Clear:
        return Clear(**{name: own + vars(other)[name] for name, own in vars(self).items()})

    def values(self) -> dict[str, float]:
        """MOTSA and sMOTSA (at most 1), MOTSP in [0, 1], and the number of switches, IDSW."""
        objects = max(self.matched + self.missed, 1)
        return {
            "MOTSA": (self.matched - self.wrong - self.switches) / objects,
            "sMOTSA": (self.overlap - self.wrong - self.switches) / objects,
            "MOTSP": self.overlap / max(self.matched, 1),
            "IDSW": float(self.switches),
        }


def clear(sequence: Sequence) -> Clear:
    """Count one video."""
    last = np.full(sequence.num_truth, -1)  # track of each object, the last time it was found
    before = last.copy()  # the same in only the frame before
    matched = switches = 0
    overlap = 0.0
    for frame in sequence.frames:
        if not frame.overlaps.size:  # TrackEval takes no notice of such frames, so pairs outlast them
            continue
        same = before[frame.truth][:, None] == frame.found[None]
        gains = np.where(frame.overlaps >= LEAST_OVERLAP - _EPSILON, frame.overlaps + _SAME * same, 0.0)
        rows, columns = assign(gains)
        objects, tracks = frame.truth[rows], frame.found[columns]
        switches += int(((last[objects] >= 0) & (last[objects] != tracks)).sum())
        before[:] = -1
        last[objects] = before[objects] = tracks
        matched += len(rows)
        overlap += float(frame.overlaps[rows, columns].sum())
    truth, found = (int(counts.sum()) for counts in sequence.counts())
    return Clear(matched=matched, missed=truth - matched, wrong=found - matched, switches=switches, overlap=overlap)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What IDF1 is made of, so that videos can be added up: each object has one track, and each track one object.

    Attributes:
        matched, missed, wrong: true positives, false negatives and false positives.

    """

    matched: int
    missed: int
    wrong: int

    def __add__(self, other: Identity) -> Identity:
        return Identity(**{name: own + vars(other)[name] for name, own in vars(self).items()})

    def values(self) -> dict[str, float]:
        """IDF1, IDR and IDP in [0, 1]."""
        return {
            "IDF1": self.matched / max(self.matched + 0.5 * (self.missed + self.wrong), 1),
            "IDR": self.matched / max(self.matched + self.missed, 1),
            "IDP": self.matched / max(self.matched + self.wrong, 1),
        }


def identity(sequence: Sequence) -> Identity:
    """Count one video."""
    common = np.zeros((sequence.num_truth, sequence.num_found))
    for frame in sequence.frames:
        common[np.ix_(frame.truth, frame.found)] += frame.overlaps >= LEAST_OVERLAP
    matched = int(common[assign(common)].sum())
    truth, found = (int(counts.sum()) for counts in sequence.counts())
    return Identity(matched=matched, missed=truth - matched, wrong=found - matched)
