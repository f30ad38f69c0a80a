"""`VideoSink`: each video with what was found drawn on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.sinks.pictures import found_in
from protomask.inference.sinks.sink import Names, Sink, check_not_among_inputs, make_folder
from protomask.inference.video.encoding import SourceInfo, VideoFileOptions, encoder_of, source_info
from protomask.inference.video.parts import Parts
from protomask.inference.video.writer import VideoWriter, suffix_of
from protomask.structures.frame import Frame

FrameDrawing = Callable[[Frame], Pixels]
"""Draws what was found in a frame on its image: (H, W, 3) uint8 RGB of the same size, a new array. It is called for one
frame after another, from one thread at a time, and may remember what it has seen."""


def draw_found(frame: Frame) -> Pixels:
    """Masks, boxes, classes and scores, each frame by itself."""
    return found_in(frame).draw(frame.image)


class VideoSink(Sink):
    """``NAME.mp4``: each video with masks, boxes, classes and scores drawn on it, at the times of the source.

    While it grows it is ``NAME.part.mp4``, which can be played at any time; an exception, or a killed process, leaves
    it. A source whose frames change their size becomes two videos.

    Args:
        folder: where they go; made if needed. It must not be the folder of the videos.
        options: see `VideoFileOptions`.
        draw: what is drawn.

    Raises:
        ConfigError: the codec is not there.
        MissingExtraError: PyAV is not installed.

    """

    def __init__(
        self, folder: str | Path, options: VideoFileOptions | None = None, *, draw: FrameDrawing = draw_found
    ) -> None:
        self.folder = make_folder(Path(folder))
        self._options = options or VideoFileOptions()
        encoder_of(self._options.video_codec)
        self._draw = draw
        self._names = Names()
        self._writer: VideoWriter | None = None
        self._writes = ("", (0, 0))
        self._keep: tuple[str, int, float] | None = None

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        check_not_among_inputs(frame, self.folder)

    def frames_of(self, source: str) -> int:
        """How many frames of a source the part holds that an earlier run has left: the next one in order."""
        return Parts(self._path(source, self._names.peek(source))).frames()

    def skip(self, source: str) -> None:
        """A source was finished by an earlier run."""
        self._names.next_of(source)

    def resume(self, source: str, keep: int, first: float) -> None:
        """Go on with a source of which an earlier run has left a part.

        Args:
            source: which one; it must be the first to come.
            keep: number of frames of the part that stay.
            first: time of the first of them.

        """
        self._keep = (source, keep, first)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`.

        Raises:
            ConfigError: the frame has no time.

        """
        if frame.time is None:
            raise ConfigError(f"{frame.source}: expected a frame of a video, got a still image")
        drawn = self._draw(frame)
        of = (frame.source, (drawn.shape[0], drawn.shape[1]))
        if self._writer is None or self._writes != of:
            self.close(complete=True)
            self._writer, self._writes = self._begun(frame, of[1]), of
        self._writer.write(drawn, frame.time)
        return [self._writer.path] if frame.index == 0 else []

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(complete=complete)

    def _begun(self, frame: Frame, size: tuple[int, int]) -> VideoWriter:
        live = frame.captured is not None
        keep, first = 0, 0.0
        if self._keep is not None and self._keep[0] == frame.source:
            _, keep, first = self._keep
        self._keep = None
        return VideoWriter(
            self._path(frame.source, self._names.next_of(frame.source)), size, self._options, source=frame.source,
            info=SourceInfo() if live else source_info(frame.source), live=live, keep=keep, first=first,
        )  # fmt: skip

    def _path(self, source: str, name: str) -> Path:
        return self.folder / f"{name}{suffix_of(self._options)}"
