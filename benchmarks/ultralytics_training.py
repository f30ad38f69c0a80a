"""Trains a model of ultralytics for peers.py, in a Python environment of its own; nothing here imports it.

Ultralytics is under the AGPL-3.0: it is an external program here, with its own defaults. It reads one JSON request from
standard input, trains for a number of minutes, writes its detections on the validation images as COCO results, exports
the model and times it in each runtime, from the file of an image to the run-length codes of its masks.

    {"model": "yolo11n-seg.yaml", "data": YAML, "minutes": 20, "size": 320, "batch": 8, "seed": 0, "threads": 2,
     "folder": DIR, "images": [[id, PATH], ...], "categories": [1, ...], "found": 100, "timed": 20, "rounds": 3,
     "only_times": false}

The last line of standard output is the answer: {"minutes": ..., "epochs": ..., "parameters": ..., "ms": {...}}; with
only_times, of a training that has finished, it holds no more than "ms".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ["YOLO_VERBOSE"] = "false"
os.environ["YOLO_OFFLINE"] = "true"

import numpy as np
import torch
import ultralytics  # type: ignore[import-not-found]
from pycocotools import mask as mask_codec

FORMATS = {"ONNX Runtime": "onnx", "OpenVINO": "openvino"}


def train(request: dict[str, Any]) -> Any:
    """The trained model; best weights are not chosen, so the last ones (averaged) are taken."""
    torch.set_num_threads(request["threads"])
    model = ultralytics.YOLO(request["model"])
    model.train(
        data=request["data"], time=request["minutes"] / 60, imgsz=request["size"], batch=request["batch"],
        seed=request["seed"], device="cpu", workers=1, pretrained=False, val=False, plots=False, amp=False,
        project=request["folder"], name="train", exist_ok=True, verbose=False,
    )  # fmt: skip
    return ultralytics.YOLO(Path(request["folder"]) / "train" / "weights" / "last.pt")


def detections(model: Any, path: str, size: int, found: int, confidence: float) -> list[dict[str, Any]]:
    """COCO result rows of an image, without its id; labels in the place of categories."""
    [result] = model.predict(
        path, imgsz=size, device="cpu", verbose=False, max_det=found, conf=confidence, retina_masks=True
    )
    if result.masks is None:
        return []
    masks = result.masks.data.cpu().numpy().astype(np.uint8)
    codes = mask_codec.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    boxes, scores, labels = (
        values.cpu().tolist() for values in (result.boxes.xyxy, result.boxes.conf, result.boxes.cls)
    )
    return [
        {
            "label": int(label),
            "score": score,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        }
        for (x0, y0, x1, y1), score, label, code in zip(boxes, scores, labels, codes, strict=True)
    ]


def save_results(model: Any, request: dict[str, Any]) -> None:
    rows = []
    for image_id, path in request["images"]:
        for row in detections(model, path, request["size"], request["found"], 0.001):
            rows.append({"image_id": image_id, "category_id": request["categories"][row.pop("label")], **row})
    (Path(request["folder"]) / "results.json").write_text(json.dumps(rows), encoding="utf-8")


def measure(model: Any, request: dict[str, Any]) -> dict[str, float]:
    """Milliseconds per image of every export that works here."""
    images = [path for _, path in request["images"][: request["timed"]]]
    spent = {}
    for name, kind in FORMATS.items():
        exported = ultralytics.YOLO(model.export(format=kind, imgsz=request["size"], verbose=False), task="segment")
        torch.set_num_threads(request["threads"])
        detections(exported, images[0], request["size"], request["found"], 0.3)
        times = []
        for _ in range(request["rounds"]):
            for path in images:
                started = perf_counter()
                detections(exported, path, request["size"], request["found"], 0.3)
                times.append(1000 * (perf_counter() - started))
        spent[f"{name} ms"] = median(times)
    return spent


def main() -> None:
    request = json.loads(sys.stdin.read())
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the library prints must not mix with the answer
    if request["only_times"]:
        model = ultralytics.YOLO(Path(request["folder"]) / "train" / "weights" / "last.pt")
        print(json.dumps({"ms": measure(model, request)}), file=answers, flush=True)
        return
    started = perf_counter()
    model = train(request)
    minutes = (perf_counter() - started) / 60
    epochs = len((Path(request["folder"]) / "train" / "results.csv").read_text(encoding="utf-8").splitlines()) - 1
    save_results(model, request)
    answer = {
        "minutes": minutes,
        "epochs": epochs,
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "version": ultralytics.__version__,
        "ms": measure(model, request) if request["timed"] else {},
    }
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
