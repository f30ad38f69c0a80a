"""Runs models of ultralytics for against_others.py, in a Python environment of its own; nothing here imports it.

Ultralytics is under the AGPL-3.0: it is an external program here, asked over pipes. Each line of standard input is a
JSON request, each line of standard output its answer:

    {"build": "yolo11n-seg.yaml", "size": 640, "image": PATH, "found": 100}  ->  {"parameters": 2.9e6, "version": ...}
    {"predict": 0, "images": [PATH, ...]}                                    ->  {"seconds": 0.05, "found": 100}

A model built from a .yaml has random weights: the confidence threshold is set so that it finds ``found`` boxes in
``image``; the library leaves out those whose mask is empty.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter
from typing import Any

os.environ["YOLO_VERBOSE"] = "false"
os.environ["YOLO_OFFLINE"] = "true"

import numpy as np
import torch
import ultralytics  # type: ignore[import-not-found]
from pycocotools import mask as mask_codec

RANDOM_WEIGHTS = 10
"""So many are tried until one finds enough."""


class Model:
    """A model with the options it predicts with."""

    def __init__(self, name: str, size: int, device: str, image: str, found: int) -> None:
        self.options: dict[str, Any] = {
            "imgsz": size, "device": device, "verbose": False, "max_det": found, "retina_masks": True,
        }  # fmt: skip
        has_random_weights = name.endswith((".yaml", ".yml"))
        for seed in range(RANDOM_WEIGHTS):
            torch.manual_seed(seed)
            self.model = ultralytics.YOLO(name)
            if not has_random_weights:
                break
            # Masks without a pixel are dropped: some random weights find nothing.
            [result] = self.model.predict(image, conf=1e-12, **self.options)
            if len(result.boxes) >= found / 2:
                self.options["conf"] = float(result.boxes.conf.min()) * (1 - 1e-6)
                break
        else:
            raise SystemExit(f"{name} at {size} px: no random weights find at least {found / 2:g} objects")
        self.parameters = sum(parameter.numel() for parameter in self.model.model.parameters())

    def predict(self, images: list[str]) -> int:
        """Masks of the size of the images, as COCO run-length codes."""
        found = 0
        for result in self.model.predict(images, batch=len(images), **self.options):
            if result.masks is not None:
                masks = result.masks.data.cpu().numpy().astype(np.uint8)
                found += len(mask_codec.encode(np.asfortranarray(masks.transpose(1, 2, 0))))
        return found


def main() -> None:
    threads, device = int(sys.argv[1]), sys.argv[2]
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the library prints must not mix with the answers
    models: list[Model] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "build" in request:
            models.append(Model(request["build"], request["size"], device, request["image"], request["found"]))
            torch.set_num_threads(threads)  # the library sets its own number
            answer = {"parameters": models[-1].parameters, "version": ultralytics.__version__}
        else:
            started = perf_counter()
            found = models[request["predict"]].predict(request["images"])
            answer = {"seconds": perf_counter() - started, "found": found}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
