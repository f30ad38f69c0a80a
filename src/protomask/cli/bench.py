"""`protomask bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

EXAMPLE = "protomask bench yolact_nano model.onnx yolact_nano@bf16 --images photos --save-dir bench"
POSITIONAL = ("models",)
SEVERAL = ("images", "batch_sizes")


def run(
    models: list[str],
    *,
    images: tuple[str, ...] = (),
    data: str | None = None,
    limit: int | None = None,
    rounds: int = 5,
    warmup: int = 1,
    batch_sizes: tuple[int, ...] = (1, 4),
    score_threshold: float = 0.3,
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    threads: int | None = None,
    device: str = "auto",
    save_dir: str | None = None,
    plot: bool = True,
    json: bool = False,
) -> int:
    """Compare models by speed, memory and AP: all take turns on every image in one run.

    Time is measured from the image file to run-length masks.

    Args:
        models: zoo names, weights files or exported files; NAME@bf16, NAME@fp16 and NAME@compile change how it runs.
        images: images, folders or quoted globs to time; the shipped scenes by default.
        data: data set to measure COCO AP on as well (its val split), as for protomask eval.
        limit: use only so many images of --images, and of --data.
        rounds: timed predictions of each image, and timed batches of each size, by each model.
        warmup: untimed predictions of each image by each model, before all others.
        batch_sizes: batch sizes to measure the throughput of, for example 1 4 8.
        score_threshold: find only what scores above this; AP counts everything.
        precision: number type of the models that name none.
        threads: threads PyTorch may use; its own choice by default.
        device: auto, cpu, cuda, cuda:N or mps.
        save_dir: write bench.json and bench.png to this folder.
        plot: draw bench.png, which needs the extra 'plot'.
        json: print one JSON document instead of tables.
    """
    from contextlib import ExitStack
    from dataclasses import asdict
    from importlib.resources import as_file, files
    from pathlib import Path

    import torch

    from protomask.bench.latency import ModelSpec, measure_latency, measure_throughput, summarize
    from protomask.bench.machine import describe_machine
    from protomask.bench.memory import measure_memory
    from protomask.cli.average_precision import average_precisions, check_classes, open_val_split
    from protomask.cli.output import dump_json, progress
    from protomask.errors import ConfigError
    from protomask.files import check_writable
    from protomask.inference.sources import iter_image_paths

    for name, value in (
        ("limit", limit),
        ("rounds", rounds),
        ("threads", threads),
        *(("batch_sizes", size) for size in batch_sizes),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    if warmup < 0:
        raise ConfigError(f"warmup: expected at least 0, got {warmup}")
    specs = {str(spec): spec for spec in (ModelSpec.parse(text, precision=precision) for text in models)}
    if len(specs) < len(models):
        raise ConfigError(f"models: expected different ones, got {' '.join(models)}")
    folder = None if save_dir is None else Path(save_dir)
    if folder is not None:
        if plot:
            from protomask.cli.bench_plot import save_plot
        check_writable(folder / "bench.json", "save_dir")
    if threads is not None:
        torch.set_num_threads(threads)
    with ExitStack() as stack:
        given = images or [stack.enter_context(as_file(files("protomask") / "samples"))]
        paths = iter_image_paths(given)[:limit]
        predictors = {name: spec.load(device) for name, spec in specs.items()}
        dataset = None if data is None else open_val_split(data, limit)
        if dataset is not None:
            for predictor in predictors.values():
                check_classes(predictor.class_names, dataset)

        options: dict[str, Any] = {"score_threshold": score_threshold}
        steps = (warmup + rounds) * len(paths) + (1 + rounds) * len(batch_sizes) + 1
        with progress("bench", steps * len(specs), quiet=json) as bar:
            shared: dict[str, Any] = {"rounds": rounds, "on_turn": bar.advance, **options}
            turns = measure_latency(predictors, paths, warmup=warmup, **shared)
            rates = measure_throughput(predictors, paths, batch_sizes, **shared)
            memory = {}
            for name, spec in specs.items():
                memory[name] = measure_memory(
                    spec, paths, device=device, threads=torch.get_num_threads(), options=options
                )
                bar.advance()
        precisions = {} if dataset is None else average_precisions(predictors, dataset, quiet=json)
        rows = []
        for name, spec in specs.items():
            stages = summarize(turns[name])
            found = [turn.instances for turn in turns[name]]
            rows.append(
                {
                    "model": name,
                    **asdict(spec),
                    "instances_per_image": sum(found) / len(found),
                    "stages": {stage: None if one is None else asdict(one) for stage, one in stages.items()},
                    "throughput": [{"batch_size": size, "images_per_second": v} for size, v in rates[name].items()],
                    "memory": asdict(memory[name]),
                    "ap": precisions.get(name),
                }
            )
        report = {
            "machine": describe_machine(),
            "settings": {
                "images": [Path(path).name for path in paths],
                "data": data,
                "data_images": None if dataset is None else len(dataset),
                "rounds": rounds,
                "warmup": warmup,
                "score_threshold": score_threshold,
                "device": device,
            },
            "models": rows,
        }
    written = []
    if folder is not None:
        written.append(_write_json(folder / "bench.json", report))
        if plot:
            written.append(save_plot(report, folder / "bench.png"))
    if json:
        dump_json(report)
        return 0
    _print(report)
    for path in written:
        print(f"written: {path}")
    return 0


def _write_json(path: Path, content: Any) -> Path:
    import json

    from protomask.files import replacing

    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
    return path


def _print(report: Mapping[str, Any]) -> None:
    from protomask.cli.output import print_table

    settings, rows = report["settings"], report["models"]
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None))
    print()
    stages = list(rows[0]["stages"])
    for statistic, title in (("median_ms", "median"), ("p95_ms", "95th percentile")):
        times = [[one and one[statistic] for one in row["stages"].values()] for row in rows]
        print_table(
            ["model", *stages],
            [[row["model"], *values] for row, values in zip(rows, times, strict=True)],
            title=f"milliseconds per image from file to run-length masks, {title} of {settings['rounds']} rounds over "
            f"{len(settings['images'])} images",
            digits=1,
        )
    sizes = [entry["batch_size"] for entry in rows[0]["throughput"]]
    # Memory that no model has, such as a GPU's on a machine without one, is no column.
    memory = [name for name in rows[0]["memory"] if any(row["memory"][name] for row in rows)]
    print_table(
        ["model", "found per image", *(f"images/s, batch {size}" for size in sizes), *map(_memory_title, memory)],
        [
            [
                row["model"],
                row["instances_per_image"],
                *(entry["images_per_second"] for entry in row["throughput"]),
                *(row["memory"][name] and round(row["memory"][name]) for name in memory),
            ]
            for row in rows
        ],
        title="throughput, and memory of a process of its own",
        digits=1,
    )
    if rows[0]["ap"] is not None:
        names = list(rows[0]["ap"])
        print_table(
            ["model", *(name.replace("_", " ") for name in names)],
            [[row["model"], *(row["ap"][name] for name in names)] for row in rows],
            title=f"AP on {settings['data_images']} images of {settings['data']}",
        )


def _memory_title(name: str) -> str:
    """Of memory: peak_mib becomes peak MiB."""
    return name.replace("_", " ").replace("mib", "MiB").replace("gpu", "GPU")
