"""What files, addresses and standard input are: videos that end, or streams."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from protomask.errors import DataError, MissingExtraError
from protomask.images.decode import read_image
from protomask.images.fetch import is_url
from protomask.images.pixels import IMAGE_SUFFIXES
from protomask.inference.video.address import (
    SIGNATURE_BYTES,
    VIDEO_SUFFIXES,
    Address,
    address_of,
    file_address,
    looks_like_video,
    web_address,
)
from protomask.inference.video.live import LiveStream
from protomask.inference.video.opening import opened
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.reader import VideoFile
from protomask.structures.frame import Frame


def is_video_file(path: Path) -> bool:
    """Whether a file is a video, by its ending; by its first bytes where that is the ending of nothing known."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        with path.open("rb") as file:
            return looks_like_video(file.read(SIGNATURE_BYTES))
    except OSError:
        return False


def video_of(path: Path, options: VideoOptions) -> VideoFile | LiveStream:
    """The frames of a video file."""
    address = file_address(path)
    return LiveStream(address, options) if options.live == "yes" else VideoFile(address, options)


def video_beside_images(path: Path, options: VideoOptions) -> VideoFile | LiveStream | UnreadableVideo:
    """`video_of` for a file of a folder, whose images can be read without PyAV."""
    try:
        return video_of(path, options)
    except MissingExtraError as error:
        return UnreadableVideo(path, error)


class UnreadableVideo:
    """One frame that says why there are no others.

    Args:
        path: of the video.
        reason: why it cannot be read.

    """

    def __init__(self, path: Path, reason: MissingExtraError) -> None:
        self._frame = Frame.failed(DataError(f"{path}: {reason}"), source=str(path))

    def __iter__(self) -> Iterator[Frame]:
        yield self._frame


def open_address(text: str | int, options: VideoOptions, *, as_video: bool = False) -> VideoFile | LiveStream | None:
    """The frames of a camera, stream or video that a number or text stands for; None where it stands for none.

    Args:
        text: address, or number of a camera.
        options: what is read, and whether it is live. An http(s) address is asked for its length if need be.
        as_video: every http(s) address is one of a video.

    Raises:
        DataError: the address cannot be opened; the message names it.
        MissingExtraError: PyAV is not installed.

    """
    address = address_of(text)
    if address is None and as_video and isinstance(text, str) and is_url(text):
        address = web_address(text)
    if address is None:
        return None
    return LiveStream(address, options) if _is_live(address, options) else VideoFile(address, options)


def _is_live(address: Address, options: VideoOptions) -> bool:
    if options.live != "auto":
        return options.live == "yes"
    if address.live is not None:
        return address.live
    with opened(address, options, live=True) as video:  # a stream without an end does not say how long it is
        return video.container.duration is None or video.container.duration <= 0


class StandardInput:
    """An image, a video, or raw video from standard input; which one, is found out when the first frame is asked for.

    Args:
        options: ``raw_size`` and ``raw_format`` for raw video, ``live`` to drop what is too old.
        as_video: it is a video.

    """

    NAME = "stdin"

    def __init__(self, options: VideoOptions, *, as_video: bool = False) -> None:
        self.live = options.live == "yes"
        self._options = options
        self._as_video = as_video or self.live or options.raw_size is not None
        self.stream: LiveStream | None = None
        """What it turned out to be, where it is live."""

    def stop(self) -> None:
        """End the frames soon."""
        if self.stream is not None:
            self.stream.stop()

    def __iter__(self) -> Iterator[Frame]:
        file = _Begun(sys.stdin.buffer)
        if not (self._as_video or looks_like_video(file.beginning)):
            yield Frame(lambda: read_image(file.read()), source=self.NAME)
            return
        address, stream = Address(self.NAME, self.NAME), cast("BinaryIO", file)
        if self.live:
            self.stream = LiveStream(address, self._options, file=stream)
            yield from self.stream
        else:
            yield from VideoFile(address, self._options, file=stream)


class _Begun:
    """A file of which the first bytes are known already; it cannot go back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.beginning = file.read(SIGNATURE_BYTES)
        self._rest = io.BytesIO(self.beginning)
        self.name = StandardInput.NAME

    def read(self, size: int = -1) -> bytes:
        """Up to this many bytes; all if there is no limit."""
        known = self._rest.read(size)
        if 0 <= size <= len(known) or (known and size > 0):
            return known
        return known + self._file.read(size)
