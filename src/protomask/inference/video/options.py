"""`VideoOptions`: what of a video, camera or stream is read, and how."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from protomask.errors import ConfigError
from protomask.settings import Count, NonNegative, Positive, Settings, Text, shown

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@dataclass(frozen=True, kw_only=True)
class VideoOptions(Settings):
    """What of a video, camera or stream is read, and how.

    Attributes:
        every: take every Nth frame of a video.
        fps: take at most this many frames per second of a video, by their times. For a folder of images, and for raw
            video on standard input, the frames per second that it has.
        start: begin at this time of a video, in seconds or as 1:02:03.5.
        end: end before this time of a video, in seconds or as 1:02:03.5; the end of the video by default.
        live: process the newest frame and drop older ones; auto does so for cameras and streams without an end.
        give_up: seconds after which a lost stream that does not come back is given up.
        raw_size: WIDTHxHEIGHT of raw video on standard input.
        raw_format: FFmpeg's name of the pixel format of raw video on standard input.
        input_options: FFmpeg's options for opening a video, camera or stream, such as rtsp_transport or video_size.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    every: Count = 1
    fps: Positive | None = None
    start: str | float = 0.0
    end: str | float | None = None
    live: Literal["auto", "yes", "no"] = "auto"
    give_up: NonNegative = 60.0
    raw_size: str | None = None
    raw_format: Text = "rgb24"
    input_options: dict[str, str] = field(default_factory=dict)

    def _check(self) -> None:
        if self.every > 1 and self.fps is not None:
            raise ConfigError(f"every, fps: expected one of them, got every={self.every} and fps={self.fps:g}")
        if self.end_seconds <= self.start_seconds:
            raise ConfigError(f"end: expected a time after start={shown(self.start)}, got {shown(self.end)}")
        self._expect("raw_size", self.raw_size is None or _SIZE.fullmatch(self.raw_size) is not None, "WIDTHxHEIGHT")

    @property
    def start_seconds(self) -> float:
        """Where to begin."""
        return seconds("start", self.start)

    @property
    def end_seconds(self) -> float:
        """Where to end; infinity for the end of the video."""
        return math.inf if self.end is None else seconds("end", self.end)


def seconds(name: str, value: float | str) -> float:
    """A time in seconds, from a number or from 1:02:03.5, 02:03.5 or 3.5.

    Raises:
        ConfigError: it is not such a time; the message names the setting.

    """
    if isinstance(value, str):
        parts = _CLOCK.fullmatch(value.strip())
        if parts:
            hours, minutes, rest = parts.groups()
            return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(rest)
    elif value >= 0:
        return float(value)
    raise ConfigError(f"{name}: expected seconds or a time like 1:02:03.5, got {shown(value)}")
