"""`VideoSink`: each video with what was found drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from protomask.errors import ConfigError
from protomask.inference.sinks.drawing import FrameDrawing, draw_found
from protomask.inference.sinks.pictures import file_of
from protomask.inference.sinks.sink import Names, Sink, check_not_among_inputs, make_folder
from protomask.inference.video.encoding import SourceInfo, VideoFileOptions, encoder_of, source_info
from protomask.inference.video.parts import Parts
from protomask.inference.video.writer import VideoWriter, suffix_of
from protomask.structures.frame import Frame


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

    def resume(self, sources: Sequence[str], frames: int, first: float) -> int:
        """Go on where an interrupted run has left a part.

        Args:
            sources: the videos that it began, in order.
            frames: number of frames of the last one that are known.
            first: time of the first of them.

        Returns:
            How many frames of the last one are kept, which are no more than its file has.

        """
        *finished, last = sources
        for source in finished:
            self._names.next_of(source)
        keep = min(frames, Parts(self._path(self._names.peek(last))).frames())
        if keep:
            self._keep = (last, keep, first)
        return keep

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
            if self._writer is not None:
                self._writer.close(complete=True)
            self._writer, self._writes = self._begun(frame, of[1]), of
        self._writer.write(drawn, frame.time)
        return [self._writer.path] if frame.index == 0 else []

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(complete=complete)
        if complete:
            self._complete_kept()

    def _begun(self, frame: Frame, size: tuple[int, int]) -> VideoWriter:
        live = frame.captured is not None
        keep, first = 0, 0.0
        if self._keep is not None and self._keep[0] == file_of(frame):
            _, keep, first = self._keep
            self._keep = None
        self._complete_kept()
        return VideoWriter(
            self._path(self._names.next_of(frame.source)), size, self._options, source=frame.source,
            info=SourceInfo() if live else source_info(frame.source), live=live, keep=keep, first=first,
        )  # fmt: skip

    def _complete_kept(self) -> None:
        """Complete the video that was to be continued, of which nothing was missing."""
        if self._keep is not None:
            Parts(self._path(self._names.next_of(self._keep[0]))).complete()
            self._keep = None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{suffix_of(self._options)}"


class DrawnSink(Sink):
    """Overlays of still images, and videos of videos, by the frames that come.

    Args:
        stills: gets the frames without a time.
        videos: gets the frames with one; made when the first one comes.

    """

    def __init__(self, stills: Sink, videos: Callable[[], VideoSink]) -> None:
        self._stills = stills
        self._make_videos = videos
        self._videos: VideoSink | None = None

    @property
    def videos(self) -> VideoSink:
        """What gets the frames of videos."""
        if self._videos is None:
            self._videos = self._make_videos()
        return self._videos

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        self._sink(frame).check(frame)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        return self._sink(frame).write(frame)

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        if frame.time is None:
            self._stills.replay(frame)

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        try:
            self._stills.close(complete=complete)
        finally:
            if self._videos is not None:
                self._videos.close(complete=complete)

    def _sink(self, frame: Frame) -> Sink:
        return self._stills if frame.time is None else self.videos
