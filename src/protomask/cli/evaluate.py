"""`protomask eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.evaluation.coco import CocoEvaluator, CocoMetrics, IouType

EXAMPLE = "protomask eval --data shapes --weights runs/shapes/best.safetensors"


def run(
    *,
    data: str,
    split: Literal["val", "train"] = "val",
    model: str | None = None,
    weights: str | None = None,
    results: str | None = None,
    max_detections: int = 100,
    nms: Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"] | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    device: str = "auto",
    save_results: str | None = None,
    json: bool = False,
) -> int:
    """Measure COCO box and mask AP on an annotated data set.

    Args:
        data: data set, a folder with annotations/{train,val}.json and images/{train,val}/, or a YAML naming the four.
        split: part of the data set to measure on.
        model: zoo name or weights file; the model that ships with the package by default. With --weights, the zoo name
            of the network in that file.
        weights: weights file (.safetensors, or official .pth).
        results: COCO results JSON to measure instead of a model; also the NAME.json given to --save-results before.
        max_detections: detections per image that count; COCO's rule is 100, crowded images need more, for example 400.
        nms: kind of non-maximum suppression; the model's own by default.
        batch_size: images that go through the network together.
        num_workers: processes that load images; 0 loads them in this one.
        device: auto, cpu, cuda, cuda:N or mps.
        save_results: write COCO results NAME_bbox.json and NAME_segm.json for this NAME.json.
        json: print one JSON document instead of tables.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.data.coco import open_dataset
    from protomask.errors import ConfigError
    from protomask.evaluation.coco import CocoEvaluator, evaluate_coco

    paths = open_dataset(data)
    annotations = paths.val_annotations if split == "val" else paths.train_annotations
    images = paths.val_images if split == "val" else paths.train_images
    if results is not None:
        if model or weights or save_results:
            raise ConfigError("results: expected alone, without model, weights or save_results")
        limits = (*(limit for limit in (1, 10) if limit < max_detections), max_detections)
        rows, kinds = _read_results(results)
        metrics = evaluate_coco(annotations, rows, iou_types=kinds, max_detections=limits)
    else:
        from protomask.data.coco import CocoDataset
        from protomask.data.loader import validation_batches
        from protomask.engine.loop import evaluate
        from protomask.inference.predictor import load

        predictor = load(weights or model, model=model if weights else None, device=device)
        dataset = CocoDataset(annotations, images, class_names=predictor.class_names)
        evaluator = CocoEvaluator(annotations, category_ids=dataset.category_ids, max_detections=max_detections)
        batches = validation_batches(
            dataset, predictor.network.geometry, batch_size=batch_size, num_workers=num_workers
        )
        with progress("evaluate", len(dataset), quiet=json) as bar:
            metrics = evaluate(
                predictor.network,
                batches,
                evaluator,
                device=predictor.device,
                max_detections=max_detections,
                nms=nms,
                on_image=lambda *_: bar.advance(),
            )
        if save_results is not None:
            _save(evaluator, save_results, quiet=json)
    if json:
        dump_json(metrics.to_dict())
        return 0
    _print(metrics)
    return 0


def _read_results(path: str) -> tuple[Any, tuple[IouType, ...]]:
    """Result rows of a file, or of the two files that ``save_results`` makes of this name; and what they tell of."""
    import json
    from pathlib import Path

    from protomask.errors import DataError

    given = Path(path)
    pair: dict[IouType, Path] = {
        "bbox": given.with_name(f"{given.stem}_bbox.json"),
        "segm": given.with_name(f"{given.stem}_segm.json"),
    }
    if not given.exists() and all(file.is_file() for file in pair.values()):
        return pair, ("bbox", "segm")
    try:
        rows = json.loads(given.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected a list of COCO result objects, got {type(rows).__name__}")
    boxes, masks = (any(key in row for row in rows) for key in ("bbox", "segmentation"))
    if boxes == masks:
        return rows, ("bbox", "segm")
    return rows, ("bbox",) if boxes else ("segm",)


def _save(evaluator: CocoEvaluator, path: str, *, quiet: bool) -> None:
    for kind, written in evaluator.save_results(path).items():
        if not quiet:
            print(f"{kind} results: {written}")


def _print(metrics: CocoMetrics) -> None:
    from protomask.cli.output import print_table

    limit = metrics.max_detections[-1]
    title = f"{metrics.num_images} images, at most {limit} detections each"
    print_table(["metric", *metrics.tables], [[name, *values] for name, values in metrics.rows()], title=title)
    columns = ["class", "objects", *(f"{kind} {name}" for kind in metrics.tables for name in ("AP", "AP50"))]
    print_table(columns, [[name, count, *values] for name, count, values in metrics.class_rows()], title="per class")
