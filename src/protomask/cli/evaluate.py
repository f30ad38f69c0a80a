"""`protomask eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.evaluation.evaluator import CocoEvaluator
    from protomask.evaluation.match import IouType
    from protomask.evaluation.quality_report import Population, QualityReport
    from protomask.evaluation.tables import CocoMetrics

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
    tile: int | None = None,
    tile_overlap: float = 0.25,
    num_workers: int = 2,
    device: str = "auto",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    save_results: str | None = None,
    quality: bool = False,
    quality_min_score: float = 0.05,
    quality_plot: str | None = None,
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
        batch_size: images, or tiles, that go through the network together.
        tile: cut images into tiles with sides of so many pixels, as `protomask predict --tile`; not by default.
        tile_overlap: of neighbouring tiles at least, below 1 a part of the tile, from 1 on pixels.
        num_workers: processes that load images; 0 loads them in this one.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: of the network's arithmetic; bf16 is faster on processors that know it.
        save_results: write COCO results NAME_bbox.json and NAME_segm.json for this NAME.json.
        quality: also tell how well the scores know the IoU of the masks, and draw a reliability diagram.
        quality_min_score: detections count for --quality if their class score is above this.
        quality_plot: file of the reliability diagram, a PNG (this implies --quality); by default NAME_reliability.png
            beside the NAME.json of --save-results, or reliability.png in the current folder.
        json: print one JSON document instead of tables.
    """
    from pathlib import Path

    from protomask.cli.output import check_writable, dump_json, progress
    from protomask.data.coco.layout import open_dataset
    from protomask.errors import ConfigError
    from protomask.evaluation.evaluator import CocoEvaluator, evaluate_coco
    from protomask.evaluation.quality import QualityMeter
    from protomask.evaluation.results import renumber
    from protomask.evaluation.truth import GroundTruth
    from protomask.reports.reliability import save_reliability_diagram
    from protomask.structures.coco_json import CocoFile

    plot = _plot_path(quality_plot, save_results) if quality or quality_plot is not None else None
    if not 0 <= quality_min_score < 1:
        raise ConfigError(f"quality_min_score: expected a number from 0 to below 1, got {quality_min_score}")
    judging: dict[str, Any] = {"min_class_score": quality_min_score, "max_detections": max_detections}
    meter: QualityMeter | None = None
    paths = open_dataset(data)
    annotations = paths.val_annotations if split == "val" else paths.train_annotations
    if results is not None and (model or weights or save_results or tile):
        raise ConfigError("results: expected alone, without model, weights, tile or save_results")
    if plot is not None:
        check_writable(plot, "quality_plot")
    if save_results is not None:
        check_writable(Path(save_results), "save_results")
    if results is not None:
        limits = (*(limit for limit in (1, 10) if limit < max_detections), max_detections)
        file = CocoFile.read(annotations)
        rows, kinds = _read_results(results)
        truth = GroundTruth.load(file, masks="segm" in kinds)
        if isinstance(rows, list):
            rows = renumber(rows, results, truth)
        if plot is not None:
            meter = QualityMeter(truth, **judging)
            meter.update_rows(_scored_masks(results, rows, kinds))
        metrics = evaluate_coco(truth, rows, iou_types=kinds, max_detections=limits)
    else:
        from protomask.api import load
        from protomask.data.coco.dataset import CocoDataset
        from protomask.evaluation.evaluate import check_classes, predict_dataset
        from protomask.inference.tiling import Tiling

        tiling = None if tile is None else Tiling(size=tile, overlap=tile_overlap, batch_size=batch_size)
        predictor = load(weights or model, model=model if weights else None, device=device, precision=precision)
        dataset = CocoDataset.of_split(paths, split)
        check_classes(predictor.class_names, dataset)
        evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=max_detections)
        if plot is not None:
            meter = QualityMeter(evaluator.truth, category_ids=dataset.category_ids, **judging)

        with progress("evaluate", len(dataset), quiet=json) as bar:
            predict_dataset(
                predictor,
                dataset,
                evaluator,
                batch_size=batch_size,
                num_workers=num_workers,
                max_detections=max_detections,
                nms=nms,
                tiling=tiling,
                quality=meter,
                on_progress=bar.update,
            )
        metrics = evaluator.evaluate()
        if save_results is not None:
            _save(evaluator, save_results, quiet=json)
    report = None if meter is None else meter.compute()
    if report is not None and plot is not None:
        save_reliability_diagram(report, plot)
    if json:
        told = {} if report is None else {"quality": {**report.to_dict(), "plot": str(plot)}}
        dump_json({**metrics.to_dict(), **told})
        return 0
    _print(metrics)
    if report is not None:
        _print_quality(report, of_results=results is not None)
        print(f"reliability diagram: {plot}")
    return 0


def _plot_path(quality_plot: str | None, save_results: str | None) -> Path:
    from pathlib import Path

    from protomask.errors import ConfigError

    if quality_plot is not None:
        if Path(quality_plot).suffix.lower() != ".png":
            raise ConfigError(f"quality_plot: expected a file name ending in .png, got {quality_plot!r}")
        if Path(quality_plot).is_dir():
            raise ConfigError(f"quality_plot: expected a file, but {quality_plot} is a folder")
        return Path(quality_plot)
    if save_results is None:
        return Path("reliability.png")
    # Named as CocoEvaluator.save_results names its files.
    path = Path(save_results)
    stem = path.stem if path.suffix == ".json" else path.name
    return path.with_name(f"{stem}_reliability.png")


def _read_results(path: str) -> tuple[Any, tuple[IouType, ...]]:
    """Result rows of a file, or of the two files that ``save_results`` makes of this name; and what they tell of."""
    from pathlib import Path

    from protomask.evaluation.results import read_rows

    given = Path(path)
    pair: dict[IouType, Path] = {
        "bbox": given.with_name(f"{given.stem}_bbox.json"),
        "segm": given.with_name(f"{given.stem}_segm.json"),
    }
    if not given.exists() and all(file.is_file() for file in pair.values()):
        return pair, ("bbox", "segm")
    rows = read_rows(given)
    boxes, masks = (any(key in row for row in rows) for key in ("bbox", "segmentation"))
    if boxes == masks:
        return rows, ("bbox", "segm")
    return rows, ("bbox",) if boxes else ("segm",)


def _scored_masks(path: str, found: Any, kinds: tuple[IouType, ...]) -> list[dict[str, Any]]:
    """What ``_read_results`` gave, as rows that have both scores where they are known."""
    from protomask.errors import ConfigError, DataError
    from protomask.evaluation.results import read_rows

    if "segm" not in kinds:
        raise ConfigError(f"quality: expected results with masks, but {path} holds boxes alone")
    if not isinstance(found, dict):
        return list(found)
    # The two files list the same detections in one order, boxes with the class score and masks with the product.
    boxes, masks = (read_rows(found[kind]) for kind in ("bbox", "segm"))
    keys = ("image_id", "category_id")
    if [[row.get(key) for key in keys] for row in boxes] != [[row.get(key) for key in keys] for row in masks]:
        raise DataError(f"quality: {found['bbox']} and {found['segm']} do not list the same detections in one order")
    if all(box.get("score") == mask.get("score") for box, mask in zip(boxes, masks, strict=True)):
        return masks
    return [{**mask, "class_score": box.get("score")} for box, mask in zip(boxes, masks, strict=True)]


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


def _print_quality(report: QualityReport, *, of_results: bool) -> None:
    from protomask.cli.output import print_table

    counts = {name: population.count for name, population in report.populations.items()}
    titles: dict[Population, str] = {
        "all": f"score against mask IoU: all {counts['all']} detections, class score above {report.min_class_score:g}",
        "matched": f"score against mask IoU: the {counts['matched']} of them with an IoU of 0.5 or more",
    }
    for population, title in titles.items():
        rows = [[name, *values] for name, values in report.rows(population)]
        print_table(["measure", *report.score_names], rows, title=title)
    rankings = [name.replace("_", " ") for name in report.mask_ap]
    print_table(["", *rankings], [[name, *values] for name, values in report.ap_rows()], title="mask AP ranked by")
    for score, name in zip(report.mask_ap, rankings, strict=True):
        columns = [name, "detections", "mean score", "mean IoU"]
        print_table(columns, report.bin_rows("all", score), title=f"reliability of the {name}, all detections")
    if report.num_left_out:
        print(f"{report.num_left_out} detections in crowd regions are left out")
    if not report.has_mask_scores:
        print(
            "the results hold one score for each mask; it stands as the class score"
            if of_results
            else "the model has no mask scores: masks are ranked by the class score"
        )
