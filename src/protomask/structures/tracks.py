"""`VideoTracks`: the objects of a whole video, each with its masks over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from protomask.errors import DataError
from protomask.masks.rle import Rle
from protomask.structures.instances import Instances

MAX_FRAMES = 1_000_000
"""Maximum length of a video in a file: nine hours at 30 frames per second."""


@dataclass(frozen=True, kw_only=True)
class Tracklet:
    """One object of a video.

    Attributes:
        track_id: identity within the video.
        label: number of its class, 0-based.
        masks: its mask in each frame in which it is seen, by the number of the frame, from 0.
        score: score of the whole track, in [0, 1]; 1 for truth.
        is_crowd: whether this is a region whose objects are not told apart, or which is not judged.

    """

    track_id: int
    label: int
    masks: Mapping[int, Rle]
    score: float = 1.0
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoTracks:
    """All objects of one video.

    Attributes:
        name: name of the video.
        image_size: (H, W) px; None if unknown, as in results without any mask.
        num_frames: length of the video.
        tracks: the objects.
        file_names: files of the frames, relative to a folder of images; empty if unknown.
        fps: frames per second; None if unknown.

    """

    name: str
    image_size: tuple[int, int] | None
    num_frames: int
    tracks: tuple[Tracklet, ...]
    file_names: tuple[str, ...] = ()
    fps: float | None = None

    def frames(self) -> list[list[Tracklet]]:
        """List the objects that are seen in each frame."""
        seen: list[list[Tracklet]] = [[] for _ in range(self.num_frames)]
        for track in self.tracks:
            for index in track.masks:
                seen[index].append(track)
        return seen


@dataclass
class _Growing:
    masks: dict[int, Rle] = field(default_factory=dict)
    votes: dict[int, float] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)


class TrackCollector:
    """Collects the tracked instances of a video, frame by frame; they are kept as run-length codes.

    Args:
        name: name of the video.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.class_names: tuple[str, ...] = ()
        self._image_size: tuple[int, int] | None = None
        self._length = 0
        self._tracks: dict[int, _Growing] = {}

    def add(self, found: Instances, index: int | None = None) -> None:
        """Add the instances of a frame.

        Args:
            found: instances with ``track_ids``.
            index: number of the frame; the next one if not given.

        Raises:
            DataError: there are no ``track_ids``, or the frame differs in size from those before it.

        """
        index = self._length if index is None else index
        if found.track_ids is None:
            raise DataError(f"{self.name}: expected track_ids in frame {index}, got none")
        if self._image_size not in (None, found.image_size):
            raise DataError(
                f"{self.name}: expected frames of {self._image_size}, got {found.image_size} in frame {index}"
            )
        self._image_size, self.class_names = found.image_size, found.class_names
        self._length = max(self._length, index + 1)
        for one, code, track_id in zip(found, found.rle(), found.track_ids.tolist(), strict=True):
            track = self._tracks.setdefault(track_id, _Growing())
            track.masks[index] = code
            track.votes[one.label] = track.votes.get(one.label, 0.0) + one.score
            track.scores.append(one.score)

    def collect(self) -> VideoTracks:
        """Return everything added; the class of a track has the largest sum of scores, its score is their mean."""
        return VideoTracks(
            name=self.name,
            image_size=self._image_size,
            num_frames=self._length,
            tracks=tuple(
                Tracklet(
                    track_id=track_id,
                    label=max(own.votes, key=lambda label: (own.votes[label], -label)),
                    masks=own.masks,
                    score=float(np.mean(own.scores)),
                )
                for track_id, own in sorted(self._tracks.items())
            ),
        )
