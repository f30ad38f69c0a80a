"""`BoxTracker`: ByteTrack, OC-SORT and BoT-SORT from the package `trackers`, behind the same interface."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from protomask.errors import ConfigError, DataError, MissingExtraError
from protomask.images.decode import Pixels
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.tracking.tracker import Tracker
from protomask.structures.instances import Instances

_CLASSES = {"bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker", "botsort": "BoTSORTTracker"}
_BUFFER_RATE = 30
"""Frames per second in which those trackers count how long lost tracks are kept."""


class BoxTracker(Tracker):
    """A tracker that compares boxes and knows no classes: the label of each detection stays as it is.

    Of `TrackOptions` it takes ``high_score``, ``low_score``, ``confirm_frames``, ``lost_seconds``, ``frame_rate``, and
    ``new_score``, which OC-SORT does not have.

    Args:
        name: bytetrack, ocsort or botsort.
        options: see `TrackOptions`.
        own: further arguments of the class in ``trackers``, which come on top.

    Raises:
        ConfigError: ``trackers`` takes no such arguments.
        MissingExtraError: ``trackers`` is not installed.

    """

    def __init__(self, name: str, options: TrackOptions, **own: Any) -> None:
        super().__init__(options)
        try:
            import supervision
            import trackers
        except ImportError as error:
            raise MissingExtraError(f"{name} needs trackers: pip install 'protomask[trackers]'") from error
        self.name = name
        self._detections = supervision.Detections
        settings: dict[str, Any] = {
            "lost_track_buffer": round(options.lost_seconds * _BUFFER_RATE),
            "frame_rate": options.frame_rate,
            "minimum_consecutive_frames": options.confirm_frames,
            "high_conf_det_threshold": options.high_score,
        }
        if name != "ocsort":
            settings["track_activation_threshold"] = options.new_score
        try:
            self._tracker: Any = getattr(trackers, _CLASSES[name])(**{**settings, **own})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}: {error}") from error
        self._frame: tuple[tuple[int, int], tuple[str, ...]] | None = None

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """See `Tracker.update`."""
        frame = (found.image_size, found.class_names)
        if self._frame not in (None, frame):
            raise DataError(f"tracker: expected frames as before, {self._frame}, got {frame}")
        self._frame = frame
        rows = np.flatnonzero(found.scores >= self.options.low_score)
        detections = self._detections(
            xyxy=np.array(found.boxes[rows], dtype=np.float32),
            confidence=np.array(found.scores[rows]),
            class_id=found.labels[rows].astype(int),
            data={"row": rows},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frames that nobody looks at, and of times that stand still
            pixels = image[..., ::-1] if image is not None and self.name == "botsort" else None
            tracked = self._tracker.update(detections, frame=pixels, timestamp=time)
        if not len(tracked):
            return found[[]].replace(track_ids=np.zeros(0, dtype=np.int64))
        kept = tracked.tracker_id >= 0
        order = np.argsort(tracked.data["row"][kept], kind="stable")
        chosen = found[tracked.data["row"][kept][order]]
        return chosen.replace(track_ids=tracked.tracker_id[kept][order].astype(np.int64) + 1)

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._tracker.reset()
        self._frame = None
