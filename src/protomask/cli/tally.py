"""`Tally`: counts what `predict` and `track` have done, and says it."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from protomask.cli.output import Bar, counts_by_class
from protomask.inference.video.delays import Delays

if TYPE_CHECKING:
    from protomask.inference.sources import Source
    from protomask.structures.frame import Frame

_SAY_EVERY = 10.0
"""Seconds between lines about a video that is worked on, where there is no terminal."""
_LISTED = 20
"""Files that are named of one video."""


class _Video:
    """One video or stream."""

    def __init__(self, frame: Frame) -> None:
        self.source = frame.source
        self.first = self.last = frame.time or 0.0
        self.frames = 0
        self.instances = 0
        self.tracks: set[int] = set()
        self.size = (0, 0)
        self.written: list[str] = []
        self.began = monotonic()

    def add(self, frame: Frame, files: list[Path]) -> None:
        assert frame.found is not None
        self.frames += 1
        self.last = frame.time or 0.0
        self.instances += len(frame.found)
        self.size = frame.found.image_size
        if frame.found.track_ids is not None:
            self.tracks.update(frame.found.track_ids.tolist())
        if len(self.written) < _LISTED:  # not each of the files of each frame
            self.written += [str(file) for file in files]

    @property
    def rate(self) -> float:
        return self.frames / max(monotonic() - self.began, 1e-3)


class Tally:
    """Counts images, videos and errors as they finish.

    Args:
        bar: where lines are shown.
        source: of the frames; a live one knows what it dropped.
        is_tracked: whether frames have tracks.

    """

    def __init__(self, bar: Bar, source: Source, *, is_tracked: bool) -> None:
        self.images: list[dict[str, Any]] = []
        """A row for each still image, and for each error."""
        self.videos: list[dict[str, Any]] = []
        """A row for each video."""
        self.interrupted = False
        """Whether the run was stopped before its source ended."""
        self._bar = bar
        self.source = source
        self._is_tracked = is_tracked
        self._delays = Delays()
        self._video: _Video | None = None
        self._said = monotonic()

    @property
    def failed(self) -> int:
        """How many images and videos could not be read or written."""
        return sum("error" in row for row in self.images)

    def finish(self, frame: Frame) -> None:
        """All files know of a frame; called by the thread that writes."""
        self._delays.add(frame)

    def add(self, frame: Frame, files: list[Path]) -> None:
        """Count a frame, and say what there is to say."""
        if frame.error is not None or frame.found is None:
            self._bar.message(f"error: {frame.error}", to_stderr=True)
            self.images.append({"file": frame.source, "error": str(frame.error)})
        elif frame.time is None:
            height, width = frame.found.image_size
            self._bar.message(f"{frame.source}: {width}x{height}, found {counts_by_class(frame.found)}")
            written = [str(file) for file in files]
            self.images.append({"file": frame.source, "instances": len(frame.found), "written": written})
        else:
            self._add_to_video(frame, files)
            return
        self._bar.advance()

    def _add_to_video(self, frame: Frame, files: list[Path]) -> None:
        if self._video is None or self._video.source != frame.source:
            self._end_video()
            self._video = _Video(frame)
        self._video.add(frame, files)
        self._bar.describe(self._pace())
        if monotonic() - self._said > _SAY_EVERY and not self._bar.is_shown:
            self._said = monotonic()
            self._bar.message(self._pace())

    def end(self, *, stopped: bool) -> None:
        """All frames have come, or the run was stopped."""
        self._end_video()
        self.interrupted = stopped and not self.is_live

    @property
    def is_live(self) -> bool:
        """Whether the source was a camera or stream, which ends when it is stopped."""
        from protomask.inference.sources import is_live

        return is_live(self.source)

    def _pace(self) -> str:
        video = self._video
        assert video is not None
        return f"{video.source}: {video.last:.1f} s, {video.rate:.1f} frames/s{self._live_words()}"

    def _live_words(self) -> str:
        dropped, reconnects = self._dropped()
        if dropped is None:
            return ""
        again = f", {reconnects} times lost and back" if reconnects else ""
        return f", {self._delays}, {dropped} frames dropped{again}"

    def _dropped(self) -> tuple[int | None, int]:
        stream = getattr(self.source, "stream", self.source)  # of standard input
        return getattr(stream, "dropped", None), getattr(stream, "reconnects", 0)

    def _end_video(self) -> None:
        video, self._video = self._video, None
        if video is None:
            return
        height, width = video.size
        tracks = f", {len(video.tracks)} tracks" if self._is_tracked else ""
        self._bar.message(
            f"{video.source}: {video.frames} frames of {width}x{height} up to {video.last:.2f} s, "
            f"{video.instances} instances{tracks}, {video.rate:.1f} frames/s{self._live_words()}"
        )
        row: dict[str, Any] = {
            "file": video.source, "frames": video.frames, "start": video.first, "end": video.last,
            "instances": video.instances, "frames_per_second": round(video.rate, 2), "written": video.written,
        }  # fmt: skip
        if self._is_tracked:
            row["tracks"] = len(video.tracks)
        dropped, reconnects = self._dropped()
        if dropped is not None:
            half, most = self._delays.percentile(50), self._delays.percentile(95)
            row |= {"dropped": dropped, "reconnects": reconnects, "delay_p50": half, "delay_p95": most}
        self.videos.append(row)
