"""What `protomask eval` and `protomask bench` share: the AP of a predictor, whatever runs its network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from protomask.cli.output import progress
from protomask.data.coco import CocoDataset, open_dataset
from protomask.data.loader import image_batches
from protomask.errors import DataError
from protomask.evaluation.evaluator import CocoEvaluator

if TYPE_CHECKING:
    from protomask.inference.base import ImagePredictor
    from protomask.structures.instances import Instances


def open_val_split(data: str, limit: int | None = None) -> CocoDataset:
    """The validation images of a data set, or the first of them."""
    paths = open_dataset(data)
    dataset = CocoDataset(paths.val_annotations, paths.val_images)
    if limit is not None:
        dataset.keep_first(limit)
    return dataset


def check_classes(known: Sequence[str], dataset: CocoDataset) -> None:
    """Tell on the error stream which classes of a model are not in the data: nothing can be measured of them.

    Raises:
        DataError: the model lacks a class of the data.

    """
    unknown = [name for name in dataset.class_names if name not in known]
    if unknown:
        raise DataError(
            f"{dataset.annotation_file}: the categories do not match the class names\n"
            f"  unknown to the model: {', '.join(unknown)}\n  class names of the model: {', '.join(known)}"
        )
    others = [name for name in known if name not in dataset.class_names]
    if others:
        print(f"not in the data, left out: {', '.join(others)}", file=sys.stderr)


def predict_dataset(
    predictor: ImagePredictor,
    dataset: CocoDataset,
    evaluator: CocoEvaluator,
    *,
    batch_size: int,
    num_workers: int = 0,
    on_image: Callable[[int, Instances], None] = lambda *_: None,
    **options: Any,
) -> None:
    """Give the evaluator all that a predictor finds in every image, by the same path as `ImagePredictor.predict`.

    Args:
        predictor: knows the classes of the data (`check_classes`); what it finds of others is left out.
        dataset: the images.
        evaluator: fresh one for the same images.
        batch_size: images that go through the network together.
        num_workers: processes that load images; 0 loads them in this one.
        on_image: called with the id and the instances of every image as it is done.
        options: as in `ImagePredictor.predict`, without a score threshold.

    Raises:
        ConfigError: an option is out of range.
        DataError: an image cannot be read.

    """
    for images, image_ids in image_batches(dataset, batch_size=batch_size, num_workers=num_workers):
        found = predictor.predict_images(images, score_threshold=0.0, **options)
        for image_id, instances in zip(image_ids, found, strict=True):
            if dataset.class_names != instances.class_names:
                instances = instances.of_classes(dataset.class_names)
            evaluator.update(image_id, instances)
            on_image(image_id, instances)


def encoded_masks(evaluator: CocoEvaluator, instances: Instances) -> list[dict[str, Any]]:
    """Run-length codes of the masks of the image that the evaluator was given last, for encoding them takes time."""
    rows = evaluator.results["segm"][-len(instances) :] if len(instances) else []
    return [row["segmentation"] for row in rows]


def average_precisions(
    predictors: Mapping[str, ImagePredictor], dataset: CocoDataset, *, quiet: bool
) -> dict[str, dict[str, float | None]]:
    """For each predictor its box_AP, box_AP50, box_AP75, mask_AP, mask_AP50 and mask_AP75, in 0..1."""
    found = {}
    with progress("AP", len(dataset) * len(predictors), quiet=quiet) as bar:
        for name, predictor in predictors.items():
            evaluator = CocoEvaluator(dataset.annotation_file, category_ids=dataset.category_ids)
            predict_dataset(predictor, dataset, evaluator, batch_size=1, on_image=lambda *_: bar.advance())
            tables = evaluator.evaluate(seen_only=True).tables
            found[name] = {
                f"{kind}_{metric}": getattr(table, metric)
                for kind, table in tables.items()
                for metric in ("AP", "AP50", "AP75")
            }
    return found
