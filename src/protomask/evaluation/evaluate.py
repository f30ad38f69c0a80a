"""Evaluation of a predictor on a data set, whatever runs its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import SplitPaths, open_dataset
from protomask.data.shards.opening import dataset_of_split
from protomask.data.training.loader import image_batches
from protomask.detection.options import PredictOptions
from protomask.evaluation.classes import compare_classes
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.evaluation.errors.measure import measure_errors
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.results import SavedResults
from protomask.evaluation.tables import CocoMetrics
from protomask.evaluation.truth import GroundTruth, Row, TruthSource
from protomask.images.decode import Pixels

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

COCO_DETECTIONS = 100
"""Detections of an image that count, by COCO's rule."""
OnProgress = Callable[[int, int], None]
"""Called with the number of images done and the total number."""


class FindsInstances(Protocol):
    """Something that predicts images, such as `protomask.inference.predictor.Predictor`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        ...

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> Sequence[Instances]:
        """The instances of each image, best first, in its own frame.

        Args:
            images: (H, W, 3) uint8 RGB each, any sizes.
            options: options of the prediction.

        """
        ...


def evaluate(
    predictor: FindsInstances,
    dataset: CocoDataset,
    *,
    options: PredictOptions | None = None,
    num_workers: int = 0,
    evaluator: CocoEvaluator | None = None,
    quality: QualityMeter | None = None,
    errors_above: float | None = None,
    on_progress: OnProgress | None = None,
) -> CocoMetrics:
    """Measure the box and mask AP of a predictor on the images of a data set.

    Args:
        predictor: finds the instances of an image; classes that the data set lacks are ignored, with a warning.
        dataset: the images and their ground truth.
        options: prediction options. Detections are found whatever their score; ``max_detections`` also sets how many
            detections of an image count, by default COCO's 100.
        num_workers: processes that load images; 0 loads them in this one.
        evaluator: a new evaluator for these images with the same ``max_detections``, to use its results afterwards; by
            default an internal one.
        quality: a new meter for these images, which receives every detection too.
        errors_above: score above which detections count as errors, in [0, 1]; None looks for no errors.
        on_progress: called after each image.

    Raises:
        ConfigError: an option is out of range.
        DataError: the predictor lacks a class of the data set, or an image cannot be read.

    """
    check_classes(predictor.class_names, dataset)
    options = options or PredictOptions()
    limit = options.max_detections or COCO_DETECTIONS
    if evaluator is None:
        evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=limit)
    predict_dataset(
        predictor,
        dataset,
        evaluator,
        options=options.replace(max_detections=limit),
        num_workers=num_workers,
        quality=quality,
        on_progress=on_progress,
    )
    metrics = evaluator.evaluate(seen_only=True)
    if errors_above is None:
        return metrics
    errors = measure_errors(
        evaluator.truth,
        evaluator.results,
        max_detections=limit,
        score_threshold=errors_above,
        image_ids=evaluator.image_ids,
    )
    return replace(metrics, errors=errors)


def evaluate_results(
    ground_truth: TruthSource,
    results: SavedResults,
    *,
    max_detections: int = 100,
    quality: QualityMeter | None = None,
    errors_above: float | None = None,
) -> CocoMetrics:
    """Compute the COCO metrics of saved results.

    Args:
        ground_truth: as for `evaluate_coco`.
        results: the result rows; there is a table for each of their IoU types.
        max_detections: maximum number of detections per image and category that count.
        quality: receives the masks.
        errors_above: score above which detections count as errors, in [0, 1]; None looks for no errors.

    Raises:
        ConfigError: ``quality`` is asked for, but there are no masks.
        DataError: the ground truth cannot be read, or a row is wrong.

    """
    ground_truth = GroundTruth.load(ground_truth, masks="segm" in results.rows)
    results = results.numbered_as(ground_truth)
    if quality is not None:
        quality.update_rows(results.scored_masks())
    limits = (*(limit for limit in (1, 10) if limit < max_detections), max_detections)
    metrics = evaluate_coco(ground_truth, results.rows, iou_types=tuple(results.rows), max_detections=limits)
    if errors_above is None:
        return metrics
    errors = measure_errors(ground_truth, results.rows, max_detections=max_detections, score_threshold=errors_above)
    return replace(metrics, errors=errors)


def open_split(
    data: str, split: str = "val", *, classes: Sequence[str] | None = None, limit: int | None = None
) -> CocoDataset:
    """Open a split of a data set, or only some of its classes or its first images.

    Raises:
        DataError: the data set cannot be used.

    """
    dataset = dataset_of_split(open_dataset(data, (split,), classes=classes), split)
    if limit is not None:
        dataset.keep_first(limit)
    return dataset


def split_paths(data: str, split: str) -> SplitPaths:
    """The annotation file and the image folder of a split.

    Raises:
        DataError: the data set has no such split.

    """
    return open_dataset(data, (split,)).splits[split]


def check_classes(known: Sequence[str], dataset: CocoDataset) -> None:
    """Compare the classes of a model with those of a data set, and warn about those that only the model has.

    Raises:
        DataError: the model lacks a class of the data set.

    """
    compare_classes(known, dataset.class_names, dataset.annotation_file, stacklevel=3)


def predict_dataset(
    predictor: FindsInstances,
    dataset: CocoDataset,
    evaluator: CocoEvaluator,
    *,
    options: PredictOptions | None = None,
    num_workers: int = 0,
    quality: QualityMeter | None = None,
    on_image: Callable[[int, Instances], None] | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Predict every image of a data set and pass the instances to an evaluator.

    Args:
        predictor: has every class of the data set (`check_classes`); instances of other classes are ignored.
        dataset: the images.
        evaluator: a new evaluator for the same images.
        options: of the prediction; its score threshold counts as 0.
        num_workers: processes that load images; 0 loads them in this one.
        quality: receives the same instances.
        on_image: called after each image with its id and its instances.
        on_progress: called after each image.

    Raises:
        ConfigError: an option is out of range.
        DataError: an image cannot be read.

    """
    options = (options or PredictOptions()).replace(score_threshold=0.0, threshold_for=None)
    done = 0
    for images, image_ids in image_batches(dataset, batch_size=options.batch_size, num_workers=num_workers):
        found = predictor.predict_images(images, options)
        for image_id, instances in zip(image_ids, found, strict=True):
            if dataset.class_names != instances.class_names:
                instances = instances.of_classes(dataset.class_names)
            evaluator.update(image_id, instances)
            if quality is not None:
                quality.update(image_id, instances, rles=encoded_masks(evaluator, instances))
            if on_image is not None:
                on_image(image_id, instances)
            done += 1
            if on_progress is not None:
                on_progress(done, len(dataset))


def encoded_masks(evaluator: CocoEvaluator, instances: Instances) -> list[Row]:
    """Run-length codes of the masks of the last image given to the evaluator, which need not be encoded again."""
    rows = evaluator.results["segm"][-len(instances) :] if len(instances) else []
    return [row["segmentation"] for row in rows]


def average_precisions(
    predictors: Mapping[str, FindsInstances],
    dataset: CocoDataset,
    *,
    options: Mapping[str, PredictOptions] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, dict[str, float | None]]:
    """Measure several predictors on the same images, each with its own limit of detections.

    Args:
        predictors: by name; each has every class of the data set (`check_classes`).
        dataset: the images and their ground truth.
        options: of each predictor's predictions, by name; its own where they are not given.
        on_progress: called after each image of each predictor, with the total of all predictors.

    Returns:
        box_AP, box_AP50, box_AP75, mask_AP, mask_AP50 and mask_AP75 in [0, 1] of each predictor, by name.

    """
    found: dict[str, dict[str, float | None]] = {}
    truth = GroundTruth.load(dataset, masks=True)
    for name, predictor in predictors.items():
        before, total = len(found) * len(dataset), len(predictors) * len(dataset)
        evaluator = CocoEvaluator(truth, category_ids=dataset.category_ids)
        advance = None if on_progress is None else _from(before, total, on_progress)
        chosen = None if options is None else options[name]
        predict_dataset(predictor, dataset, evaluator, options=chosen, on_progress=advance)
        tables = evaluator.evaluate(seen_only=True).tables
        found[name] = {
            f"{kind}_{metric}": getattr(table, metric)
            for kind, table in tables.items()
            for metric in ("AP", "AP50", "AP75")
        }
    return found


def _from(before: int, total: int, on_progress: OnProgress) -> OnProgress:
    """A callback for one part of the work that reports the progress of the whole."""
    return lambda done, _: on_progress(before + done, total)
