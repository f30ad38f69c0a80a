"""`VideoWriter`: one video file, playable while it grows, that can be continued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from protomask.errors import ProtomaskError
from protomask.images.decode import Pixels
from protomask.inference.video.encoding import (
    CODECS,
    CONTAINER_OPTIONS,
    FORMATS,
    SourceInfo,
    VideoFileOptions,
    add_pictures,
)
from protomask.inference.video.library import load_av, reason
from protomask.inference.video.parts import Parts
from protomask.inference.video.sound import Sound


class VideoWriter:
    """Writes frames into ``NAME.part.mp4``, which becomes ``NAME.mp4`` when it is complete.

    A part plays at any time, up to the last second or so. It stays when the process is killed, or when the writer is
    closed without being complete; then it can be continued.

    Args:
        path: of the complete file; its ending is that of the codec, see `suffix_of`.
        size: (H, W) of the frames. Odd sides are made even by repeating the last row or column.
        options: see `VideoFileOptions`.
        source: video file whose rate, clock, bit rate and sound are taken over, if it is one.
        info: of the source.
        live: write each frame at once.
        keep: number of frames of the existing part after which to continue.
        first: time of the first of these.

    Raises:
        ConfigError: the codec is not there.
        ProtomaskError: the file cannot be written, or the part cannot be continued; the message names it.
        MissingExtraError: PyAV is not installed.

    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        options: VideoFileOptions,
        *,
        source: str = "",
        info: SourceInfo | None = None,
        live: bool = False,
        keep: int = 0,
        first: float = 0.0,
    ) -> None:
        self.path = path
        self.size = size
        self._av = load_av()
        self._options = options
        self._source = source
        self._info = info or SourceInfo()
        self._live = live
        self._parts = Parts(path)
        self._keep = keep
        self._container: Any = None
        self._stream: Any = None
        self._sound: Sound | None = None
        self._first = first
        self._last = -1

    def write(self, pixels: Pixels, time: float) -> None:
        """Add a frame.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            time: seconds, later than that of the frame before; the video begins with the first one.

        Raises:
            ProtomaskError: the file cannot be written; the message names it.

        """
        with self._naming():
            if self._container is None:
                self._begin(time)
            picture = self._av.VideoFrame.from_numpy_buffer(_even(pixels), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="itu709", dst_color_range="MPEG")
            self._last = max(self._last + 1, round((time - self._first) / float(self._info.base)))
            picture.pts, picture.time_base = self._last, self._info.base
            self._container.mux(self._stream.encode(picture))
            self._add_sound(self._last)

    def close(self, *, complete: bool) -> None:
        """End the file; ``complete`` gives it its name, without a frame there is none.

        Raises:
            ProtomaskError: the file cannot be written; the message names it.

        """
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            with self._naming():
                try:
                    container.mux(self._stream.encode(None))
                    self._add_sound(self._last + round(1 / (self._info.rate * self._info.base)), container)
                finally:
                    container.close()
                if complete:
                    self._parts.complete()
        finally:
            if self._sound is not None:
                self._sound.close()

    def _begin(self, time: float) -> None:
        even = (self.size[0] + self.size[0] % 2, self.size[1] + self.size[1] % 2)
        self._parts.begin(self._keep)
        suffix = self.path.suffix
        container = self._av.open(
            f"file:{self._parts.growing}", "w", format=FORMATS[suffix], options=CONTAINER_OPTIONS[suffix]
        )
        self._container = container
        self._stream = add_pictures(container, even, self._info, self._options, live=self._live)
        self._first = self._first if self._keep else time
        if self._options.keep_audio:
            self._sound = Sound.of(self._source, container, FORMATS[suffix], self._first)
        container.start_encoding()  # to fail now, not when the encoder gives its first packet
        if self._keep:
            self._parts.check_continues(even, self._info, self._options)
            for packet in self._parts.packets(self._keep):
                packet.stream = self._stream
                self._last = round(packet.pts * packet.time_base / self._info.base)
                container.mux(packet)
                self._add_sound(self._last)

    def _add_sound(self, ticks: int, container: Any = None) -> None:
        if self._sound is not None:
            for packet in self._sound.until(float(ticks * self._info.base)):
                (container or self._container).mux(packet)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            if isinstance(error, ProtomaskError):
                raise
            raise ProtomaskError(f"{self.path}: cannot be written: {reason(error)}") from error


def suffix_of(options: VideoFileOptions) -> str:
    """The ending of the files of a codec."""
    return CODECS[options.video_codec].suffix


def _even(pixels: Pixels) -> Pixels:
    """An image with even sides, as 4:2:0 needs: the last row or column is repeated, so that no pixel moves."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(pixels)
