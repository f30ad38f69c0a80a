"""`VideoFile`: every frame of a video that ends, decoded ahead of who uses it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import BinaryIO

from protomask.errors import DataError
from protomask.inference.video.address import Address
from protomask.inference.video.ahead import advance_ahead
from protomask.inference.video.choice import Place, choose
from protomask.inference.video.library import load_av, warn
from protomask.inference.video.opening import opened
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.pictures import Pictures
from protomask.inference.video.pixels import Upright
from protomask.structures.frame import Frame

AHEAD = 3
"""Decoded frames that wait, in the video's own, smaller form."""


class VideoFile:
    """The frames of a video file, or of what else has an end.

    Frames have ``time``: seconds from the beginning of the video, as it presents them. A video that cannot be opened is
    one frame with an ``error``; one that is damaged or cut off gives the frames it has, and a `VideoWarning`.

    Args:
        address: of the video.
        options: what of it is read.
        file: read this instead of the address; the frames can then be gone through only once.
        after: go on after this frame.
        ahead: maximum number of decoded frames that wait; 0 decodes in the caller's thread.

    Raises:
        MissingExtraError: PyAV is not installed.

    """

    live = False

    def __init__(
        self,
        address: Address,
        options: VideoOptions | None = None,
        *,
        file: BinaryIO | None = None,
        after: Place | None = None,
        ahead: int = AHEAD,
    ) -> None:
        load_av()
        self.address = address
        self.options = options or VideoOptions()
        self._file = file
        self._after = after
        self._ahead = ahead

    @property
    def name(self) -> str:
        """Name shown by frames and messages."""
        return self.address.name

    def resumed(self, after: Place) -> VideoFile:
        """The same video from the frame after this one on."""
        return VideoFile(self.address, self.options, file=self._file, after=after, ahead=self._ahead)

    def __iter__(self) -> Generator[Frame, None, None]:
        notes: list[str] = []
        frames = self._frames(notes)
        with closing(advance_ahead(frames, self._ahead) if self._ahead else frames) as ready:
            yield from ready
        for note in notes:
            warn(f"{self.name}: {note}")

    def _frames(self, notes: list[str]) -> Generator[Frame, None, None]:
        number = -1
        try:
            with opened(self.address, self.options, file=self._file) as video:
                pictures = Pictures(video, notes)
                timed = pictures.since(max(self.options.start_seconds, self._after.time if self._after else 0.0))
                upright = Upright()
                for number, time, picture in choose(timed, self.options, self._after):
                    yield Frame(upright.pixels_of(picture), source=self.name, index=number, time=time)
                if number < 0 and self._after is None:
                    raise DataError(f"{self.name}: {pictures.nothing_in(self.options)}")
                pictures.note_missing_end(self.options.end_seconds)
        except DataError as error:
            yield Frame.failed(error, source=self.name, index=number + 1)
