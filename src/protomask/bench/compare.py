"""Several models compared in one run: time by stage, throughput, memory, and AP where there is a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from protomask.api import Precision
from protomask.bench.chart import bench_chart
from protomask.bench.latency import Turn, measure_latency, measure_throughput, summarize
from protomask.bench.machine import describe_machine, limit_threads
from protomask.bench.memory import MemoryUse, measure_memory
from protomask.bench.models import ModelSpec
from protomask.bench.report import BenchReport, BenchSettings, ModelResult
from protomask.errors import CheckpointError, ConfigError, MissingExtraError, ProtomaskError
from protomask.files import replacing
from protomask.inference.paths import iter_image_paths
from protomask.runtimes.shipped import SAMPLES

if TYPE_CHECKING:
    from protomask.data.coco.dataset import CocoDataset
    from protomask.inference.predictor import Predictor


def compare_models(
    models: Sequence[str],
    *,
    images: Sequence[str | Path] = (),
    data: str | None = None,
    split: str = "val",
    limit: int | None = None,
    rounds: int = 5,
    warmup: int = 1,
    batch_sizes: Sequence[int] = (1, 4),
    score_threshold: float = 0.3,
    precision: Precision = "float32",
    threads: int | None = None,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_missing: Callable[[str, str], None] = lambda name, reason: None,
) -> BenchReport:
    """Let models take turns on images, and measure each of them; needs PyTorch only where a model or AP does.

    A model that cannot be loaded is left out, as long as there is another.

    Args:
        models: as in `ModelSpec.parse`, all different.
        images: images, folders or globs to time; the sample images by default.
        data: data set to measure COCO AP on; none by default.
        split: part of ``data``.
        limit: maximum number of images of ``images``, and of ``data``.
        rounds: timed predictions of each image, and timed batches of each size, by each model.
        warmup: untimed predictions of each image by each model, before all others.
        batch_sizes: batch sizes to measure the throughput of.
        score_threshold: find only instances that score above this; AP counts everything.
        precision: number type for models given without one.
        threads: maximum number of threads of every runtime; its own choice by default.
        device: auto, cpu, cuda, cuda:N or mps.
        on_progress: called with the number of steps done and of all steps.
        on_missing: called with the name of a model that is left out, and why.

    Raises:
        ConfigError: a number is out of range, or a model is named twice or wrongly.
        ProtomaskError: no model, an image or the data set cannot be read, or a model lacks classes of the data.

    """
    _check_numbers(limit=limit, rounds=rounds, threads=threads, batch_sizes=batch_sizes, warmup=warmup)
    specs = {str(spec): spec for spec in (ModelSpec.parse(text, precision=precision) for text in models)}
    if len(specs) < len(models) or not specs:
        raise ConfigError(f"models: expected at least one, all different, got {' '.join(models) or 'none'}")
    paths = iter_image_paths(images or [SAMPLES])[:limit]
    if data is not None:
        _check_there(data, split)
    predictors, missing = _load_all(specs, device, threads, on_missing)
    specs = {name: specs[name] for name in predictors}
    dataset = None if data is None else _open_data(data, split, limit, predictors)
    limit_threads(threads)

    steps = (warmup + rounds) * len(paths) + (1 + rounds) * len(batch_sizes) + 1
    total, done = (steps + (0 if dataset is None else len(dataset))) * len(specs), count(1)

    def step() -> None:
        on_progress(next(done), total)

    turns = measure_latency(
        predictors, paths, rounds=rounds, warmup=warmup, score_threshold=score_threshold, on_turn=step
    )
    rates = measure_throughput(
        predictors, paths, batch_sizes, rounds=rounds, score_threshold=score_threshold, on_turn=step
    )
    memory: dict[str, MemoryUse] = {}
    for name, spec in specs.items():
        memory[name] = measure_memory(spec, paths, device=device, threads=threads, score_threshold=score_threshold)
        step()
    precisions = {
        name: None if dataset is None else _average_precision(predictor, dataset, step)
        for name, predictor in predictors.items()
    }
    return BenchReport(
        machine=describe_machine(),
        settings=BenchSettings(
            images=tuple(path.name for path in paths),
            data=data,
            data_split=None if data is None else split,
            data_images=None if dataset is None else len(dataset),
            rounds=rounds,
            warmup=warmup,
            score_threshold=score_threshold,
            device=device,
        ),
        models=tuple(
            ModelResult(
                spec=spec,
                instances_per_image=_mean_instances(turns[name]),
                stages=summarize(turns[name]),
                throughput=rates[name],
                memory=memory[name],
                ap=precisions[name],
            )
            for name, spec in specs.items()
        ),
        missing=missing,
    )


def _check_there(data: str, split: str) -> None:
    from protomask.data.coco.layout import open_dataset

    open_dataset(data, (split,))


def _load_all(
    specs: Mapping[str, ModelSpec], device: str, threads: int | None, on_missing: Callable[[str, str], None]
) -> tuple[dict[str, Predictor], dict[str, str]]:
    """The models that can be loaded, and why the others cannot; raises the first error where that is all of them."""
    from protomask.models.naming import find_model

    errors: dict[str, ProtomaskError] = {}
    predictors: dict[str, Predictor] = {}
    for name, spec in specs.items():  # all names, before any model is loaded
        try:
            find_model(spec.source)
        except CheckpointError as error:
            errors[name] = error
    for name, spec in specs.items():
        if name in errors:
            continue
        try:
            predictors[name] = spec.load(device, threads=threads)
        except (CheckpointError, MissingExtraError) as error:
            errors[name] = error
    if not predictors:
        raise next(errors[name] for name in specs)
    missing = {name: str(errors[name]) for name in specs if name in errors}
    for name, reason in missing.items():
        on_missing(name, reason)
    return predictors, missing


def save_comparison(report: BenchReport, folder: str | Path) -> list[Path]:
    """Write bench.json and bench.svg, each whole or not at all; the folder is made as needed.

    Raises:
        ProtomaskError: a file cannot be written.

    """
    folder = Path(folder)
    numbers = folder / "bench.json"
    with replacing(numbers) as file:
        file.write((json.dumps(report.to_dict(), indent=2) + "\n").encode())
    return [numbers, bench_chart(report).save(folder / "bench.svg")]


def _check_numbers(
    *, limit: int | None, rounds: int, threads: int | None, batch_sizes: Sequence[int], warmup: int
) -> None:
    positive = [("limit", limit), ("rounds", rounds), ("threads", threads)]
    for name, value in (*positive, *(("batch_sizes", size) for size in batch_sizes)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    if warmup < 0:
        raise ConfigError(f"warmup: expected at least 0, got {warmup}")


def _open_data(data: str, split: str, limit: int | None, predictors: Mapping[str, Predictor]) -> CocoDataset:
    """The images of a split; every model must know their classes."""
    from protomask.evaluation.evaluate import check_classes, open_split

    dataset = open_split(data, split, limit=limit)
    for predictor in predictors.values():
        check_classes(predictor.class_names, dataset)
    return dataset


def _average_precision(predictor: Predictor, dataset: CocoDataset, step: Callable[[], None]) -> dict[str, float | None]:
    """box_AP, box_AP50, box_AP75, mask_AP, mask_AP50 and mask_AP75."""
    from protomask.evaluation.coco import CocoEvaluator
    from protomask.evaluation.evaluate import predict_dataset

    evaluator = CocoEvaluator(dataset.annotation_file, category_ids=dataset.category_ids)
    predict_dataset(predictor, dataset, evaluator, on_image=lambda *_: step())
    tables = evaluator.evaluate(seen_only=True).tables
    return {
        f"{kind}_{metric}": getattr(table, metric)
        for kind, table in tables.items()
        for metric in ("AP", "AP50", "AP75")
    }


def _mean_instances(turns: Sequence[Turn]) -> float:
    return sum(turn.instances for turn in turns) / len(turns)
