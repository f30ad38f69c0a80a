"""`protomask eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from protomask.evaluation.coco import CocoEvaluator, CocoMetrics

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
        split: which part of it.
        model: zoo name or weights file; the model that ships with the package by default. With --weights, the zoo name
            of the network in that file.
        weights: weights file (.safetensors, or official .pth).
        results: COCO results JSON to measure instead of a model.
        max_detections: detections per image that count; COCO's rule is 100, crowded images need more, for example 400.
        nms: kind of non-maximum suppression; the model's own by default.
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        device: auto, cpu, cuda, cuda:N or mps.
        save_results: write COCO results NAME_bbox.json and NAME_segm.json for this NAME.json.
        json: print one JSON document instead of tables.
    """
    from protomask.cli.output import dump_json
    from protomask.data.coco import open_dataset
    from protomask.errors import ConfigError
    from protomask.evaluation.coco import CocoEvaluator, evaluate_coco

    paths = open_dataset(data)
    annotations = paths.val_annotations if split == "val" else paths.train_annotations
    images = paths.val_images if split == "val" else paths.train_images
    if results is not None:
        if model or weights or save_results:
            raise ConfigError("results: expected alone, without model, weights or save_results")
        limits = tuple(sorted({1, 10, max_detections})) if max_detections > 10 else (max_detections,)
        metrics = evaluate_coco(annotations, results, max_detections=limits)
    else:
        from protomask.data.coco import CocoDataset
        from protomask.engine.batches import validation_batches
        from protomask.engine.loop import evaluate
        from protomask.inference.predictor import load

        predictor = load(weights or model, model=model if weights else None, device=device)
        dataset = CocoDataset(annotations, images, class_names=predictor.class_names)
        evaluator = CocoEvaluator(annotations, category_ids=dataset.category_ids, max_detections=max_detections)
        metrics = evaluate(
            predictor.network,
            validation_batches(dataset, predictor.network.geometry, batch_size=batch_size, num_workers=num_workers),
            evaluator,
            device=predictor.device,
            max_detections=max_detections,
            nms=nms,
        )
        if save_results is not None:
            _save(evaluator, save_results, quiet=json)
    if json:
        dump_json(metrics.to_dict())
        return 0
    _print(metrics)
    return 0


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
