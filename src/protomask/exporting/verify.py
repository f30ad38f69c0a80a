"""Runs an exported file and the model side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protomask.data.coco.dataset import CocoDataset
from protomask.detection.options import PredictOptions
from protomask.errors import ExportError
from protomask.evaluation.evaluate import OnProgress, average_precisions
from protomask.exporting.agreement import Agreement
from protomask.exporting.graphs import Parts
from protomask.exporting.matching import Limits, compare_image, together
from protomask.images.decode import Pixels
from protomask.images.resize import resize_pillow
from protomask.inference.predictor import Predictor
from protomask.models.network import Network
from protomask.ops.geometry import preprocess_pixels
from protomask.runtimes.exported import ExportedPredictor
from protomask.structures.instances import Instances

Arrays = dict[str, NDArray[Any]]


def compare(
    model: Predictor,
    exported: Predictor,
    images: Sequence[Pixels],
    *,
    options: PredictOptions,
    settled: PredictOptions | None = None,
    limits: Limits,
    masks: bool = True,
    network_is_compared: bool = False,
) -> Agreement:
    """Predict every image with both, and match what they find one to one.

    Args:
        model: the reference.
        exported: the same model in a file.
        images: (H, W, 3) uint8 RGB each.
        options: of the model; what scores above their ``score_threshold`` is compared, or all if nothing does.
        settled: of the file, where it has settled some.
        limits: what counts as the same.
        masks: whether masks must be the same, too.
        network_is_compared: what comes before NMS is compared elsewhere, so images without detections prove something.

    Raises:
        ExportError: there is nothing to compare.

    """
    everything = options.replace(score_threshold=0.0, threshold_for=None)
    of_file = (settled or options).replace(score_threshold=0.0, threshold_for=None)
    pairs = [
        (wanted, found)
        for image in images
        for wanted, found in zip(
            model.predict_images([image], everything), exported.predict_images([image], of_file), strict=True
        )
    ]
    best = max((float(wanted.scores.max(initial=0.0)) for wanted, _ in pairs), default=0.0)
    count, threshold, warnings = len(images), options.score_threshold, []
    found_any = any(len(wanted) for wanted, _ in pairs)
    if not found_any and not network_is_compared:
        raise ExportError(
            f"nothing to compare: the model finds nothing in these {count} images; give some that show what it knows "
            "as images, or an annotated data set as data"
        )
    if best <= threshold:
        what = f"its best score is {best:.2g}, so detections of all scores were compared" if found_any else (
            "only what comes before NMS was compared"
        )  # fmt: skip
        warnings.append(
            f"the model finds nothing above score {threshold:g} in these {count} images: {what}; images that show what "
            "it knows prove more"
        )
        threshold = 0.0
    return _summary(pairs, threshold, limits, masks, model.limits(options).max_detections, warnings)


def compare_batches(
    model: Predictor,
    exported: Predictor,
    image: Pixels,
    *,
    options: PredictOptions,
    settled: PredictOptions | None = None,
    limits: Limits,
    masks: bool = True,
) -> Agreement:
    """Give a file three images at once, one image and its mirror images; arguments as `compare`."""
    everything = options.replace(score_threshold=0.0, threshold_for=None)
    of_file = (settled or options).replace(score_threshold=0.0, threshold_for=None)
    images = [image, np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(image[::-1])]
    wanted = [found for one in images for found in model.predict_images([one], everything)]
    pairs = zip(wanted, exported.predict_images(images, of_file), strict=True)
    return _summary(pairs, options.score_threshold, limits, masks, model.limits(options).max_detections, [])


def _summary(
    pairs: Iterable[tuple[Instances, Instances]],
    threshold: float,
    limits: Limits,
    masks: bool,
    max_detections: int,
    warnings: Sequence[str],
) -> Agreement:
    each = [
        compare_image(
            wanted, found, score_threshold=threshold, limits=limits, max_detections=max_detections, masks=masks
        )
        for wanted, found in pairs
    ]
    total = together(each)
    return Agreement(
        images=len(each),
        score_threshold=threshold,
        detections=total.detections,
        unmatched=total.unmatched,
        deviating=total.deviating,
        score_difference=total.score,
        box_difference=total.box,
        mask_iou=total.mask_iou,
        weaker=total.weaker,
        weaker_unmatched=total.weaker_unmatched,
        warnings=tuple(warnings),
    )


def compare_parts(
    network: Network, parts: Parts, exported: ExportedPredictor, output_names: Sequence[str], images: Iterable[Pixels]
) -> dict[str, float]:
    """Compare what the network gives before NMS, number by number, on images in the size that it sees.

    Args:
        network: in evaluation mode, on the CPU.
        parts: of its family.
        exported: runs a file that has them.
        output_names: of the parts in the file.
        images: (H, W, 3) uint8 RGB each.

    Returns:
        Largest difference of each part, divided by 1 plus the size of the number.

    """
    largest = dict.fromkeys(parts.names, 0.0)
    for image in images:
        # Resized once for both: this does not compare the two ways of resizing.
        size = network.geometry.resized_size((image.shape[0], image.shape[1]))
        pixels = resize_pillow(image, size)
        wanted = parts_of(network, parts, pixels)
        given = exported.info.input.prepare(pixels)
        outputs = exported.run(np.ascontiguousarray(given.transpose(2, 0, 1)[None]))
        for name, output_name in zip(parts.names, output_names, strict=True):
            largest[name] = max(largest[name], _difference(outputs[output_name], wanted[name]))
    return largest


def parts_of(network: Network, parts: Parts, image: Pixels) -> Arrays:
    """What a network in evaluation mode gives for an image before NMS, by name."""
    with torch.inference_mode():
        batch = network.geometry.batch([preprocess_pixels(image, network.geometry, torch.device("cpu"))])
        values = parts.of(network, network(batch))
    return {name: value.numpy() for name, value in zip(parts.names, values, strict=True)}


def compare_ap(
    model: Predictor,
    exported: Predictor,
    dataset: CocoDataset,
    *,
    options: PredictOptions,
    settled: PredictOptions | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, dict[str, float | None]]:
    """Measure box and mask AP of both on annotated images; arguments as `compare`."""
    return average_precisions(
        {"pytorch": model, "file": exported},
        dataset,
        options={"pytorch": options, "file": settled or options},
        on_progress=on_progress,
    )


def spread(count: int, limit: int) -> list[int]:
    """Up to ``limit`` of ``count`` places, spread over all."""
    return [place * count // min(count, limit) for place in range(min(count, limit))]


def _difference(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(found.astype(np.float64) - wanted) / (1 + np.abs(wanted.astype(np.float64)))
    # A network that diverged gives anything: the same anything is the same.
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return float(np.where(same, 0.0, np.nan_to_num(difference, nan=np.inf)).max(initial=0.0))
