"""Which learning rate? Short trainings from the same start that differ only in optimizer and rate: loss and AP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import protomask
from measuring import argument_parser, positive, report
from protomask.engine.records import read_metrics


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--data", required=True, help="data set, as for protomask train")
    parser.add_argument("--weights", default="yolact_nano")
    parser.add_argument("--sgd", type=float, nargs="*", default=[0.001, 0.003, 0.01, 0.03], help="rates at 8 images")
    parser.add_argument("--adamw", type=float, nargs="*", default=[0.0003, 0.001, 0.003], help="rates at 8 images")
    parser.add_argument("--steps", type=positive, default=60)
    parser.add_argument("--batch-size", type=positive, default=4)
    parser.add_argument("--image-size", type=positive, default=192)
    parser.add_argument("--model-options", default="{}", help="as of protomask train")
    parser.add_argument("--max-detections", type=positive, default=100)
    parser.add_argument("--output", type=Path, default=Path("runs/learning_rates"), help="run folders")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for optimizer, rates in (("sgd", options.sgd), ("adamw", options.adamw)):
        for rate in rates:
            given: dict[str, Any] = {
                "weights": options.weights, "optimizer": optimizer, "learning_rate": rate, "schedule": "cosine",
                "weight_decay": 0.05 if optimizer == "adamw" else 0.0005, "iterations": options.steps,
                "batch_size": options.batch_size, "image_size": options.image_size, "freeze_bn": False,
                "model_options": json.loads(options.model_options), "max_detections": options.max_detections,
                "validate_every": 10**6, "num_workers": 0, "check_data": False, "trackers": (),
            }  # fmt: skip
            result = protomask.train(options.data, output=options.output / f"{optimizer}_{rate:g}", **given)
            assert result.metrics is not None
            tables = result.metrics.tables
            last = [line for line in read_metrics(result.output) if line["kind"] == "train"][-1]
            values = {"loss of the last 20 steps": f"{last['loss_total']:.1f}"}
            values |= {name: f"{tables[name].AP or 0.0:.3f}" for name in ("mask", "box")}
            rows.append({"optimizer": optimizer, "learning rate": f"{rate:g}", **values})
            print(rows[-1], flush=True)
    title = f"{options.weights} on {Path(options.data).name} after {options.steps} steps of {options.batch_size}"
    report(title, rows, json_file=options.json)


if __name__ == "__main__":
    main()
