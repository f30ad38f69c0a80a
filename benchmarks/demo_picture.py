"""Make the picture of the README: the shipped scenes with what the shipped model finds in them."""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from PIL import Image

import protomask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="JPEG to write")
    parser.add_argument("--columns", type=int, default=3, help="scenes side by side")
    parser.add_argument("--score-threshold", type=float, default=0.3, help="show only what scores above this")
    arguments = parser.parse_args()

    model = protomask.load()
    with as_file(files("protomask") / "samples") as folder:
        scenes = sorted(folder.glob("*.jpg"))
        drawn = [
            model.predict(scene, score_threshold=arguments.score_threshold).draw(scene, color_by="instance")
            for scene in scenes
        ]
    rows = [np.hstack(drawn[start : start + arguments.columns]) for start in range(0, len(drawn), arguments.columns)]
    Image.fromarray(np.vstack(rows)).save(arguments.picture, quality=88)
    print(arguments.picture)


if __name__ == "__main__":
    main()
