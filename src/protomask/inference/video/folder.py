"""`FrameFolder`: images that are the frames of one video."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from protomask.images.decode import read_image
from protomask.inference.video.choice import Place, choose
from protomask.inference.video.options import VideoOptions
from protomask.structures.frame import Frame

USUAL_RATE = 25.0
"""Frames per second where nothing says how many there are."""


class FrameFolder:
    """Image files in order as one video.

    Args:
        name: of the video.
        files: its frames.
        options: ``fps`` is the number of frames per second that the video has (`USUAL_RATE` when None).
        after: go on after this frame.

    """

    live = False

    def __init__(
        self, name: str, files: Sequence[Path], options: VideoOptions | None = None, *, after: Place | None = None
    ) -> None:
        self.name = name
        self.files = tuple(files)
        self.options = options or VideoOptions()
        self._after = after

    def resumed(self, after: Place) -> FrameFolder:
        """The same video from the frame after this one on."""
        return FrameFolder(self.name, self.files, self.options, after=after)

    def __iter__(self) -> Generator[Frame, None, None]:
        rate = self.options.fps or USUAL_RATE
        timed = ((number / rate, file) for number, file in enumerate(self.files))
        for index, time, file in choose(timed, self.options.replace(fps=None), self._after):
            image = partial(read_image, file)
            yield Frame(image, source=self.name, index=index, time=time, image_source=str(file))
