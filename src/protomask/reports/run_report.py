"""The page about a training run: predict its validation images with its best weights, measure and draw the results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protomask.api import load
from protomask.bench.machine import describe_machine
from protomask.checkpoints.io import read_header
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.coco.schema import DataWarning
from protomask.detection.options import PredictOptions
from protomask.engine.config import TrainConfig
from protomask.engine.folder import RunFolder
from protomask.engine.records import read_metrics
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.confusion import Confusion, measure_confusion
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.errors.report import ErrorReport
from protomask.evaluation.evaluate import check_classes, open_split, predict_dataset
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.quality_report import QualityReport
from protomask.evaluation.tables import CocoMetrics
from protomask.files import check_writable, replacing
from protomask.inference.predictor import Predictor
from protomask.reports.compared_run import NUMBERS
from protomask.reports.examples import choose_examples, draw_examples, rows_of_images
from protomask.reports.page import ReportContent, render_page


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What `write_report` wrote and measured.

    Attributes:
        page: the HTML file.
        iteration: steps after which the weights were saved; None if they do not say.
        metrics: AP of boxes and masks.
        confusion: which objects were found as what.
        quality: how well scores predict the IoU of masks.
        errors: what goes wrong, and what it costs.

    """

    page: Path
    iteration: int | None
    metrics: CocoMetrics
    confusion: Confusion
    quality: QualityReport
    errors: ErrorReport

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "report": str(self.page),
            "iteration": self.iteration,
            **self.metrics.to_dict(),
            "confusion": self.confusion.to_dict(),
            "quality": self.quality.to_dict(),
            "errors": self.errors.to_dict(),
        }


def write_report(
    run_folder: str | Path,
    *,
    data: str | None = None,
    split: str | None = None,
    output: str | Path | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    device: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> RunReport:
    """Predict the validation images of a run with its best weights, or another split, and write the page about it.

    The numbers of the page go to metrics.json beside it, where `protomask.reports.compare` finds them.

    Args:
        run_folder: folder of a training run.
        data: the data set, if it has moved since; by default that of the run.
        split: part of the data set whose images are predicted; the validation images of the run by default.
        output: folder of the page, index.html and its images; by default report/ in the run folder.
        batch_size: images that go through the network together.
        num_workers: processes that load images; 0 loads them in this one.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        on_progress: called with the number of images done and of all images.

    Raises:
        ConfigError: the folder holds no run with weights.
        ProtomaskError: data or weights cannot be read, or the page cannot be written.

    """
    folder = RunFolder.of_run(run_folder)
    weights = folder.weights
    config = TrainConfig.load(folder.settings_file)
    if data is not None:
        config = replace(config, data=data)
    page = (folder.path / "report" if output is None else Path(output)) / "index.html"
    check_writable(page, "output")
    predictor = load(str(weights), device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the run has shown them
        dataset = _images(config, split)
    check_classes(predictor.class_names, dataset)
    evaluator, meter = _predict(
        predictor,
        dataset,
        on_progress,
        batch_size=batch_size,
        num_workers=num_workers,
        max_detections=config.max_detections,
    )
    metrics = evaluator.evaluate(seen_only=True)
    quality = meter.compute(seen_only=True)
    confusion = measure_confusion(evaluator.truth, evaluator.results["segm"], dataset.image_ids)
    errors = measure_errors(
        evaluator.truth, evaluator.results, max_detections=config.max_detections, image_ids=dataset.image_ids
    )
    worst, best = choose_examples(confusion)
    found = rows_of_images([*worst, *best], evaluator.results["segm"], confusion.score_threshold)
    content = ReportContent(
        title=folder.path.resolve().name,
        facts=_facts(config, split, weights, predictor.class_names),
        settings=folder.settings_file.read_text(encoding="utf-8"),
        records=read_metrics(folder.path),
        metrics=metrics,
        confusion=confusion,
        quality=quality,
        errors=errors,
        best=draw_examples("best", best, dataset, found, page.parent),
        worst=draw_examples("worst", worst, dataset, found, page.parent),
    )
    with replacing(page) as file:
        file.write(render_page(content).encode("utf-8", "replace"))
    iteration = read_header(weights)["provenance"].get("iteration")
    report = RunReport(
        page=page, iteration=iteration, metrics=metrics, confusion=confusion, quality=quality, errors=errors
    )
    with replacing(page.with_name(NUMBERS)) as file:
        file.write(json.dumps(report.to_dict(), indent=2).encode())
    return report


def _predict(
    predictor: Predictor,
    dataset: CocoDataset,
    on_progress: Callable[[int, int], None],
    *,
    batch_size: int,
    num_workers: int,
    max_detections: int,
) -> tuple[CocoEvaluator, QualityMeter]:
    """Everything found in the images, as run-length codes."""
    limits: dict[str, Any] = {"category_ids": dataset.category_ids, "max_detections": max_detections}
    evaluator = CocoEvaluator(dataset, **limits)
    meter = QualityMeter(evaluator.truth, **limits)
    predict_dataset(
        predictor,
        dataset,
        evaluator,
        options=PredictOptions(batch_size=batch_size, max_detections=max_detections),
        num_workers=num_workers,
        quality=meter,
        on_progress=on_progress,
    )
    return evaluator, meter


def _images(config: TrainConfig, split: str | None) -> CocoDataset:
    """The images of a split, by default those that the run validated on."""
    if split is not None:
        return open_split(config.data, split, classes=config.classes)
    paths = open_dataset(config.data, classes=config.classes)
    if config.overfit is None:
        return CocoDataset.of_split(paths, "val")
    dataset = CocoDataset.of_split(paths, "train")
    dataset.keep_first(config.overfit)
    return dataset


def _facts(config: TrainConfig, split: str | None, weights: Path, class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Where the numbers come from: (name, value)."""
    header, machine = read_header(weights), describe_machine()
    made, size = header["provenance"], header["preprocessing"]["image_size"]
    return [
        ("model", str(header["config"].get("name", header["family"]))),
        ("input", f"{' x '.join(map(str, size)) if isinstance(size, list) else size} px"),
        ("classes", f"{len(class_names)}: {', '.join(class_names)}"),
        ("weights", f"{weights.name}, after {made.get('iteration', 'an unknown number of')} iterations"),
        ("started from", config.weights or config.backbone_weights or "the settings below"),
        ("data", f"{config.data}{_part(config, split)}"),
        ("page made", f"{machine['date']} with protomask {machine['protomask']}, torch {machine['torch']}"),
        ("on", f"{machine['cpu']}, {machine['cores']} cores" + (f", {machine['gpu']}" if "gpu" in machine else "")),
    ]


def _part(config: TrainConfig, split: str | None) -> str:
    """Which of the images of a data set a page is about, where they are not the validation images."""
    if split is not None:
        return f", split {split}"
    return "" if config.overfit is None else f", the first {config.overfit} training images"
