"""`SyntheticVideoOptions`: what synthetic videos show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from protomask.settings import AtMost, Count, NonNegative, Positive, Settings

Overlap = Literal["little", "heavy"]


@dataclass(frozen=True, kw_only=True)
class SyntheticVideoOptions(Settings):
    """What a synthetic video shows.

    Attributes:
        frames: number of frames of each video.
        fps: frames per second of videos.
        overlap: of objects in videos: little gives each its own part of the frame, heavy lets many cross each other.
        shake: how far the camera of videos shakes, in pixels; 0 keeps it still.

    """

    frames: Annotated[Count, AtMost(1_000_000)] = 300
    fps: Annotated[Positive, AtMost(1000)] = 30.0
    overlap: Overlap = "heavy"
    shake: Annotated[NonNegative, AtMost(1000)] = 0.0
