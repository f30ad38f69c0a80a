"""Fine-tuning on other classes: mask AP after some steps with class rows carried over by name, or made new.

The data are synthetic scenes whose classes come in the opposite order and of which one has a name that the weights do
not know. All starts share every other weight:

- "by name" is what `protomask train --weights` does;
- "background only" is what it does where no name is known: the class layers keep the rows of the background;
- "new" re-initialises the class layers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import protomask
from measuring import argument_parser, positive, report
from protomask.checkpoints.carry import carry_weights
from protomask.checkpoints.io import load_matching, save_weights
from protomask.checkpoints.sources import load_network
from protomask.data.synthetic.write import write_dataset
from protomask.engine.records import read_metrics
from protomask.models.build import build_network
from protomask.models.families import family_of
from protomask.models.network import Network

RENAMED = {"star": "flower"}
STARTS = ("by name", "background only", "new")


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--weights", default="yolact_nano")
    parser.add_argument("--steps", type=positive, default=200)
    parser.add_argument("--validate-every", type=positive, default=50, help="steps between two validations")
    parser.add_argument("--batch-size", type=positive, default=4)
    parser.add_argument("--image-size", type=positive, default=192)
    parser.add_argument("--val-images", type=positive, default=60)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("runs/carry_classes"), help="data set and run folders")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = make_data(options)
    rows = []
    for start in STARTS:
        found: dict[str, list[float]] = {}
        for seed in options.seeds:
            for steps, value in mask_ap(start, names, options, seed).items():
                found.setdefault(steps, []).append(value)
        rows.append({"class rows": start, **{name: f"{sum(ap) / len(ap):.3f}" for name, ap in found.items()}})
        print(rows[-1], flush=True)
    report(f"mask AP of {options.weights} on other classes, {len(options.seeds)} seed(s)", rows, json_file=options.json)


def make_data(options: argparse.Namespace) -> list[str]:
    """Write the scenes with their changed classes; returns the class names in their new order."""
    folder = options.output / "data"
    size = (options.image_size, options.image_size)
    images = options.validate_every * options.batch_size
    write_dataset(folder, images=images, val_images=options.val_images, seed=77, image_size=size, overwrite=True)
    names: list[str] = []
    for split in ("train", "val"):
        file = folder / "annotations" / f"{split}.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        count = len(content["categories"])
        for category in content["categories"]:
            category["id"] = count + 1 - category["id"]
            category["name"] = RENAMED.get(category["name"], category["name"])
        content["categories"].sort(key=lambda category: category["id"])
        for annotation in content["annotations"]:
            annotation["category_id"] = count + 1 - annotation["category_id"]
        file.write_text(json.dumps(content), encoding="utf-8")
        names = [category["name"] for category in content["categories"]]
    return names


def starting_weights(start: str, names: list[str], weights: str, image_size: int, seed: int) -> Network:
    """The network that a training begins with."""
    torch.manual_seed(seed)
    source = load_network(weights)
    config = source.config.override(num_classes=len(names), image_size=image_size)
    network = build_network(config, class_names=names)
    if start == "by name":
        carry_weights(network, source)
    elif start == "background only":
        source.class_names = tuple(f"not {name}" for name in source.class_names)
        carry_weights(network, source)
    else:
        layers = tuple(f"{layer.name}." for layer in family_of(config).class_layers(config))
        load_matching(network, {key: x for key, x in source.state_dict().items() if not key.startswith(layers)})
    return network.eval()


def mask_ap(start: str, names: list[str], options: argparse.Namespace, seed: int) -> dict[str, float]:
    """Mask AP by the number of steps."""
    folder = options.output / f"{start.replace(' ', '_')}_{seed}"
    network = starting_weights(start, names, options.weights, options.image_size, seed)
    weights = save_weights(network, folder.with_suffix(".safetensors"))
    data = str(options.output / "data")
    before = protomask.evaluate(protomask.load(weights), data=data).tables["mask"].AP
    given: dict[str, Any] = {
        "weights": str(weights), "image_size": options.image_size, "iterations": options.steps, "seed": seed,
        "batch_size": options.batch_size, "learning_rate": options.learning_rate, "schedule": "cosine",
        "freeze_bn": False, "num_workers": 0, "check_data": False, "trackers": (),
    }  # fmt: skip
    result = protomask.train(data, output=folder, **given)
    lines = [line for line in read_metrics(result.output) if line["kind"] == "validation"]
    return {"0 steps": before or 0.0} | {f"{line['iteration']} steps": line["mask_AP"] or 0.0 for line in lines}


if __name__ == "__main__":
    main()
