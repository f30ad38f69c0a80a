"""What the generator of synthetic scenes makes: objects, sizes, occlusion; and how long rendering takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from measuring import argument_parser, milliseconds, report
from protomask.data.synthetic.plan import plan_scene
from protomask.data.synthetic.scene import render_scene
from protomask.data.synthetic.shapes import CLASS_NAMES


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scenes = [plan_scene(options.seed, index) for index in range(options.scenes)]
    objects = [item for scene in scenes for item in scene]
    counts = np.array([len(scene) for scene in scenes])
    areas = np.array([int(item.visible.sum()) for item in objects])
    hidden = np.array([item.occluded_share for item in objects])
    labels = Counter(item.label for item in objects)
    times = milliseconds(
        {"render": lambda: [render_scene(options.seed, index) for index in range(10)]}, rounds=options.rounds
    )
    values = {
        "objects per scene, mean": counts.mean(),
        "objects per scene, largest": int(counts.max()),
        "scenes without objects (%)": 100 * (counts == 0).mean(),
        "rarest class (% of objects)": 100 * min(labels[label] for label in range(len(CLASS_NAMES))) / len(objects),
        "commonest class (% of objects)": 100 * max(labels.values()) / len(objects),
        "visible area below 32 x 32 px (% of objects)": 100 * (areas < 32**2).mean(),
        "visible area above 96 x 96 px (% of objects)": 100 * (areas > 96**2).mean(),
        "median visible area (px)": float(np.median(areas)),
        "more than 5 % hidden (% of objects)": 100 * (hidden > 0.05).mean(),
        "more than 25 % hidden (% of objects)": 100 * (hidden > 0.25).mean(),
        "more than half hidden (% of objects)": 100 * (hidden > 0.5).mean(),
        "rendering, one process (ms per scene)": times["render"] / 10,
    }
    rows = [
        {"quantity": name, "value": value if isinstance(value, int) else float(value)} for name, value in values.items()
    ]
    title = f"{options.scenes} synthetic scenes of 256 x 256 px, seed {options.seed}"
    report(title, rows, json_file=options.json)


if __name__ == "__main__":
    main()
