"""`Sound`: the sound of a video file, copied as it is into a video that is written about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protomask.inference.video.library import any_metadata, load_av, reason, warn

_FITTING = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    "webm": {"opus", "vorbis"},
}


class Sound:
    """The packets of a sound stream, up to one time after another.

    Args:
        stream: in the container that is written.
        packets: of the source.
        origin: seconds that the clock of the source shows at the beginning of what is written.

    """

    def __init__(self, stream: Any, container: Any, packets: Iterator[Any], origin: float) -> None:
        self._stream = stream
        self._container = container
        self._packets = packets
        self._origin = origin
        self._next: Any = None

    @classmethod
    def of(cls, source: str, output: Any, format: str, start: float) -> Sound | None:
        """Make room for the sound of a source in what is written.

        Args:
            source: video file.
            output: container that is written, before anything is.
            format: of the container.
            start: seconds from the beginning of the source where what is written begins.

        Returns:
            None where there is no sound, or none that the container can hold, which a `VideoWarning` says.

        """
        av = load_av()
        try:
            container = av.open(f"file:{Path(source)}", **any_metadata())
        except (av.FFmpegError, OSError, ValueError) as error:
            warn(f"{source}: its sound cannot be kept: {reason(error)}")
            return None
        if not container.streams.audio:
            container.close()
            return None
        stream = container.streams.audio[0]
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        if codec.removesuffix("float") not in _FITTING[format]:
            container.close()
            warn(f"{source}: its sound cannot be kept: {codec} does not go into a {format} file")
            return None
        copy = output.add_stream_from_template(stream)
        origin = start + (container.start_time or 0) / av.time_base
        if start > 1:
            container.seek(round(origin * av.time_base))
        return cls(copy, container, container.demux(stream), origin)

    def until(self, seconds: float) -> Iterator[Any]:
        """The packets not yet given that begin before a time, counted from where what is written begins."""
        av = load_av()
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except av.FFmpegError:  # cut off, which whoever reads the pictures says
                    return
            packet = self._next
            if packet is None or packet.pts is None:  # the end
                self._next = None
                return
            begins = float(packet.pts * packet.time_base) - self._origin
            if begins >= seconds:
                return
            self._next = None
            if begins < 0:
                continue
            shift = round(self._origin / float(packet.time_base))
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._stream
            yield packet

    def close(self) -> None:
        """Let go of the source."""
        self._container.close()
