"""The page about a training run: predict its validation images with its best weights, and write what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from protomask.cli.output import Bar
    from protomask.data.coco.dataset import CocoDataset
    from protomask.engine.config import TrainConfig
    from protomask.evaluation.confusion import Confusion, ImageScore
    from protomask.evaluation.evaluator import CocoEvaluator
    from protomask.evaluation.quality import QualityMeter
    from protomask.inference.base import ImagePredictor
    from protomask.reports.page import Example
    from protomask.structures.instances import Instances

_EXAMPLES, _EXAMPLE_SIDE = 6, 560


def write_report(
    run_folder: Path,
    *,
    data: str | None = None,
    output: Path | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    device: str = "auto",
    quiet: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Predict the validation images of a run with its best weights, and write the page about it.

    Returns:
        The page, and its numbers as plain JSON types.

    Raises:
        ConfigError: the folder holds no run with weights.
        ProtomaskError: data or weights cannot be read, or the page cannot be written.

    """
    import warnings
    from dataclasses import replace

    from protomask.api import load
    from protomask.cli.average_precision import check_classes
    from protomask.cli.output import check_writable, progress
    from protomask.data.coco.schema import DataWarning
    from protomask.engine.config import TrainConfig
    from protomask.engine.folder import RunFolder
    from protomask.engine.log import read_metrics
    from protomask.errors import ConfigError
    from protomask.evaluation.confusion import measure_confusion
    from protomask.files import replacing
    from protomask.reports.page import DIAGRAM, ReportContent, render_page
    from protomask.reports.reliability import save_reliability_diagram

    folder = RunFolder(run_folder)
    weights = folder.best_weights if folder.best_weights.is_file() else folder.last_weights
    if not folder.settings_file.is_file() or not weights.is_file():
        raise ConfigError(f"run_folder: expected the folder of a training run with weights, got {run_folder}")
    config = TrainConfig.load(folder.settings_file)
    if data is not None:
        config = replace(config, data=data)
    page = (output or run_folder / "report") / "index.html"
    check_writable(page, "output")
    predictor = load(str(weights), device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the run has told them
        dataset = _validation_images(config)
    check_classes(predictor.class_names, dataset)
    options = {"batch_size": batch_size, "num_workers": num_workers, "max_detections": config.max_detections}
    with progress("report", len(dataset), quiet=quiet) as bar:
        evaluator, meter = _predict(predictor, dataset, bar, **options)
    metrics = evaluator.evaluate(seen_only=True)
    quality = meter.compute(seen_only=True)
    confusion = measure_confusion(evaluator.truth, evaluator.results["segm"], dataset.image_ids)
    save_reliability_diagram(quality, page.with_name(DIAGRAM))
    worst, best = _choose(confusion)
    rows = _rows_to_draw([*worst, *best], evaluator, confusion.score_threshold)
    content = ReportContent(
        title=run_folder.resolve().name,
        facts=_facts(config, weights, predictor.class_names),
        settings=folder.settings_file.read_text(encoding="utf-8"),
        records=read_metrics(folder.path),
        metrics=metrics,
        confusion=confusion,
        quality=quality,
        best=_draw_examples("best", best, dataset, rows, page.parent),
        worst=_draw_examples("worst", worst, dataset, rows, page.parent),
    )
    with replacing(page) as file:
        file.write(render_page(content).encode())
    return page, {**metrics.to_dict(), "confusion": confusion.to_dict(), "quality": quality.to_dict()}


def _predict(
    predictor: ImagePredictor, dataset: CocoDataset, bar: Bar, *, max_detections: int, **options: Any
) -> tuple[CocoEvaluator, QualityMeter]:
    """Everything that is found in the images, as run-length codes."""
    from protomask.evaluation.evaluate import encoded_masks, predict_dataset
    from protomask.evaluation.evaluator import CocoEvaluator
    from protomask.evaluation.quality import QualityMeter

    limits: dict[str, Any] = {"category_ids": dataset.category_ids, "max_detections": max_detections}
    evaluator = CocoEvaluator(dataset, **limits)
    meter = QualityMeter(evaluator.truth, **limits)

    def on_image(image_id: int, instances: Instances) -> None:
        meter.update(image_id, instances, rles=encoded_masks(evaluator, instances))
        bar.advance()

    predict_dataset(predictor, dataset, evaluator, max_detections=max_detections, on_image=on_image, **options)
    return evaluator, meter


def _validation_images(config: TrainConfig) -> CocoDataset:
    """The images that the run validated on."""
    from protomask.data.coco.dataset import CocoDataset
    from protomask.data.coco.layout import open_dataset

    paths = open_dataset(config.data)
    if config.overfit is None:
        return CocoDataset.of_split(paths, "val")
    dataset = CocoDataset.of_split(paths, "train")
    dataset.keep_first(config.overfit)
    return dataset


def _facts(config: TrainConfig, weights: Path, class_names: Sequence[str]) -> list[tuple[str, str]]:
    from protomask.bench.machine import describe_machine
    from protomask.checkpoints.io import read_header

    header, machine = read_header(weights), describe_machine()
    made, size = header["provenance"], header["preprocessing"]["image_size"]
    return [
        ("model", str(header["config"].get("name", header["family"]))),
        ("input", f"{' x '.join(map(str, size)) if isinstance(size, list) else size} px"),
        ("classes", f"{len(class_names)}: {', '.join(class_names)}"),
        ("weights", f"{weights.name}, after {made.get('iteration', 'an unknown number of')} iterations"),
        ("started from", config.weights or config.backbone_weights or "the settings below"),
        (
            "data",
            config.data if config.overfit is None else f"{config.data}, the first {config.overfit} training images",
        ),
        ("page made", f"{machine['date']} with protomask {machine['protomask']}, torch {machine['torch']}"),
        ("on", f"{machine['cpu']}, {machine['cores']} cores" + (f", {machine['gpu']}" if "gpu" in machine else "")),
    ]


def _choose(confusion: Confusion) -> tuple[list[ImageScore], list[ImageScore]]:
    """The worst images, the lowest quality first, and the best, the highest first."""
    judged = [image for image in confusion.images if image.quality is not None]
    judged.sort(key=lambda image: (image.quality, -image.objects))
    count = min(_EXAMPLES, (len(judged) + 1) // 2)
    return judged[:count], judged[::-1][:count]


def _rows_to_draw(
    scores: Sequence[ImageScore], evaluator: CocoEvaluator, score_threshold: float
) -> dict[int, list[dict[str, Any]]]:
    """COCO results above the threshold, by image id."""
    rows: dict[int, list[dict[str, Any]]] = {score.image_id: [] for score in scores}
    for row in evaluator.results["segm"]:
        if row["image_id"] in rows and row["score"] > score_threshold:
            rows[row["image_id"]].append(row)
    return rows


def _draw_examples(
    kind: str,
    scores: Sequence[ImageScore],
    dataset: CocoDataset,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    folder: Path,
) -> list[Example]:
    """Two pictures of each image, one at a time."""
    from protomask.files import replacing
    from protomask.reports.overlays import draw_found, draw_truth, load_picture
    from protomask.reports.page import Example

    examples = []
    for number, score in enumerate(scores, start=1):
        index = dataset.image_ids.index(score.image_id)
        picture = load_picture(dataset, index, _EXAMPLE_SIDE)
        drawn = {
            "truth": draw_truth(dataset, index, picture)[0],
            "found": draw_found(dataset, picture, rows[score.image_id]),
        }
        files = {name: f"{kind}_{number}_{name}.jpg" for name in drawn}
        for name, image in drawn.items():
            with replacing(folder / files[name]) as file:
                image.save(file, format="JPEG", quality=88)
        name = dataset.image_path(index).name
        examples.append(Example(name=name, score=score, size=picture.size, **files))
    return examples
