"""Opens videos, cameras and streams with FFmpeg, and says in one line why one cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from protomask.errors import DataError
from protomask.inference.video.address import Address
from protomask.inference.video.library import BUFFER_BYTES, any_metadata, load_av, reason
from protomask.inference.video.options import VideoOptions

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

OPEN_SECONDS = 15.0
"""Without an answer from a network."""
READ_SECONDS = 10.0
"""Without data from a network."""
_EARLY = {"analyzeduration": "1000000"}
"""Microseconds of a live stream that are read before the first frame comes."""


class Input:
    """A video that is open: its container and the stream of pictures in it."""

    def __init__(self, container: InputContainer, stream: VideoStream, name: str) -> None:
        self.container = container
        self.stream = stream
        self.name = name

    @property
    def origin(self) -> float | None:
        """Seconds that FFmpeg's clock shows at the beginning; None where it does not know."""
        start = self.container.start_time
        return None if start is None else start / 1_000_000

    @property
    def seconds(self) -> float | None:
        """How long the video is by its header; None where that is not known."""
        length, base = self.stream.duration, self.stream.time_base
        if length and base:
            return float(length * base)
        length = self.container.duration
        # With sound beside it: that of the longer one.
        return None if length is None or length <= 0 or self.container.streams.audio else length / 1_000_000

    @property
    def rate(self) -> float | None:
        """Frames per second on average; None where that is not known."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(rate) if rate else None


@contextmanager
def opened(
    address: Address, options: VideoOptions, *, file: BinaryIO | None = None, live: bool = False
) -> Iterator[Input]:
    """Open the video of an address.

    Args:
        address: what to open.
        options: ``input_options`` and the form of raw video.
        file: read this instead of the address.
        live: give frames as early as possible.

    Raises:
        DataError: it cannot be opened, or there are no moving pictures in it; the message names it.
        MissingExtraError: PyAV is not installed.

    """
    av = load_av()
    format, wanted = address.format, dict(options.input_options)
    if file is not None and options.raw_size is not None:
        format = "rawvideo"
        raw = {"video_size": options.raw_size, "pixel_format": options.raw_format}
        wanted = {**raw, "framerate": f"{options.fps or 25.0:g}", **wanted}
    if live:
        wanted = {**_EARLY, **({"rtsp_transport": "tcp"} if address.url.startswith("rtsp") else {}), **wanted}
    path = Path(address.url.removeprefix("file:")) if address.url.startswith("file:") else None
    if path is not None and path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{address.name}: the file is empty")
    try:
        container = av.open(
            file or address.url, "r", format=format, options=wanted, buffer_size=BUFFER_BYTES if not live else 1 << 15,
            timeout=None if file is not None or path is not None else (OPEN_SECONDS, READ_SECONDS),
            **any_metadata(),
        )  # fmt: skip
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{address.name}: cannot be opened as a video: {_words(error)}") from error
    with container:
        yield Input(container, _pictures(container, address.name, live=live), address.name)


def _pictures(container: InputContainer, name: str, *, live: bool) -> VideoStream:
    """The stream of moving pictures; a cover of a song is none."""
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        audio = len(container.streams.audio)
        what = f"only sound ({audio} audio stream{'s' if audio > 1 else ''})" if audio else "no video stream"
        raise DataError(f"{name}: expected a video, got {what}")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
    if stream.codec_context is None:
        raise DataError(f"{name}: expected a video that FFmpeg can decode, got an unknown codec")
    # Decoding whole frames side by side is faster, and each thread holds back a frame.
    stream.thread_type = "SLICE" if live else "AUTO"
    return stream


def _is_cover(stream: VideoStream) -> bool:
    av: Any = sys.modules["av"]
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _words(error: Exception) -> str:
    text = reason(error)
    if "Invalid data found" in text:
        return "it is damaged, cut off before its index, or no video"
    return text
