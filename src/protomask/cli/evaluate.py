"""`protomask eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from protomask.detection.options import PredictOptions
    from protomask.evaluation.coco import CocoEvaluator
    from protomask.evaluation.quality_report import Population, QualityReport
    from protomask.evaluation.tables import CocoMetrics
    from protomask.inference.predictor import Predictor

EXAMPLE = "protomask eval --data shapes --model runs/shapes"


def run(
    *,
    data: str,
    split: str = "val",
    model: str | None = None,
    weights: str | None = None,
    results: str | None = None,
    classes: list[str] | None = None,
    max_detections: int = 100,
    nms: Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"] | None = None,
    overlap: Literal["box_iou", "mask_iou", "mask_smaller"] | None = None,
    iou_threshold: float | None = None,
    crop: Literal["box", "component", "none"] | None = None,
    crop_margin: float | None = None,
    edges: Literal["grid", "pixels"] | None = None,
    duplicates: Literal["drop", "average"] | None = None,
    exclusive: Literal["score", "depth"] | None = None,
    batch_size: int = 1,
    tile: int | None = None,
    tile_overlap: float = 0.25,
    image_size: int | None = None,
    num_workers: int = 2,
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    device: str = "auto",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    save_results: str | None = None,
    quality: bool = False,
    quality_min_score: float = 0.05,
    quality_plot: str | None = None,
    errors: bool = False,
    errors_min_score: float = 0.3,
    errors_page: str | None = None,
    tracker: Literal["mask", "bytetrack", "ocsort", "botsort"] = "mask",
    json: bool = False,
) -> int:
    """Measure COCO box and mask AP on an annotated data set, or HOTA, IDF1 and sMOTSA on annotated videos.

    Args:
        data: data set, a folder with annotations/SPLIT.json and images/SPLIT/, or a YAML naming these paths.
            For videos a YouTube-VIS JSON, or a folder in which annotations/SPLIT.json is one.
        split: part of the data set to measure on: val, test, or any other it has.
        model: zoo name, weights file, run folder, exported file or hf:// address; the model that ships with the package
            by default. With --weights, the zoo name of the network in that file.
        weights: file from another codebase that does not say which network it holds; --model then names it.
        results: COCO results JSON to measure instead of a model; also the NAME.json given to --save-results before.
            For videos YouTube-VIS results JSON, or a folder of MOTS text.
        classes: measure only these classes, such as [person,car], as if the data had no others; all by default.
        max_detections: maximum number of detections that count per image; COCO's rule is 100, crowded images need more,
            for example 400.
        nms: kind of non-maximum suppression; the model's own by default.
        overlap: what NMS compares, as for predict; the model's own by default.
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        crop: how masks are cut out, as for predict; the model's own by default.
        crop_margin: how much wider than the box they are cut, as for predict; the model's own by default.
        edges: how outlines are made, as for predict; the model's own by default.
        duplicates: what becomes of what NMS suppresses, as for predict; the model's own by default.
        exclusive: give every pixel to one instance, as for predict; not by default.
        batch_size: images, or tiles, that go through the network together.
        tile: cut images into tiles with sides of this many pixels, as predict does; not by default.
        tile_overlap: smallest overlap of neighbouring tiles: below 1 a share of the tile, otherwise pixels.
        image_size: side of the network's input in pixels, as for predict; the model's own by default.
        num_workers: processes that load images; 0 loads them in this one.
        runtime: what runs the network, as for predict.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic; bf16 is faster on processors that support it.
        save_results: write COCO results NAME_bbox.json and NAME_segm.json for this NAME.json; for
            videos YouTube-VIS results of this name.
        quality: also report how well the scores predict the IoU of the masks, and draw a reliability diagram.
        quality_min_score: detections count for --quality if their class score is above this.
        quality_plot: file of the reliability diagram, an SVG (this implies --quality); by default NAME_reliability.svg
            beside the NAME.json of --save-results, or reliability.svg in the current folder.
        errors: also report what goes wrong and what each type of error costs: TIDE's six types, faults of masks,
            boundary AP, by size, crowding and class.
        errors_min_score: detections are counted as errors if they score above this.
        errors_page: folder of a page about the errors, index.html with the worst images; its numbers go to errors.json
            (this implies --errors).
        tracker: what follows the instances of videos; mask compares masks, the others compare boxes.
        json: print one JSON document instead of tables.
    """
    from protomask.api import load
    from protomask.cli.evaluate_videos import run_videos
    from protomask.cli.output import dump_json
    from protomask.data.video import find_video_annotations
    from protomask.detection.options import PredictOptions
    from protomask.errors import ConfigError

    _check_names(data, split, results, weights or model, alone=not (save_results or tile or classes))
    from protomask.evaluation.results import diagram_path

    asked = _Asked(
        plot=diagram_path(quality_plot, save_results) if quality or quality_plot is not None else None,
        quality_min_score=quality_min_score,
        errors=errors or errors_page is not None,
        errors_min_score=errors_min_score,
        page=None if errors_page is None else Path(errors_page) / "index.html",
        save_results=save_results,
        num_workers=num_workers,
        quiet=json,
    )
    asked.check()
    options = PredictOptions(
        max_detections=max_detections, nms=nms, overlap=overlap, iou_threshold=iou_threshold, crop=crop,
        crop_margin=crop_margin, edges=edges, duplicates=duplicates, exclusive=exclusive, batch_size=batch_size,
        tile=tile, tile_overlap=tile_overlap, image_size=image_size,
        classes=None if classes is None else tuple(classes),
    )  # fmt: skip

    def predictor() -> Predictor:
        return load(
            weights or model, runtime=runtime, model=model if weights else None, device=device, precision=precision
        )

    if (videos := find_video_annotations(data, split)) is not None:
        for name, wanted in (("quality", asked.plot is not None), ("errors", asked.errors)):
            if wanted:
                raise ConfigError(f"{name}: expected a data set of images, got videos")
        return run_videos(
            videos, results=results, predictor=predictor, options=options, tracker=tracker, save_results=save_results,
            json=json,
        )  # fmt: skip
    metrics, report = _measure_images(
        None if results is not None else predictor(), data, split, options, asked, results=results
    )
    if json:
        told = {} if report is None else {"quality": {**report.to_dict(), "plot": str(asked.plot)}}
        dump_json({**metrics.to_dict(), **told})
    else:
        _print(metrics, report, asked, of_results=results is not None)
    return 0


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a data set of images is measured for beside AP, and what is written."""

    plot: Path | None
    quality_min_score: float
    errors: bool
    errors_min_score: float
    page: Path | None
    save_results: str | None
    num_workers: int
    quiet: bool

    def check(self) -> None:
        """Raise what is wrong with it before anything is measured."""
        from protomask.errors import ConfigError
        from protomask.files import check_writable

        for name in ("quality_min_score", "errors_min_score"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected a number from 0 to below 1, got {getattr(self, name)}")
        files = {"quality_plot": self.plot, "errors_page": self.page, "save_results": self.save_results}
        for setting, file in files.items():
            if file is not None:
                check_writable(Path(file), setting)

    @property
    def errors_above(self) -> float | None:
        """Score above which detections count as errors; None where errors are not asked for."""
        return self.errors_min_score if self.errors else None


def _measure_images(
    predictor: Predictor | None,
    data: str,
    split: str,
    options: PredictOptions,
    asked: _Asked,
    *,
    results: str | None,
) -> tuple[CocoMetrics, QualityReport | None]:
    """Measure a model, or saved results where there is none; a report on the scores where there is a plot to draw."""
    from protomask.cli.output import progress
    from protomask.evaluation.coco import CocoEvaluator
    from protomask.evaluation.evaluate import COCO_DETECTIONS, evaluate, evaluate_results, open_split, split_paths
    from protomask.evaluation.quality import QualityMeter
    from protomask.evaluation.results import SavedResults

    limit, meter = options.max_detections or COCO_DETECTIONS, None
    judging: dict[str, Any] = {"min_class_score": asked.quality_min_score, "max_detections": limit}
    if predictor is None:
        assert results is not None
        annotations, _ = split_paths(data, split)
        if asked.plot is not None:
            meter = QualityMeter(annotations, **judging)
        truth = annotations if meter is None else meter.truth
        found = SavedResults.read(results)
        metrics = evaluate_results(truth, found, max_detections=limit, quality=meter, errors_above=asked.errors_above)
    else:
        dataset = open_split(data, split, classes=options.classes)
        ids = dataset.category_ids
        evaluator = CocoEvaluator(dataset, category_ids=ids, max_detections=limit)
        if asked.plot is not None:
            meter = QualityMeter(evaluator.truth, category_ids=ids, **judging)
        with progress("evaluate", len(dataset), quiet=asked.quiet) as bar:
            metrics = evaluate(
                predictor, dataset, options=options, evaluator=evaluator, quality=meter, num_workers=asked.num_workers,
                errors_above=asked.errors_above, on_progress=bar.update,
            )  # fmt: skip
        if asked.save_results is not None:
            _save(evaluator, asked.save_results, quiet=asked.quiet)
    report = None if meter is None else meter.compute()
    _draw(metrics, report, asked, data, split, classes=options.classes)
    return metrics, report


def _draw(
    metrics: CocoMetrics,
    report: QualityReport | None,
    asked: _Asked,
    data: str,
    split: str,
    *,
    classes: tuple[str, ...] | None,
) -> None:
    """Write the diagram and the page that were asked for."""
    from protomask.evaluation.evaluate import open_split
    from protomask.reports.errors_page import write_errors_page
    from protomask.reports.reliability import save_reliability_diagram

    if report is not None and asked.plot is not None:
        save_reliability_diagram(report, asked.plot)
    if metrics.errors is not None and asked.page is not None:
        write_errors_page(metrics.errors, open_split(data, split, classes=classes), asked.page)


def _check_names(data: str, split: str, results: str | None, model: str | None, *, alone: bool) -> None:
    """Names and paths first: nothing heavy is imported for a wrong one."""
    from protomask.data.coco.layout import open_dataset
    from protomask.data.video import find_video_annotations
    from protomask.errors import ConfigError
    from protomask.extras import require_torch
    from protomask.files import check_exists
    from protomask.models.naming import find_model

    if results is not None and (model is not None or not alone):
        raise ConfigError("results: expected alone, without model, weights, classes, tile or save_results")
    require_torch("protomask eval")
    if find_video_annotations(data, split) is None:
        open_dataset(data, (split,))
    if results is not None and not any(file.is_file() for file in _named_after(results)):
        check_exists(results)
    if model is not None:
        find_model(model)


def _named_after(results: str) -> list[Path]:
    """The files that --save-results writes for this name."""
    path = Path(results)
    return [path.with_name(f"{path.stem}_{kind}.json") for kind in ("bbox", "segm")]


def _save(evaluator: CocoEvaluator, path: str, *, quiet: bool) -> None:
    for kind, written in evaluator.save_results(path).items():
        if not quiet:
            print(f"{kind} results: {written}")


def _print(metrics: CocoMetrics, report: QualityReport | None, asked: _Asked, *, of_results: bool) -> None:
    from protomask.cli.evaluate_errors import print_errors
    from protomask.cli.output import print_table

    limit = metrics.max_detections[-1]
    title = f"{metrics.num_images} images, at most {limit} detections each"
    print_table(["metric", *metrics.tables], [[name, *values] for name, values in metrics.rows()], title=title)
    columns = ["class", "objects", *(f"{kind} {name}" for kind in metrics.tables for name in ("AP", "AP50"))]
    print_table(columns, [[name, count, *values] for name, count, values in metrics.class_rows()], title="per class")
    _print_quality(report, asked.plot, of_results=of_results)
    if metrics.errors is not None:
        print_errors(metrics.errors)
    if asked.page is not None:
        print(f"errors: {asked.page}")


def _print_quality(report: QualityReport | None, plot: Path | None, *, of_results: bool) -> None:
    from protomask.cli.output import print_table

    if report is None:
        return
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
    print(f"reliability diagram: {plot}")
