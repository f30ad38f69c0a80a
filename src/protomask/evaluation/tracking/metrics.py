"""`TrackMetrics`: HOTA, IDF1, MOTSA, sMOTSA and identity switches of a set of videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protomask.evaluation.tracking.clear import Clear, Identity, clear, identity
from protomask.evaluation.tracking.hota import Hota, hota
from protomask.evaluation.tracking.sequence import Sequence as Video
from protomask.evaluation.tracking.tracks import sequence_of
from protomask.structures.tracks import VideoTracks

METRICS = (
    "HOTA", "DetA", "AssA", "LocA", "IDF1", "IDR", "IDP", "MOTSA", "sMOTSA", "MOTSP", "IDSW",
)  # fmt: skip
"""What is shown, in this order."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What was counted in one or several videos."""

    hota: Hota
    clear: Clear
    identity: Identity

    @classmethod
    def of(cls, video: Video) -> Counted:
        """Count one video."""
        return cls(hota=hota(video), clear=clear(video), identity=identity(video))

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            hota=self.hota + other.hota, clear=self.clear + other.clear, identity=self.identity + other.identity
        )

    def values(self) -> dict[str, float]:
        """All metrics; shares in [0, 1], at most 1 for MOTSA and sMOTSA."""
        return {**self.hota.values(), **self.identity.values(), **self.clear.values()}


@dataclass(frozen=True, kw_only=True)
class TrackMetrics:
    """Metrics of a set of videos, see `METRICS`.

    Attributes:
        overall: of all objects, whatever their class.
        classes: of each class by itself: an object and its track must have the same class. Classes without an object
            are left out.
        videos: of each video, whatever the class.
        num_objects: true objects.
        num_tracks: tracks that were found.

    """

    overall: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    videos: Mapping[str, Mapping[str, float]]
    num_objects: int
    num_tracks: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "videos": len(self.videos),
            "objects": self.num_objects,
            "tracks": self.num_tracks,
            "overall": _shown(self.overall),
            "per_class": {name: _shown(values) for name, values in self.classes.items()},
            "per_video": {name: _shown(values) for name, values in self.videos.items()},
        }


def measure_tracks(pairs: Iterable[tuple[VideoTracks, VideoTracks]], class_names: Sequence[str]) -> TrackMetrics:
    """Measure tracks against the truth.

    Args:
        pairs: truth and tracks of each video, with the same labels.
        class_names: name of each label.

    Raises:
        DataError: a video has another length or size than its truth.

    """
    videos: dict[str, Counted] = {}
    classes: dict[int, Counted] = {}
    num_objects = num_tracks = 0
    for truth, found in pairs:
        whole = sequence_of(truth, found)
        num_objects += whole.num_truth
        num_tracks += whole.num_found
        name = truth.name if truth.name not in videos else f"{truth.name} ({len(videos) + 1})"
        videos[name] = Counted.of(whole)
        for label in sorted({track.label for track in (*truth.tracks, *found.tracks) if not track.is_crowd}):
            own = Counted.of(sequence_of(truth, found, label=label))
            classes[label] = classes[label] + own if label in classes else own
    there = {label for label, own in sorted(classes.items()) if own.clear.matched + own.clear.missed}
    return TrackMetrics(
        overall=_sum(videos.values()).values(),
        classes={class_names[label]: classes[label].values() for label in sorted(there)},
        videos={name: own.values() for name, own in videos.items()},
        num_objects=num_objects,
        num_tracks=num_tracks,
    )


def _sum(parts: Iterable[Counted]) -> Counted:
    total = Counted.of(Video.of([]))
    for part in parts:
        total = total + part
    return total


def _shown(values: Mapping[str, float]) -> dict[str, float | int]:
    return {name: int(values[name]) if name == "IDSW" else values[name] for name in METRICS}
