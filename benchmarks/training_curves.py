"""Draw the curves of a training run: losses, learning rate and validation AP from its metrics.jsonl."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

LOSSES = {"loss_box": "box", "loss_class": "class", "loss_mask": "mask", "loss_semantic": "semantic"}


def smooth(values: list[float], width: int) -> np.ndarray:
    """Running mean over ``width`` values, shorter at the start."""
    sums = np.cumsum(values)
    counts = np.minimum(np.arange(1, len(values) + 1), width)
    sums[width:] -= sums[:-width].copy()
    return sums / counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, with metrics.jsonl")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--title", default="", help="above the curves")
    arguments = parser.parse_args()

    records = [json.loads(line) for line in (arguments.run / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss_total" in record]
    validations = [record for record in records if "mask_AP" in record]
    iterations = [record["iteration"] for record in steps]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), dpi=110, constrained_layout=True)
    for key, name in LOSSES.items():
        left.plot(iterations, smooth([record[key] for record in steps], 4), label=name, linewidth=1.5)
    left.set(xlabel="iteration", ylabel="loss (weighted)", ylim=(0, None), title="training losses")
    rate = left.twinx()
    rate.plot(iterations, [record["learning_rate"] for record in steps], color="0.6", linestyle=":", linewidth=1)
    rate.set(ylabel="learning rate (dotted)", ylim=(0, None))
    left.legend(frameon=False)
    for key, name, style in (
        ("mask_AP50", "mask AP50", "-"), ("mask_AP", "mask AP", "-"), ("box_AP50", "box AP50", "--"),
        ("box_AP", "box AP", "--"),
    ):  # fmt: skip
        color = "C0" if "50" in key else "C1"
        points = [(record["iteration"], record[key]) for record in validations if record[key] is not None]
        right.plot(*zip(*points, strict=True), style, color=color, marker="o", markersize=3, label=name)
    right.set(xlabel="iteration", ylabel="AP", ylim=(0, 1), title="validation")
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    if arguments.title:
        figure.suptitle(arguments.title)
    figure.savefig(arguments.picture)
    print(arguments.picture)


if __name__ == "__main__":
    main()
