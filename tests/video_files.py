"""Small videos for tests, each frame a gray of its own so that it can be told from its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protomask.images.decode import Pixels

av = pytest.importorskip("av")

RATE = 25
STEP = 8
"""Between the grays of frames that follow each other."""


def gray(number: int, size: tuple[int, int]) -> Pixels:
    """An image whose gray says its number, up to 30."""
    return np.full((*size, 3), STEP * (number % 31), dtype=np.uint8)


def number_of(pixels: Pixels) -> int:
    """What `gray` was told, from the middle of an image that may have been compressed."""
    height, width = pixels.shape[:2]
    part = pixels[height // 3 : height // 2 + 1, width // 3 : width // 2 + 1]
    return round(float(part.mean()) / STEP)


def write_video(
    path: Path,
    frames: int = 10,
    *,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    paint: Callable[[int, tuple[int, int]], Pixels] = gray,
    gop: int = 12,
    audio: bool = False,
    format: str | None = None,
    container: dict[str, str] | None = None,
    title: str | None = None,
) -> Path:
    """Write a video of RATE frames per second, or of frames at these times."""
    base = Fraction(1, 90_000)
    options = {"crf": "12", "preset": "ultrafast"} if codec.startswith("libx26") else {}
    with av.open(str(path), "w", format=format, options=container or {}) as output:
        if title is not None:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, pix_fmt, gop
        if codec.startswith("lib"):
            stream.codec_context.time_base = base
        sound = output.add_stream("aac", rate=8000, layout="mono") if audio else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(paint(number, size), format="rgb24").reformat(format=pix_fmt)
            seconds = number / RATE if times is None else times[number]
            picture.time_base = base if codec.startswith("lib") else Fraction(1, RATE)
            picture.pts = round(seconds / float(picture.time_base))
            output.mux(stream.encode(picture))
        if sound is not None:
            _mux_tone(output, sound, frames / RATE)
        output.mux(stream.encode(None))
    return path


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file with nothing but a tone in it."""
    with av.open(str(path), "w") as output:
        _mux_tone(output, output.add_stream("aac", rate=8000, layout="mono"), seconds)
    return path


def _mux_tone(output: Any, sound: Any, seconds: float) -> None:
    samples = (8000 * np.sin(np.arange(int(8000 * seconds)) / 4)).astype(np.int16)
    for start in range(0, len(samples), 1024):
        chunk = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        chunk.sample_rate, chunk.pts = 8000, start
        output.mux(sound.encode(chunk))
    output.mux(sound.encode(None))


def set_rotation(path: Path, matrix: Sequence[int]) -> None:
    """Write the turning part (a, b, c, d) of the matrix of an MP4's first track, as telephones do."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    place = header + 40  # version 0: flags, times, id, duration, layer, group, volume
    a, b, c, d = (value << 16 for value in matrix)
    rows = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4")
    content[place : place + 36] = rows.tobytes()
    path.write_bytes(bytes(content))


def read_back(path: Path) -> tuple[list[int], list[float], tuple[int, int]]:
    """Numbers, times and (H, W) of the frames of a video, by FFmpeg itself."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    numbers = [number_of(frame.to_ndarray(format="rgb24")) for frame in frames]
    return numbers, [round(frame.time, 3) for frame in frames], (frames[0].height, frames[0].width)
