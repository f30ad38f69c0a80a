"""`explain`: from an image and a model to what can be said about every mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from protomask.api import load
from protomask.detection.options import PROTOTYPE_OPTIONS, Limits, PredictChanges, PredictOptions, take_options
from protomask.detection.scoring import Scoring
from protomask.errors import ConfigError
from protomask.explaining.competition import competition
from protomask.explaining.models import refuse_exported
from protomask.explaining.page import write_page
from protomask.explaining.prototypes import measure_prototypes, on_grid, share_of_use, sum_prototypes
from protomask.explaining.results import (
    Competitor,
    Explanation,
    InstanceFacts,
    PositionFacts,
    PrototypeFacts,
    RegionFacts,
)
from protomask.explaining.truth import Truth, read_truth
from protomask.images.decode import read_image
from protomask.inference.predictor import Predictor
from protomask.models.families import family_of
from protomask.models.inside import Inside
from protomask.ops.masks import crop_windows
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor

if TYPE_CHECKING:
    from protomask.images.decode import ImageSource

MOST_CLASSES = 5
"""Likeliest classes that are named for each instance."""


def explain(
    image: ImageSource,
    model: Predictor | str | Path | None = None,
    *,
    instance: int | None = None,
    most_instances: int = 4,
    annotations: str | Path | None = None,
    output: str | Path | None = None,
    options: PredictOptions | None = None,
    **changes: Unpack[PredictChanges],
) -> Explanation:
    """Say why a model found what it found in an image.

    Args:
        image: as for `Predictor.predict`.
        model: a predictor in PyTorch, or what `load` takes; of a shipped model its weights are explained. The shipped
            default when not given.
        instance: explain only the instance with this number, counted from 0, best first.
        most_instances: maximum number of instances to explain if none is chosen, the best ones.
        annotations: COCO annotation file with an image of the same file name; masks are compared with its objects.
        output: folder for a page, ``index.html``, and its images as PNG; none is written by default.
        options: options of the prediction.
        changes: fields of `PredictOptions`, which override ``options``.

    Raises:
        ConfigError: an exported file, an instance that there is not, tiles, or a wrong option.
        CheckpointError: weights cannot be found or read.
        DataError: the image or the annotations cannot be read.
        ProtomaskError: the page cannot be written.

    """
    settled = take_options(options, changes)
    if settled.tile is not None:
        raise ConfigError("tile: expected none: an explanation is about one look at the whole image")
    if most_instances < 0:
        raise ConfigError(f"most_instances: expected 0 or more, got {most_instances}")
    predictor = torch_predictor(model)
    predictor.check_options(settled)
    settled.refuse(PROTOTYPE_OPTIONS, "an explanation, which is of the masks as they are cropped by default")
    pixels = read_image(image)
    size = (pixels.shape[0], pixels.shape[1])
    path = Path(image) if isinstance(image, str | Path) else None
    truth = None
    if annotations is not None:
        if path is None:
            raise ConfigError("annotations: expected an image file beside them, whose name they know")
        truth = read_truth(annotations, path, size)
    network, [inside] = predictor.look_inside([pixels], settled)
    family = family_of(network.config)
    scoring = predictor.scoring(settled)
    found = scoring.finish(family.paint(network, inside.rows, size, settled))
    order = _final_order(inside, scoring)[: len(found)]
    rules = family.settle(network.config, settled)
    look = _Look(
        inside=inside,
        order=order,
        size=size,
        truth=truth,
        rivals=_rivals(inside, order, Limits(rules.nms, rules.max_detections), rules.iou_threshold, scoring, size),
        windows=_windows(inside),
    )
    explanation = Explanation(
        name="image" if path is None else path.name,
        model=predictor.model_name,
        pixels=pixels,
        found=found,
        instances=[look.instance(number, found) for number in _chosen(instance, most_instances, len(found))],
        prototypes=look.prototypes(found),
        prototype_maps=None if inside.prototypes is None else inside.prototypes.prototypes,
        proposals=_proposals(inside, size),
        truth=None if truth is None else truth.masks,
    )
    return explanation if output is None else write_page(explanation, Path(output))


def torch_predictor(model: Predictor | str | Path | None) -> TorchPredictor:
    """The model in PyTorch, the only runtime that can be looked into.

    Raises:
        ConfigError: an exported file.

    """
    if isinstance(model, TorchPredictor):
        return model
    name = model.source if isinstance(model, Predictor) else model
    refuse_exported(name)
    return load(name, runtime="torch")


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One image as the network saw it, and which rows are in the result, in its order."""

    inside: Inside
    order: NDArray[np.int64]
    size: tuple[int, int]
    truth: Truth | None
    rivals: Sequence[Sequence[Competitor]]
    windows: NDArray[np.bool_]

    def instance(self, number: int, found: Instances) -> InstanceFacts:
        row, parts = int(self.order[number]), self.inside.prototypes
        return InstanceFacts(
            number=number,
            class_probs=_likeliest(self.inside, row, found.class_names),
            competitors=self.rivals[row],
            prototype_sum=None
            if parts is None
            else sum_prototypes(parts.prototypes, parts.coefficients[row], self.windows[row], self.size),
            region=_region(self.inside, row, self.size),
            positions=_positions(self.inside, row, self.size),
            truth=None if self.truth is None else self.truth.match(found[[number]].masks[0]),
        )

    def prototypes(self, found: Instances) -> list[PrototypeFacts]:
        parts = self.inside.prototypes
        if parts is None:
            return []
        grid = (parts.prototypes.shape[0], parts.prototypes.shape[1])
        masks = (mask for chunk in found.iter_masks() for mask in chunk) if self.truth is None else self.truth.masks
        use = share_of_use(parts.prototypes, parts.coefficients[self.order], self.windows[self.order])
        return measure_prototypes(parts.prototypes, on_grid(masks, grid), use)


def _rivals(
    inside: Inside,
    order: NDArray[np.int64],
    limits: Limits,
    iou_threshold: float,
    scoring: Scoring,
    size: tuple[int, int],
) -> list[list[Competitor]]:
    numbers = np.full(len(inside.kept), -1, dtype=np.int64)
    numbers[order] = np.arange(len(order))
    return competition(
        inside, numbers, limits, iou_threshold=iou_threshold, score_threshold=scoring.least_class_score, image_size=size
    )


def _final_order(inside: Inside, scoring: Scoring) -> NDArray[np.int64]:
    """Rows in the order of the result: as `protomask.detection.rows.instances_of` has them, then as `scoring` does."""
    class_scores, mask_scores = inside.class_scores, inside.mask_scores
    if mask_scores is not None:
        mask_scores = np.nan_to_num(mask_scores, nan=0.0).clip(0, 1).astype(np.float32)
    order = np.arange(len(class_scores))
    for one, other in ((class_scores, mask_scores), scoring.scores(class_scores, mask_scores)):
        final = one if other is None else one * other
        order = order[np.argsort(-final[order], kind="stable")]
    return order


def _chosen(instance: int | None, most: int, count: int) -> range:
    if instance is None:
        return range(min(most, count))
    if not 0 <= instance < count:
        there = f"from 0 to {count - 1}" if count else "none: nothing was found above the score threshold"
        raise ConfigError(f"instance: expected {there}, got {instance}")
    return range(instance, instance + 1)


def _likeliest(inside: Inside, row: int, class_names: tuple[str, ...]) -> list[tuple[str, float]]:
    probs = inside.class_probs[row]
    names = ("background", *class_names)
    return [(names[index], float(probs[index])) for index in np.argsort(-probs, kind="stable")[:MOST_CLASSES]]


def _windows(inside: Inside) -> NDArray[np.bool_]:
    """(N, h, w) cells of the prototype grid that the crop keeps; empty where there are no prototypes."""
    if inside.prototypes is None:
        return np.zeros((len(inside.kept), 0, 0), dtype=np.bool_)
    height, width, _ = inside.prototypes.prototypes.shape
    windows: NDArray[np.bool_] = crop_windows(torch.from_numpy(inside.boxes), (height, width)).numpy()
    return windows


def _region(inside: Inside, row: int, size: tuple[int, int]) -> RegionFacts | None:
    regions = inside.regions
    if regions is None:
        return None
    number = int(inside.candidates.numbers[inside.kept[row]])
    return RegionFacts(
        proposal=regions.proposals[number] * _scale(size),
        objectness=float(regions.objectness[number]),
        rank=number + 1,
        features=regions.features[row],
        mask_probs=regions.mask_probs[row],
        mask_iou_input=None if regions.mask_iou_input is None else regions.mask_iou_input[row],
    )


def _positions(inside: Inside, row: int, size: tuple[int, int]) -> PositionFacts | None:
    parts = inside.positions
    if parts is None:
        return None
    place = int(inside.kept[row])
    number = int(inside.candidates.numbers[place])
    return PositionFacts(
        proposal=parts.proposals[number] * _scale(size),
        objectness=float(parts.objectness[number]),
        rank=number + 1,
        corrected=bool(inside.candidates.levels[place]),
        outside=parts.outside[row],
        inside=parts.inside[row],
        own_mask=parts.own_mask[row],
        votes=parts.votes[row],
        num_votes=int(parts.num_votes[row]),
    )


def _proposals(inside: Inside, size: tuple[int, int]) -> NDArray[np.float32] | None:
    parts = inside.regions or inside.positions
    return None if parts is None else parts.proposals * _scale(size)


def _scale(size: tuple[int, int]) -> NDArray[np.float32]:
    return np.array([size[1], size[0], size[1], size[0]], dtype=np.float32)
