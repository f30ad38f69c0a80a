"""Folders of training runs, written without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LONG_NAMES = (
    "ground floor shop window", "balcony with iron railing", "cornice and roof moulding", "decorative relief panel",
    "entrance door, double", "facade", "half-timbered window", "pillar or pilaster, free-standing",
    "window shutter (wooden, closed)", "window sill",
)  # fmt: skip
MEASURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100", "AR_large")


def write_run(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    aps: Sequence[float | None] = (0.1, 0.3, 0.2),
    per_epoch: int = 10,
    report: Mapping[str, Any] | None = None,
    seconds: float | None = None,
) -> Path:
    """A run with two training lines and a validation in each epoch."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"output": str(folder), **settings}))
    lines: list[dict[str, Any]] = []
    for epoch, value in enumerate(aps, start=1):
        for iteration in (per_epoch * epoch - per_epoch // 2, per_epoch * epoch):
            losses = {"loss_box": 1 / iteration, "loss_total": 2 / iteration}
            rest = {"epoch": iteration / per_epoch, "learning_rate": 0.001, "skipped_steps": 0}
            lines.append({"kind": "train", "iteration": iteration, **rest, **losses})
        measured = {f"{kind}_{name}": value for kind in ("box", "mask") for name in ("AP", "AP50", "AP75")}
        lines.append({"kind": "validation", "iteration": per_epoch * epoch, "epoch": epoch, **measured})
        if seconds is not None:
            lines[-1]["elapsed_seconds"] = seconds * epoch / len(aps)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if report is not None:
        (folder / "report").mkdir()
        (folder / "report" / "metrics.json").write_text(json.dumps(report))
    return folder


def report_of(
    value: float, *, iteration: int | None = 20, names: Sequence[str] = ("disk", "ring"), images: int = 5
) -> dict[str, Any]:
    """The numbers of a report in which everything has the same AP."""
    classes = {name: {"AP": value, "AP50": value, "num_objects": 7} for name in names}
    table = {**dict.fromkeys(MEASURES, value), "AR_max": value, "per_class": classes}
    return {"iteration": iteration, "num_images": images, "max_detections": [1, 10, 100], "box": table, "mask": table}
