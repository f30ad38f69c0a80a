"""A video of moving synthetic shapes for benchmarks: the shipped scenes, over which the camera glides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from protomask.images.decode import Pixels
from protomask.runtimes.shipped import SAMPLES

SIZE = (720, 1280)
RATE = 30


def gliding(frames: int, size: tuple[int, int] = SIZE) -> Iterator[Pixels]:
    """Frames (H, W, 3) of a camera that glides over the shipped scenes, forth and back."""
    height, width = size
    scenes = sorted(SAMPLES.glob("*.jpg"))
    side = height * 5 // 4
    tiles = [np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in scenes]
    canvas = np.concatenate((tiles * 4)[: math.ceil(2 * width / side) + 1], axis=1)
    room = canvas.shape[1] - width, canvas.shape[0] - height
    for number in range(frames):
        x = round(room[0] * (0.5 - 0.5 * math.cos(number / 150)))
        y = round(room[1] * (0.5 - 0.5 * math.cos(number / 40)))
        yield np.ascontiguousarray(canvas[y : y + height, x : x + width])


def write_scenes(path: Path, frames: int, repeats: int = 1) -> None:
    """Write an H.264 video of ``frames`` frames, its packets again and again until it has ``repeats`` times as many."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "veryfast", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        packets = []
        for number, pixels in enumerate(gliding(frames)):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        kept = [(bytes(packet), packet.pts or 0, packet.is_keyframe) for packet in packets]
        for repeat in range(repeats):
            for content, pts, is_keyframe in kept:
                packet = av.Packet(content)
                packet.pts = packet.dts = pts + repeat * frames  # without B-frames they are the same
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, RATE), stream, is_keyframe
                output.mux(packet)
