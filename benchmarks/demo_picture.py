"""Make the picture of the README: sample images with what the shipped models find in them."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import protomask
from protomask.runtimes.shipped import SAMPLES

SHOWN = {"everyday": ("photo_1.jpg", "photo_2.jpg"), "shapes": ("scene_2.jpg", "scene_4.jpg")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="JPEG to write")
    parser.add_argument("--height", type=int, default=384, help="pixels of every image")
    parser.add_argument("--score-threshold", type=float, default=0.3, help="show only what scores above this")
    arguments = parser.parse_args()
    row = []
    for name, images in SHOWN.items():
        model = protomask.load(name)
        for image in images:
            path = SAMPLES / image
            found = model.predict(path, score_threshold=arguments.score_threshold)
            drawn = Image.fromarray(found.draw(path, color_by="instance"))
            width = round(drawn.width * arguments.height / drawn.height)
            row.append(np.asarray(drawn.resize((width, arguments.height), Image.Resampling.LANCZOS)))
    Image.fromarray(np.hstack(row)).save(arguments.picture, quality=88)
    print(arguments.picture)


if __name__ == "__main__":
    main()
