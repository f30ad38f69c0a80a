"""Trackers by their names."""

from __future__ import annotations

from typing import Any, Literal, get_args

from protomask.errors import ConfigError
from protomask.inference.tracking.box_trackers import BoxTracker
from protomask.inference.tracking.mask_tracker import MaskTracker
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.tracking.tracker import Tracker

TrackerName = Literal["mask", "bytetrack", "ocsort", "botsort"]
TRACKERS: tuple[str, ...] = get_args(TrackerName)


def build_tracker(name: str = "mask", **settings: Any) -> Tracker:
    """Make a tracker.

    Args:
        name: mask, this package's own, which compares masks; or one that compares boxes, from the package ``trackers``:
            bytetrack, ocsort, botsort.
        settings: fields of `TrackOptions`.

    Raises:
        ConfigError: no such tracker, no such setting, or a value that is out of range.
        MissingExtraError: the tracker needs the package ``trackers``, which is not installed.

    """
    if name not in TRACKERS:
        raise ConfigError(f"tracker: expected one of {', '.join(TRACKERS)}, got {name!r}")
    options = TrackOptions.from_dict(settings)
    return MaskTracker(options) if name == "mask" else BoxTracker(name, options)
