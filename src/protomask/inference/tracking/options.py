"""`TrackOptions`: everything a caller can choose about tracking, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from protomask.settings import AtLeast, Count, NonNegative, Positive, Settings, Unit


@dataclass(frozen=True, kw_only=True)
class TrackOptions(Settings):
    """What a caller can choose about tracking; times are in seconds, so that they hold at any frame rate.

    Attributes:
        high_score: detections with at least this final score look for their tracks first.
        low_score: detections with a lower final score than this are ignored; those between the two continue tracks that
            would be lost without them, as half-hidden objects often score low. Predict with a score_threshold that is
            not higher than this.
        new_score: a detection that continues no track begins one if its final score is at least this.
        confirm_frames: number of detections after which a track is reported, so that single false detections are not;
            in the first frame of a video, every track is reported.
        lost_seconds: how long a track without detections is remembered and may continue under its old identity.
        frame_rate: frames per second, used if frames come without times.
        min_overlap: a detection continues a track only if they overlap by more than this, 0..1: the IoU of their masks,
            without what other objects hide.
        class_weight: how much worse a detection fits a track of another class: 0 for no difference, 1 for no fit at
            all.
        grid: cells of the longer side of the grid on which masks are compared.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    high_score: Unit = 0.4
    low_score: Unit = 0.1
    new_score: Unit = 0.4
    confirm_frames: Count = 2
    lost_seconds: NonNegative = 1.0
    frame_rate: Positive = 30.0
    min_overlap: Unit = 0.1
    class_weight: Unit = 0.4
    grid: Annotated[int, AtLeast(8, "cells")] = 160

    def _check(self) -> None:
        self._expect("low_score", self.low_score <= self.high_score, f"at most high_score={self.high_score:g}")
