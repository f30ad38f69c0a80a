"""Fit of a network to a data set: how small the objects are in its input, and how well its anchors fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from protomask.data.doctor.problems import Findings, Severity
from protomask.ops.anchors import AnchorSizes, NetworkInput
from protomask.ops.boxes import pairwise_iou

_MOST_OBJECTS = 50_000
_SEARCHED_OBJECTS = 4000
_CANDIDATES = 24
_ROUNDS = 8
_IOU_WEIGHT = 0.1  # of the mean IoU beside recall
_LEAST_GAIN = 1e-3
_TINY_SIDE = 4  # network px: one cell of the prototypes, or of the finest level of a Mask R-CNN
_WORTH_A_SUGGESTION, _WORTH_A_WARNING = 0.02, 0.05  # of recall
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class AnchorFit:
    """Fit of the anchors of a network to the objects of a data set.

    Attributes:
        objects: number of objects compared, evenly spaced among all.
        recall: share of them, 0..1, that some anchor overlaps by at least ``positive_iou``. Training still gives the
            other objects their best anchor, however badly it fits.
        mean_iou: mean IoU of an object with the anchor that fits it best.
        positive_iou: of the network.
        anchor_sizes: side lengths for each level, network pixels.
        suggested_sizes: sizes that fit better; None if none were found.
        suggested_recall: recall with the suggested sizes.
        suggested_options: suggested sizes as JSON, as the model's options take them.

    """

    objects: int
    recall: float
    mean_iou: float
    positive_iou: float
    anchor_sizes: AnchorSizes
    suggested_sizes: AnchorSizes | None = None
    suggested_recall: float | None = None
    suggested_options: str | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkFit:
    """How a network sees the training objects.

    Attributes:
        name: name of the network, with its input size.
        side_quantiles: square root of the box area, network pixels, by the share of smaller objects.
        anchors: fit of its anchors.

    """

    name: str
    side_quantiles: dict[str, float]
    anchors: AnchorFit


class SplitObjects(NamedTuple):
    """The usable objects of a split, crowds left out."""

    boxes: Tensor  # (N, 4) xyxy px
    image_sizes: Tensor  # (N, 2) H, W
    places: list[str]
    per_image: list[tuple[str, int]]


def check_network_fit(objects: SplitObjects, network: NetworkInput, findings: Findings) -> NetworkFit | None:
    """Check the objects at the size at which a network sees them; None if none of them has an area."""
    boxes = network_boxes(objects.boxes, objects.image_sizes, network)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
    if not (sides > 0).any():
        return None
    tiny = (sides < _TINY_SIDE).nonzero()[:, 0].tolist()
    severity: Severity = "warning" if len(tiny) > 0.05 * len(sides) else "note"
    text = f"box smaller than {_TINY_SIDE}x{_TINY_SIDE} px in the input of {network.name}; a larger image_size helps"
    for index in tiny:
        findings.add(severity, "tiny object", objects.places[index], text)
    for place, count in objects.per_image:
        if count > network.max_detections:
            text = (
                f"{count} objects, but {network.name} finds at most {network.max_detections}: raise max_detections "
                "in model_options, and max_detections of the validation"
            )
            findings.add("warning", "more objects than detections", place, text)
    anchors = fit_anchors(boxes, network)
    gain = (anchors.suggested_recall or 0.0) - anchors.recall
    if gain >= _WORTH_A_SUGGESTION:
        text = (
            f"{anchors.recall:.1%} of the objects have an anchor of IoU {anchors.positive_iou:g} or more in "
            f"{network.name}; {anchors.suggested_recall:.1%} with model_options '{anchors.suggested_options}'"
        )
        findings.add("warning" if gain >= _WORTH_A_WARNING else "note", "anchors", "", text)
    quantiles = torch.quantile(sides[:: len(sides) // 1_000_000 + 1], torch.tensor(_QUANTILES)).tolist()
    return NetworkFit(
        name=network.name,
        side_quantiles={f"{share:.0%}": value for share, value in zip(_QUANTILES, quantiles, strict=True)},
        anchors=anchors,
    )


def network_boxes(boxes: Tensor, image_sizes: Tensor, network: NetworkInput) -> Tensor:
    """Boxes in network pixels.

    Args:
        boxes: (N, 4) xyxy px of their images.
        image_sizes: (N, 2) int64 H, W of the image of each box.
        network: decides the size of each image in its input.

    """
    sizes, of_object = torch.unique(image_sizes, dim=0, return_inverse=True)
    resized = [network.resized_size((height, width)) for height, width in sizes.tolist()]
    scale = torch.tensor(resized, dtype=torch.float32).reshape(-1, 2) / sizes
    scaled: Tensor = boxes * scale[of_object][:, [1, 0, 1, 0]]
    return scaled


def fit_anchors(boxes: Tensor, network: NetworkInput) -> AnchorFit:
    """Compare objects with anchors, and look for better anchor sizes.

    Args:
        boxes: (N, 4) xyxy, network pixels; at least one has an area.
        network: network with the anchors.

    """
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    boxes = boxes[torch.linspace(0, len(boxes) - 1, min(len(boxes), _MOST_OBJECTS)).long()]
    best = best_anchor_iou(boxes, network, network.anchor_sizes).amax(dim=0)
    recall = _recall(best, network)
    sizes = _better_sizes(boxes, network)
    suggested = _recall(best_anchor_iou(boxes, network, sizes).amax(dim=0), network)
    better = suggested > recall
    return AnchorFit(
        objects=len(boxes),
        recall=recall,
        mean_iou=float(best.mean()),
        positive_iou=network.positive_iou,
        anchor_sizes=network.anchor_sizes,
        suggested_sizes=sizes if better else None,
        suggested_recall=suggested if better else None,
        suggested_options=network.as_options(sizes) if better else None,
    )


def best_anchor_iou(boxes: Tensor, network: NetworkInput, sizes: AnchorSizes) -> Tensor:
    """IoU of each object with the best anchor of each level.

    Among anchors of one shape, the nearest overlaps an object most, so no other is tried.

    Args:
        boxes: (N, 4) xyxy, network pixels, of positive area.
        network: network with the anchors.
        sizes: side lengths for each level.

    Returns:
        (L, N) in [0, 1].

    """
    found = []
    for level in network.anchors(sizes):
        cells = level.reshape(-1, network.anchors_per_cell, 4)
        shapes = cells[0]
        centres = (boxes[:, None, :2] + boxes[:, None, 2:] - shapes[:, :2] - shapes[:, 2:]) / 2
        shifts = [_nearest(torch.unique(cells[:, 0, axis]) - shapes[0, axis], centres[..., axis]) for axis in (0, 1)]
        nearest = shapes + torch.stack(shifts * 2, dim=-1)
        found.append(pairwise_iou(boxes[:, None], nearest)[:, 0].amax(dim=1))
    return torch.stack(found)


def _nearest(values: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted value the nearest of the ascending values."""
    after = torch.searchsorted(values, wanted.contiguous()).clamp(max=len(values) - 1)
    before = (after - 1).clamp(min=0)
    nearer_before = wanted - values[before] < values[after] - wanted
    return torch.where(nearer_before, values[before], values[after])


def _recall(best: Tensor, network: NetworkInput) -> float:
    return float((best >= network.positive_iou).float().mean())


def _better_sizes(boxes: Tensor, network: NetworkInput) -> AnchorSizes:
    """Improve one size after the other until nothing helps any more."""
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    low, high = torch.quantile(sides[:: len(sides) // _SEARCHED_OBJECTS + 1], torch.tensor([0.01, 0.99])).log().tolist()
    steps = torch.linspace(low, high, _CANDIDATES).exp().round().clamp(min=1)
    sizes = [list(level) for level in network.anchor_sizes]
    candidates = sorted({*steps.tolist(), *(size for level in sizes for size in level)})
    boxes = boxes[:: len(boxes) // _SEARCHED_OBJECTS + 1]
    # (C, L, N): the anchors of a level with several sizes are those of each size together.
    overlaps = torch.stack(
        [best_anchor_iou(boxes, network, tuple((size,) * len(level) for level in sizes)) for size in candidates]
    )
    levels = [level for level, places in enumerate(sizes) for _ in places]
    chosen = sorted(candidates.index(size) for places in sizes for size in places)

    def score(best: Tensor) -> Tensor:
        return (best >= network.positive_iou).float().mean(dim=-1) + _IOU_WEIGHT * best.mean(dim=-1)

    for _ in range(_ROUNDS):
        before = list(chosen)
        for slot, level in enumerate(levels):
            others = [overlaps[chosen[other], levels[other]] for other in range(len(levels)) if other != slot]
            best_of_others = torch.stack([*others, torch.zeros(len(boxes))]).amax(dim=0)
            # Sizes stay in order, so that coarse levels do not get what only fine ones can find.
            first = chosen[slot - 1] if slot else 0
            last = chosen[slot + 1] if slot + 1 < len(levels) else len(candidates) - 1
            scores = score(overlaps[first : last + 1, level].maximum(best_of_others))
            if scores.max() > scores[chosen[slot] - first] + _LEAST_GAIN:
                chosen[slot] = first + int(scores.argmax())
        if chosen == before:
            break
    sized = [(level, candidates[index]) for level, index in zip(levels, chosen, strict=True)]
    return tuple(tuple(size for other, size in sized if other == level) for level in range(len(sizes)))
