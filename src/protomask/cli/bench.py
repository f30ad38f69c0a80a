"""`protomask bench`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from protomask.bench.report import BenchReport

EXAMPLE = "protomask bench yolact_nano model.onnx yolact_nano@bf16 --images photos --save-dir bench"
POSITIONAL = ("models",)
SEVERAL = ("images", "batch_sizes")


def run(
    models: list[str],
    *,
    images: tuple[str, ...] = (),
    data: str | None = None,
    split: str = "val",
    limit: int | None = None,
    rounds: int = 5,
    warmup: int = 1,
    batch_sizes: tuple[int, ...] = (1, 4),
    score_threshold: float = 0.3,
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    threads: int | None = None,
    device: str = "auto",
    save_dir: str | None = None,
    json: bool = False,
) -> int:
    """Compare models by speed, memory and AP: all take turns on every image in one run.

    Time is measured from the image file to run-length masks.

    Args:
        models: zoo names, weights files, run folders, exported files or hf:// addresses; NAME@bf16, NAME@fp16 and
            NAME@compile change how it runs. One that cannot be loaded is left out; the exit code is then 1.
        images: images, folders or quoted globs to time; the sample images by default.
        data: data set to measure COCO AP on, as protomask eval does.
        split: part of that data set to measure on.
        limit: maximum number of images of --images, and of --data.
        rounds: timed predictions of each image, and timed batches of each size, by each model.
        warmup: untimed predictions of each image by each model, before all others.
        batch_sizes: batch sizes to measure the throughput of, for example 1 4 8.
        score_threshold: find only instances that score above this; AP counts everything.
        precision: number type for models given without one.
        threads: threads PyTorch may use; its own choice by default.
        device: device that runs the networks: auto, cpu, cuda, cuda:N or mps.
        save_dir: write bench.json and bench.svg to this folder.
        json: print one JSON document instead of tables.
    """
    from pathlib import Path

    from protomask.bench.compare import compare_models, save_comparison
    from protomask.cli.output import dump_json, progress
    from protomask.files import check_writable

    if save_dir is not None:
        check_writable(Path(save_dir) / "bench.json", "save_dir")
    with progress("bench", None, quiet=json) as bar:
        report = compare_models(
            models,
            images=images,
            data=data,
            split=split,
            limit=limit,
            rounds=rounds,
            warmup=warmup,
            batch_sizes=batch_sizes,
            score_threshold=score_threshold,
            precision=precision,
            threads=threads,
            device=device,
            on_progress=bar.update,
            on_missing=lambda name, reason: bar.message(f"error: {name} is left out: {reason}", to_stderr=True),
        )
    written = [] if save_dir is None else save_comparison(report, save_dir)
    if json:
        dump_json(report.to_dict())
    else:
        _print(report)
        for path in written:
            print(f"written: {path}")
        if report.missing:
            print(f"left out, see above: {', '.join(report.missing)}", file=sys.stderr)
    return 1 if report.missing else 0


def _print(report: BenchReport) -> None:
    from protomask.cli.output import print_table

    settings, models = report.settings, report.models
    print(", ".join(f"{name} {value}" for name, value in report.machine.items() if value is not None))
    print()
    for statistic, title in (("median_ms", "median"), ("p95_ms", "95th percentile")):
        print_table(
            ["model", *models[0].stages],
            [[one.name, *(time and getattr(time, statistic) for time in one.stages.values())] for one in models],
            title=f"milliseconds per image from file to run-length masks, {title} of {settings.rounds} rounds over "
            f"{len(settings.images)} images",
            digits=1,
        )
    # Memory that no model has, such as a GPU's on a machine without one, gets no column.
    titles = {"loaded_mib": "loaded MiB", "peak_mib": "peak MiB", "gpu_peak_mib": "GPU peak MiB"}
    memory = [name for name in titles if any(getattr(one.memory, name) for one in models)]
    print_table(
        [
            "model",
            "found per image",
            *(f"images/s, batch {size}" for size in models[0].throughput),
            *(titles[name] for name in memory),
        ],
        [
            [
                one.name,
                one.instances_per_image,
                *one.throughput.values(),
                *(value and round(value) for value in (getattr(one.memory, name) for name in memory)),
            ]
            for one in models
        ],
        title="throughput, and memory of a process of its own",
        digits=1,
    )
    measured = {one.name: one.ap for one in models if one.ap is not None}
    if measured:
        names = list(next(iter(measured.values())))
        print_table(
            ["model", *(name.replace("_", " ") for name in names)],
            [[model, *(ap[name] for name in names)] for model, ap in measured.items()],
            title=f"AP on {settings.data_images} images of {settings.data}, {settings.data_split}",
        )
