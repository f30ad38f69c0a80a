"""`Pictures`: decodes a video in order, over what is damaged in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from protomask.inference.video.library import load_av, reason
from protomask.inference.video.opening import Input
from protomask.inference.video.options import VideoOptions

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MARGINS = (1.0, 10.0)
"""Seconds before the beginning of a range to which a seek goes; where that is too late, the next is tried."""
_TOLERANCE = 0.15
"""Seconds by which the last frame of a whole video may end before its header says; at least two of its frames."""


class Pictures:
    """Decodes a video from some time on, over what is damaged, and notes what was wrong."""

    def __init__(self, video: Input, notes: list[str]) -> None:
        self._video = video
        self._notes = notes
        self._origin = video.origin
        self._period = 1 / video.rate if video.rate else 1 / 25
        self._last: float | None = None
        self._longest = 0.0
        self._damaged = 0
        self._ended_by = ""

    def since(self, start: float) -> Iterator[tuple[float, VideoFrame]]:
        """Seconds and picture, from some time before ``start`` on."""
        pending = self._pictures()
        for margin in _MARGINS if start > _MARGINS[0] else ():
            if not self._seek(start - margin):
                break
            pending = self._pictures()
            first = next(pending, None)
            if first is not None and first[0] <= start:
                yield first
                break
            pending = self._pictures()
            if not self._seek(0.0):
                break
        yield from pending

    def nothing_in(self, options: VideoOptions) -> str:
        """Why there is no frame at all."""
        if self._last is None:
            why = f" ({self._ended_by})" if self._ended_by else ""
            return f"expected a video with at least one frame that can be decoded, got none{why}"
        end = "" if options.end is None else f" and before {options.end_seconds:g} s"
        return (
            f"start: expected a time within the video, whose last frame is at {self._last:.3f} s, "
            f"got none from {options.start_seconds:g} s on{end}"
        )

    def note_missing_end(self, end: float) -> None:
        """Note what was not there of a video that was read to its end, or to this time."""
        if self._damaged:
            self._notes.append(f"damaged: {self._damaged} of its packets or frames cannot be decoded whole")
        length, last = self._video.seconds, self._last
        if self._ended_by:
            self._notes.append(f"cut off or damaged: it ends at {last or 0:.3f} s ({self._ended_by})")
        elif length is not None and last is not None and last + self._slack() < min(length, end):
            self._notes.append(f"cut off: its last frame is at {last:.3f} s of {length:.3f} s")

    def _slack(self) -> float:
        # What one frame lasts, as far as is known: that of the last one may not be written down.
        return max(_TOLERANCE, 2 * max(self._period, self._longest))

    def _seek(self, time: float) -> bool:
        av = load_av()
        try:
            self._video.container.seek(round((time + (self._origin or 0.0)) * av.time_base))
        except av.FFmpegError:
            return False
        self._last = None
        return True

    def _pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        for picture in self._decoded():
            if picture.pts is not None:
                time = picture.time
                if self._origin is None:
                    self._origin = time
                time -= self._origin
            else:
                time = 0.0 if self._last is None else self._last + self._period
            if self._last is not None:
                self._longest = max(self._longest, time - self._last)
            self._last = time
            yield time, picture

    def _decoded(self) -> Iterator[VideoFrame]:
        av = load_av()
        packets = self._video.container.demux(self._video.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._ended_by = reason(error)
                break
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                self._damaged += 1
                continue
            self._damaged += packet.is_corrupt or any(picture.is_corrupt for picture in pictures)
            yield from pictures
        try:  # what the decoder still holds
            yield from self._video.stream.codec_context.decode(None)
        except av.FFmpegError:
            return
