"""Make the picture of tracks in the README: moments of a rendered video with what the tracker made of it.

protomask data synth clip --video --seed 7
python benchmarks/track_picture.py clip/000001.mp4 docs/images/track.jpg --frames 40 70 100 130
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import protomask
from protomask.inference.painter import TrackPainter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path, help="JPEG to write")
    parser.add_argument("--frames", type=int, nargs=4, default=(30, 60, 90, 120), help="moments to show")
    parser.add_argument("--width", type=int, default=640, help="of each moment, in pixels")
    arguments = parser.parse_args()

    painter, moments = TrackPainter(), []
    for frame in protomask.load("shapes").track(arguments.video):
        drawn = painter.draw(frame)
        if frame.index in arguments.frames:
            height = round(drawn.shape[0] * arguments.width / drawn.shape[1])
            moments.append(np.asarray(Image.fromarray(drawn).resize((arguments.width, height))))
        if frame.index == max(arguments.frames):
            break
    rows = [np.hstack(moments[start : start + 2]) for start in (0, 2)]
    Image.fromarray(np.vstack(rows)).save(arguments.picture, quality=85)
    print(arguments.picture)


if __name__ == "__main__":
    main()
