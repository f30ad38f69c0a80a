"""`Tracker`: what every tracker can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from protomask.images.decode import Pixels
from protomask.inference.tracking.options import TrackOptions
from protomask.structures.instances import Instances


class Tracker(ABC):
    """Gives the instances of each frame of one video their identities; frames come in order, one after another.

    The same frames always get the same identities. A tracker belongs to one video at a time and to one thread.

    Args:
        options: see `TrackOptions`.

    """

    def __init__(self, options: TrackOptions) -> None:
        self.options = options

    @abstractmethod
    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        """Follow the objects into the next frame.

        Args:
            found: all instances of the frame, also those of low score; an empty result where nothing was found.
            time: seconds from the beginning of the video; where None, frames come at the ``frame_rate`` of the options.
            image: (H, W, 3) uint8 RGB, what was predicted; only botsort looks at it, for the motion of the camera.

        Returns:
            The instances that belong to a track, in their order, with ``track_ids`` from 1 on.

        Raises:
            DataError: the frame differs in size or classes from those before it.

        """

    @abstractmethod
    def reset(self) -> None:
        """Forget everything: the next frame is the first of another video."""
