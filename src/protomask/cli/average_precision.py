"""What `protomask eval` and `protomask bench` share: the AP of a predictor, whatever runs its network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from protomask.data.loader import image_batches
from protomask.errors import DataError

if TYPE_CHECKING:
    from protomask.data.coco import CocoDataset
    from protomask.evaluation.coco import CocoEvaluator
    from protomask.inference.base import ImagePredictor
    from protomask.structures.instances import Instances


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
