"""`Parts`: the unfinished files of a video that is written, and how one is continued."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protomask.errors import ProtomaskError
from protomask.inference.video.encoding import FORMATS, SourceInfo, VideoFileOptions, add_pictures
from protomask.inference.video.library import load_av


class Parts:
    """What of ``NAME.mp4`` is there: the part that grows, and an earlier one while it is copied into that.

    Args:
        path: of the complete file.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.growing = path.with_name(f"{path.stem}.part{path.suffix}")
        self._earlier = path.with_name(f"{path.stem}.earlier{path.suffix}")

    def frames(self) -> int:
        """How many frames can be kept: those of the longest part, or of the complete file where there is no part."""
        return max(_count(self.growing), _count(self._earlier)) or _count(self.path)

    def begin(self, keep: int) -> None:
        """Make way for a new part; with ``keep`` frames of what there is, that is set aside for `packets`."""
        if not keep:
            self.growing.unlink(missing_ok=True)
            self._earlier.unlink(missing_ok=True)
            return
        best = max((self._earlier, self.growing), key=_count)
        if not _count(best):
            best = self.path
        if best != self._earlier and best.is_file():
            best.replace(self._earlier)

    def packets(self, keep: int) -> Iterator[Any]:
        """The first packets of the part that was set aside, a frame each, in the form in which an encoder gives them.

        Raises:
            ProtomaskError: there are fewer.

        """
        given = 0
        for packet in _packets(self._earlier, keep, as_encoded=True):
            given += 1
            yield packet
        if given < keep:
            raise ProtomaskError(f"{self.path}: cannot be continued: expected a part of {keep} frames, got {given}")

    def complete(self) -> None:
        """Give the part that has grown its name; nothing to do where there is none."""
        if self.growing.exists():
            self.growing.replace(self.path)
            self._earlier.unlink(missing_ok=True)

    def check_continues(self, size: tuple[int, int], info: SourceInfo, options: VideoFileOptions) -> None:
        """Make sure that new frames can follow those of the part that was set aside.

        A file has one header for all its frames, so they must come from the same encoder with the same settings.

        Raises:
            ProtomaskError: they cannot; the message names the file.

        """
        av = load_av()
        sample = io.BytesIO()
        format = FORMATS[self.path.suffix]
        with av.open(sample, "w", format=format) as container:
            stream = add_pictures(container, size, info, options, live=False)
            picture = av.VideoFrame(size[1], size[0], "yuv420p")
            picture.pts, picture.time_base = 0, info.base
            container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        sample.seek(0)
        with av.open(sample) as new, av.open(f"file:{self._earlier}") as old:
            contexts = [container.streams.video[0].codec_context for container in (old, new)]
            headers = [(context.name, context.height, context.width, context.extradata) for context in contexts]
        if headers[0] != headers[1]:
            raise ProtomaskError(
                f"{self.path}: cannot be continued: expected a part of {size[1]}x{size[0]} {headers[1][0]} by the same "
                f"encoder with the same settings, got {headers[0][2]}x{headers[0][1]} {headers[0][0]}"
            )


_AS_ENCODED = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""FFmpeg's filters that undo what an MP4 file does to the packets of an encoder, by codec."""


def _packets(path: Path, most: int | None = None, *, as_encoded: bool = False) -> Iterator[Any]:
    """Packets of whole images, up to this many."""
    av = load_av()
    given = 0
    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        packets = container.demux(stream)
        name = _AS_ENCODED.get(stream.codec_context.name) if as_encoded and path.suffix == ".mp4" else None
        convert = av.bitstream.BitStreamFilterContext(name, stream).filter if name else lambda packet: [packet]
        while given != most:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                return
            if packet is None or packet.is_corrupt:
                return
            if packet.size and packet.pts is not None:
                given += 1
                for one in convert(packet):
                    one.time_base = stream.time_base  # a filter may not say
                    yield one


def _count(path: Path) -> int:
    try:
        return sum(1 for _ in _packets(path)) if path.is_file() else 0
    except (load_av().FFmpegError, IndexError):  # nothing of it was written yet
        return 0
