"""`MaskTracker`: follows objects by their masks."""

from __future__ import annotations

import numpy as np

from protomask.errors import DataError
from protomask.images.decode import Pixels
from protomask.inference.tracking.association import (
    Rows,
    Seen,
    camera_shift,
    class_factors,
    first_of_each,
    fits,
    match,
)
from protomask.inference.tracking.hiding import covered, hidden_part, hidden_reach, measured_places
from protomask.inference.tracking.motion import BoxMotion
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.tracking.similarity import Floats, Overlaps, overlaps
from protomask.inference.tracking.track import Track
from protomask.inference.tracking.tracker import Tracker
from protomask.masks.coarse import CoarseMask, coarse_masks, coarse_size
from protomask.structures.instances import Instances

_DUPLICATE = 0.5
"""IoU with the detection of a track, above which a detection begins no track of its own."""
_HIDDEN = 0.6
"""Share of a lost object under others, from which its time runs slower."""
_HIDDEN_TIME = 0.5


class MaskTracker(Tracker):
    """Compares masks, which tell objects apart where their boxes overlap.

    Every track has a box that moves with constant velocity, and a mask on a coarse grid that keeps what other objects
    hide of it. The detections of high score are given to the tracks that they fit best, then those of low score to the
    tracks that are left; then lost tracks are looked for near where they should be.

    Args:
        options: see `TrackOptions`.

    """

    def __init__(self, options: TrackOptions) -> None:
        super().__init__(options)
        self.reset()

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._tracks: list[Track] = []
        self._motion = BoxMotion()
        self._next_number = 1
        self._time: float | None = None
        self._frame: tuple[tuple[int, int], tuple[str, ...]] | None = None

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """See `Tracker.update`."""
        is_first = self._frame is None
        self._check_frame(found)
        seconds = 0.0 if is_first else self._passed(time)
        self._time = time
        seen = self._look(found)
        self._motion.predict(seconds)
        expected, shared, partner = self._associate(seen)
        self._age(seconds, shared, partner)
        self._learn(seen, partner, expected)
        rows = self._bury(partner)
        rows = self._begin(seen, rows, at_once=is_first)
        return self._reported(found, seen, rows)

    def _check_frame(self, found: Instances) -> None:
        size, names = self._frame or (found.image_size, found.class_names)
        if size != found.image_size:
            raise DataError(f"tracker: expected frames of one size, (H, W) = {size} as before, got {found.image_size}")
        if names != found.class_names:
            raise DataError(f"tracker: expected the {len(names)} classes of the frames before, got others")
        self._frame = (size, names)

    def _passed(self, time: float | None) -> float:
        """Seconds since the last frame; none if its time is earlier."""
        if time is None or self._time is None:
            return 1 / self.options.frame_rate
        return max(time - self._time, 0.0)

    def _look(self, found: Instances) -> Seen:
        rows = np.flatnonzero(found.scores >= self.options.low_score)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        runs = found.runs()
        masks = coarse_masks([runs[row] for row in rows.tolist()], found.image_size, self._grid_size)
        boxes = found.boxes[rows].astype(np.float64)
        kept = first_of_each(overlaps(masks, boxes, masks, boxes).plain, _DUPLICATE)
        rows = rows[kept]
        return Seen(
            rows=rows,
            boxes=boxes[kept],
            masks=[masks[place] for place in kept.tolist()],
            labels=found.labels[rows],
            scores=found.scores[rows].astype(np.float64),
        )

    @property
    def _image_size(self) -> tuple[int, int]:
        assert self._frame is not None
        return self._frame[0]

    @property
    def _class_names(self) -> tuple[str, ...]:
        assert self._frame is not None
        return self._frame[1]

    @property
    def _grid_size(self) -> tuple[int, int]:
        return coarse_size(self._image_size, self.options.grid)

    @property
    def _cell(self) -> Floats:
        """(2,) width and height of a cell, px."""
        cell: Floats = np.array(self._image_size[::-1]) / np.array(self._grid_size[::-1])
        return cell

    def _expected(self) -> list[CoarseMask]:
        """The masks of all tracks where they should be now."""
        if not self._tracks:
            return []
        shifts = (self._motion.place[:, :2] - np.stack([track.centre for track in self._tracks])) / self._cell
        return [
            track.mask.moved(*shift)
            for track, shift in zip(self._tracks, np.rint(shifts).astype(np.int64).tolist(), strict=True)
        ]

    def _associate(self, seen: Seen) -> tuple[list[CoarseMask], Overlaps, Rows]:
        """The masks of the tracks where they should be, their overlaps, and the detection of each."""
        least = self.options.min_overlap
        classes = class_factors(self._tracks, seen.labels, self.options.class_weight)
        expected = self._expected()
        shared = overlaps(expected, self._motion.boxes, seen.masks, seen.boxes)
        fit = fits(shared, classes, least)
        shift = camera_shift(fit, self._motion, seen)
        if shift is not None and float(np.abs(shift).max()) > 0.5:
            self._motion.move(shift)
            expected = self._expected()
            shared = overlaps(expected, self._motion.boxes, seen.masks, seen.boxes)
            fit = fits(shared, classes, least)
        return expected, shared, match(fit, self._tracks, self._motion, seen, classes, self.options)

    def _age(self, seconds: float, shared: Overlaps, partner: Rows) -> None:
        """Let the time of the tracks pass that were not detected."""
        for track, hidden, row in zip(self._tracks, shared.hidden.tolist(), partner.tolist(), strict=True):
            if row < 0:
                track.unseen += seconds * (_HIDDEN_TIME if hidden > _HIDDEN else 1.0)

    def _learn(self, seen: Seen, partner: Rows, expected: list[CoarseMask]) -> None:
        """Correct the tracks by their detections."""
        rows = np.flatnonzero(partner >= 0)
        if not len(rows):
            return
        chosen = partner[rows]
        cover = covered(seen.masks, self._grid_size)
        hidden = [
            hidden_part(expected[row], seen.masks[column], cover)
            for row, column in zip(rows.tolist(), chosen.tolist(), strict=True)
        ]
        places = measured_places(
            self._motion.boxes[rows], seen.boxes[chosen], hidden_reach(hidden), self._image_size, self._cell
        )
        self._motion.update(rows, *places)
        for place, (row, column) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
            track = self._tracks[row]
            track.mask = seen.masks[column].united(hidden[place])
            track.centre = self._motion.place[row, :2].copy()
            track.vote(int(seen.labels[column]), float(seen.scores[column]))
            if not track.confirmed and track.hits >= self.options.confirm_frames:
                self._confirm(track)

    def _confirm(self, track: Track) -> None:
        track.number = self._next_number
        self._next_number += 1

    def _bury(self, partner: Rows) -> Rows:
        """Forget tracks that are lost for too long, or were lost before they were confirmed."""
        alive = np.array(
            [
                row >= 0 or (track.confirmed and track.unseen <= self.options.lost_seconds)
                for track, row in zip(self._tracks, partner.tolist(), strict=True)
            ],
            dtype=np.bool_,
        )
        if not alive.all():
            self._tracks = [track for track, lives in zip(self._tracks, alive.tolist(), strict=True) if lives]
            self._motion.keep(alive)
        return partner[alive]

    def _begin(self, seen: Seen, partner: Rows, *, at_once: bool) -> Rows:
        """Begin tracks with the detections that continue none; the detection of every track, with the new ones."""
        taken = np.zeros(len(seen.rows), dtype=np.bool_)
        taken[partner[partner >= 0]] = True
        fresh = np.flatnonzero(~taken & (seen.scores >= self.options.new_score))
        again = overlaps(
            [seen.masks[row] for row in fresh.tolist()],
            seen.boxes[fresh],
            [seen.masks[row] for row in np.flatnonzero(taken).tolist()],
            seen.boxes[taken],
        ).plain
        fresh = fresh[again.max(axis=1, initial=0.0) < _DUPLICATE]
        self._motion.add(seen.boxes[fresh])
        for row in fresh.tolist():
            track = Track(0, seen.masks[row], seen.centres[row], np.zeros(len(self._class_names)))
            track.vote(int(seen.labels[row]), float(seen.scores[row]))
            if at_once or track.hits >= self.options.confirm_frames:
                self._confirm(track)
            self._tracks.append(track)
        return np.concatenate([partner, fresh])

    def _reported(self, found: Instances, seen: Seen, partner: Rows) -> Instances:
        reported = [
            (int(seen.rows[row]), track)
            for track, row in zip(self._tracks, partner.tolist(), strict=True)
            if row >= 0 and track.confirmed
        ]
        reported.sort(key=lambda pair: pair[0])
        chosen = found[np.array([row for row, _ in reported], dtype=np.int64)]
        return chosen.replace(
            labels=np.array([track.label for _, track in reported], dtype=np.int64),
            track_ids=np.array([track.number for _, track in reported], dtype=np.int64),
            detected_labels=chosen.labels,
        )
