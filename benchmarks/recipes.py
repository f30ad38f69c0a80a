"""Recipes compared on equal budgets: AP after as many images, from the same start, with the same data and model.

Each recipe trains a model for the same number of images with everything else left as `protomask train` has it; the
first is that of YOLACT, which is the default.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import protomask
from measuring import argument_parser, positive, report
from protomask.engine.recipes import RECIPES
from protomask.engine.result import TrainResult

PUBLISHED = "published"
COLUMNS = ("mask AP", "mask AP50", "mask AP75", "box AP")


def train(recipe: str, options: argparse.Namespace, seed: int) -> TrainResult:
    """One training."""
    given: dict[str, Any] = {
        "backbone_weights": options.backbone_weights,
        "image_size": options.image_size,
        "model_options": json.loads(options.model_options),
        "iterations": max(options.training_images // options.batch_size, 1),
        "batch_size": options.batch_size,
        "max_detections": options.max_detections,
        "validate_every": 10**6,
        "num_workers": 1,
        "check_data": False,
        "seed": seed,
    }
    return protomask.train(
        options.data, model=options.model, recipe=None if recipe == PUBLISHED else recipe,
        output=options.output / f"{recipe}_{seed}", **given,
    )  # fmt: skip


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--data", required=True, help="data set, as for protomask train")
    parser.add_argument("--model", default="yolact_nano")
    parser.add_argument("--backbone-weights", help="file with ImageNet weights; downloaded without")
    parser.add_argument("--image-size", type=positive, help="side of the input; the model's without")
    parser.add_argument("--model-options", default="{}", help="as of protomask train")
    parser.add_argument("--recipes", nargs="+", default=["modern"], choices=sorted(RECIPES))
    parser.add_argument("--training-images", type=positive, default=2880, help="length of each training")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--max-detections", type=positive, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("runs/recipes"), help="run folders")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for recipe in (PUBLISHED, *options.recipes):
        found: dict[str, list[float]] = {name: [] for name in COLUMNS}
        for seed in options.seeds:
            metrics = train(recipe, options, seed).metrics
            assert metrics is not None
            for name in COLUMNS:
                kind, measure = name.split()
                found[name].append(getattr(metrics.tables[kind], measure) or 0.0)
        rows.append({"recipe": recipe, **{name: f"{mean(values):.3f}" for name, values in found.items()}})
        print(rows[-1], flush=True)
    title = (
        f"{options.model} on {Path(options.data).name}, {options.training_images} images, {len(options.seeds)} seed(s)"
    )
    report(title, rows, json_file=options.json)


if __name__ == "__main__":
    main()
