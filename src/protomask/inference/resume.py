"""Goes on with a run over files that was interrupted, after the last frame that it finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.pipeline import FrameTracker
from protomask.inference.sinks.lists import JSON_LINES_NAME
from protomask.inference.sinks.reading import frame_of, read_lines
from protomask.inference.sources import Several, Source, StillImages
from protomask.inference.video.choice import Place
from protomask.inference.video.folder import FrameFolder
from protomask.inference.video.reader import VideoFile
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

_REMEMBERED = 10.0
"""Seconds before the interruption from which a tracker learns again which objects there are."""


class _Finished(NamedTuple):
    """A frame of a video of which there is a line."""

    place: Place
    end: int


class EarlierRun:
    """What an interrupted run has left of its lines.

    Args:
        folder: that it wrote to.

    Raises:
        ConfigError: there are no lines.
        DataError: a line is not one of ours.

    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JSON_LINES_NAME
        if not self.path.is_file():
            raise ConfigError(f"resume: expected the {JSON_LINES_NAME} of an interrupted run in {folder}, got none")
        self.sources: list[str] = []
        """Sources of the lines, in order, each once."""
        self.videos: list[str] = []
        """Those of them that are videos."""
        self.keep = 0
        """Bytes of the lines that stay."""
        self._frames: list[_Finished] = []
        self._before = 0
        for line in read_lines(self.path):
            if not self.sources or self.sources[-1] != line.file:
                self.sources.append(line.file)
                self._frames, self._before = [], self.keep
                if line.time is not None:
                    self.videos.append(line.file)
            if line.time is not None:
                self._frames.append(_Finished(Place(line.row["frame"], line.time), line.end))
            self.keep = line.end

    @property
    def video(self) -> str | None:
        """The video in which the run was interrupted; None where it was among still images."""
        return self.sources[-1] if self._frames else None

    @property
    def frames(self) -> int:
        """How many frames of that video are finished."""
        return len(self._frames)

    @property
    def first_time(self) -> float:
        """When the first of these was."""
        return self._frames[0].place.time

    def rewind(self, frames: int) -> None:
        """Count no more than this many frames of the video as finished; with none it starts again."""
        self._frames = self._frames[:frames]
        self.keep = self._frames[-1].end if self._frames else self._before
        if not self._frames:
            self.videos.remove(self.sources.pop())

    def rest_of(self, source: Source) -> Source:
        """What of a source is not finished.

        Raises:
            ConfigError: it is a stream, or something else that cannot be read again.

        """
        parts = source.parts if isinstance(source, Several) else (source,)
        return Several([rest for part in parts for rest in self._rest(part)])

    def finished(self, class_names: Sequence[str]) -> Iterator[Frame]:
        """The finished frames, without their images.

        Raises:
            DataError: they are those of another model.

        """
        for line in read_lines(self.path, self.keep):
            yield frame_of(line.row, class_names)

    def _rest(self, part: Source) -> Iterator[Source]:
        if isinstance(part, StillImages):
            left = [image for image in part.images if not self._has(str(image))]
            if left:
                yield StillImages(left)
        elif isinstance(part, VideoFile | FrameFolder):
            if self.video is not None and _name(part.name) == self.video:
                yield part.resumed(self._frames[-1].place)
            elif not self._has(part.name):
                yield part
        else:
            raise ConfigError("resume: expected files, which can be read again, got a stream or standard input")

    def _has(self, name: str) -> bool:
        return _name(name) in self.sources


def _name(source: str) -> str:
    return source if "://" in source else Path(source).as_posix()


class ResumedTracker:
    """A tracker that knows the objects of the frames before an interruption, and goes on with their identities.

    It sees the instances of those frames again, which were of known identity, and learns which of its own are which.

    Args:
        tracker: a new one.
        before: the frames up to the interruption, of one video; only the last ones are looked at.

    """

    def __init__(self, tracker: FrameTracker, before: Iterator[Frame]) -> None:
        self._tracker = tracker
        self._known: dict[int, int] = {}
        self._most = 0
        self._fresh = True
        recent: deque[Frame] = deque()
        for frame in before:
            recent.append(frame)
            if frame.found is not None and frame.found.track_ids is not None and len(frame.found):
                self._most = max(self._most, int(frame.found.track_ids.max()))
            while recent[0].source != frame.source or (frame.time or 0) - (recent[0].time or 0) > _REMEMBERED:
                recent.popleft()
        for frame in recent:
            self._learn(frame)

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """See `FrameTracker.update`."""
        followed = self._tracker.update(found, time, image=image)
        if not self._most or followed.track_ids is None:
            return followed
        ids = []
        for own in followed.track_ids.tolist():
            if own not in self._known:
                self._most += 1
                self._known[own] = self._most
            ids.append(self._known[own])
        return followed.replace(track_ids=np.array(ids, dtype=np.int64))

    def reset(self) -> None:
        """See `FrameTracker.reset`; the first one is the beginning of the rest, which is to be known."""
        if not self._fresh:
            self._tracker.reset()
            self._known, self._most = {}, 0
        self._fresh = False

    def _learn(self, frame: Frame) -> None:
        if frame.found is None or frame.found.track_ids is None:
            return
        was = frame.found.replace(track_ids_before=frame.found.track_ids)
        followed = self._tracker.update(was, frame.time)
        if followed.track_ids is not None:
            before = followed.columns["track_ids_before"].tolist()
            self._known.update(zip(followed.track_ids.tolist(), before, strict=True))
