"""Which detection continues which track."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protomask.detection.assignment import assign
from protomask.inference.tracking.motion import BoxMotion
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.tracking.similarity import Floats, Overlaps
from protomask.inference.tracking.track import Track
from protomask.masks.coarse import CoarseMask

Rows = NDArray[np.int64]

_EXCUSED = 0.5
"""Weight of the overlap without hidden parts; the rest is the plain one."""
_WEAK = 0.3
"""Overlap that a detection of low score needs to continue a track."""
_SURE = 0.3
"""Overlap from which a pair says something about the motion of the camera."""
_FEWEST_SURE = 3
_AGREE = 0.06
"""How far the motion of a pair may be from that of the camera, in sizes of the object."""
_MOST = 0.7
"""Share of the pairs that must agree."""
_RETURN_SIZES = 0.6
"""How far from its expected place a lost object may come back at first, in sizes of the object."""
_RETURN_SPEED = 1.0
"""Sizes per second by which that grows."""
_LEAST_RETURN = 0.2


class Seen(NamedTuple):
    """The detections of one frame that count.

    Attributes:
        rows: (M,) of the frame's instances, best first.
        boxes: (M, 4) xyxy, px.
        masks: M, on the coarse grid.
        labels: (M,).
        scores: (M,) final scores.

    """

    rows: Rows
    boxes: Floats
    masks: list[CoarseMask]
    labels: Rows
    scores: Floats

    @property
    def centres(self) -> Floats:
        """(M, 2) x, y of the boxes, px."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


def first_of_each(shared: Floats, most: float) -> Rows:
    """Which of M detections are not one of the same object again: they share up to ``most`` with each better one.

    Args:
        shared: (M, M) overlaps with each other, best first.
        most: an overlap.

    """
    kept = np.ones(len(shared), dtype=np.bool_)
    again = np.triu(shared > most, k=1)
    for row in np.flatnonzero(again.any(axis=1)).tolist():
        if kept[row]:
            kept &= ~again[row]
    return np.flatnonzero(kept)


def class_factors(tracks: Sequence[Track], labels: Rows, weight: float) -> Floats:
    """(N, M) what is left of the fit of a detection to a track of other votes, 1 for the same class."""
    if not tracks or not len(labels):
        return np.ones((len(tracks), len(labels)))
    shares = np.stack([track.shares() for track in tracks])
    factors: Floats = 1 - weight * (1 - shares[:, labels])
    return factors


def fits(shared: Overlaps, classes: Floats, least: float) -> Floats:
    """(N, M) how well detections fit tracks, 0 where they overlap too little."""
    fit = (_EXCUSED * shared.excused + (1 - _EXCUSED) * shared.plain) * classes
    return np.where(fit > least, fit, 0.0)


def camera_shift(fit: Floats, motion: BoxMotion, seen: Seen) -> Floats | None:
    """(2,) x, y px by which everything lies beside where it should; None where too few pairs agree."""
    rows, columns = assign(np.where(fit > _SURE, fit, 0.0))
    if len(rows) < _FEWEST_SURE:
        return None
    beside = seen.centres[columns] - motion.place[rows, :2]
    shift: Floats = np.median(beside, axis=0)
    near = np.hypot(*(beside - shift).T) < _AGREE * motion.sizes[rows, 0]
    return shift if near.sum() > _MOST * len(rows) else None


def match(
    fit: Floats, tracks: Sequence[Track], motion: BoxMotion, seen: Seen, classes: Floats, options: TrackOptions
) -> Rows:
    """The detection of each track.

    Args:
        fit: (N, M), see `fits`.
        tracks: N tracks.
        motion: of the tracks.
        seen: M detections.
        classes: (N, M), see `class_factors`.
        options: of the tracker.

    Returns:
        (N,) number of a detection, -1 for none.

    """
    partner = np.full(len(tracks), -1, dtype=np.int64)
    confirmed = np.array([track.confirmed for track in tracks], dtype=np.bool_)
    high = seen.scores >= options.high_score
    stages = ((fit, confirmed, high), (fit, confirmed, ~high), (fit, ~confirmed, high), (None, confirmed, high))
    for gains, may, wanted in stages:
        free = np.ones(len(seen.rows), dtype=np.bool_)
        free[partner[partner >= 0]] = False
        rows, columns = np.flatnonzero(may & (partner < 0)), np.flatnonzero(wanted & free)
        if len(rows) and len(columns):
            whole = returns(tracks, motion, seen, classes) if gains is None else gains
            part = whole[np.ix_(rows, columns)]
            first, second = assign(part if wanted is high else np.where(part > _WEAK, part, 0.0))
            partner[rows[first]] = columns[second]
    return partner


def returns(tracks: Sequence[Track], motion: BoxMotion, seen: Seen, classes: Floats) -> Floats:
    """(N, M) how well detections could be lost tracks that come back, by place, size and class."""
    sides = np.maximum(seen.boxes[:, 2:] - seen.boxes[:, :2], 1.0)
    size, found_size = motion.sizes, np.sqrt(sides.prod(axis=1))[None]
    unseen = np.array([track.unseen for track in tracks])[:, None]
    last = np.stack([track.centre for track in tracks])
    away = np.minimum(_distances(motion.place[:, :2], seen.centres), _distances(last, seen.centres))
    reach = size * (_RETURN_SIZES + _RETURN_SPEED * unseen)
    # What comes back may be seen only in part.
    alike = np.minimum(np.sqrt(found_size / size), size / found_size)
    gain = np.exp(-0.5 * (away / reach) ** 2) * alike * classes
    return np.where(gain > _LEAST_RETURN, gain, 0.0)


def _distances(first: Floats, second: Floats) -> Floats:
    away: Floats = np.hypot(first[:, None, 0] - second[None, :, 0], first[:, None, 1] - second[None, :, 1])
    return away
