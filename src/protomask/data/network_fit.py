"""How the objects of a data set look at the size of a network's input: how small they are, how well anchors fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protomask.ops.boxes import pairwise_iou

AnchorSizes = tuple[tuple[float, ...], ...]

_MOST_OBJECTS = 50_000
_SEARCHED_OBJECTS = 4000
_CANDIDATES = 24
_ROUNDS = 8
_IOU_WEIGHT = 0.1  # of the mean IoU beside recall
_LEAST_GAIN = 1e-3


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """What a network makes of images, as far as the fit to a data set goes.

    Attributes:
        name: of the model, for messages.
        resized_size: (H, W) that an image of a size (H, W) is brought to.
        anchor_sizes: side lengths for each level, network pixels.
        anchors: makes those of every level from such sizes: (A, 4) xyxy, network pixels, first all of one cell.
        anchors_per_cell: number of them in one cell of a level.
        positive_iou: an anchor must overlap an object that much to learn it.
        size_option: field of the model's configuration that holds the sizes; one number for each level if
            ``flat_sizes``, else one list.
        flat_sizes: see there.
        max_detections: instances that the model returns at most.

    """

    name: str
    resized_size: Callable[[tuple[int, int]], tuple[int, int]]
    anchor_sizes: AnchorSizes
    anchors: Callable[[AnchorSizes], Sequence[Tensor]]
    anchors_per_cell: int
    positive_iou: float
    size_option: str
    flat_sizes: bool
    max_detections: int

    def as_options(self, sizes: AnchorSizes) -> str:
        """Sizes as text for the setting ``model_options``."""
        values = [level[0] for level in sizes] if self.flat_sizes else sizes
        return json.dumps({self.size_option: values})


@dataclass(frozen=True, kw_only=True)
class AnchorFit:
    """How well the anchors of a network fit the objects of a data set.

    Attributes:
        objects: number of objects compared, taken evenly from all.
        recall: share of them, 0..1, that some anchor overlaps by at least ``positive_iou``: what the network can learn
            at best, but for objects that are given the best anchor there is although it fits badly.
        mean_iou: mean IoU of an object with the anchor that fits it best.
        positive_iou: see there.
        anchor_sizes: side lengths for each level, network pixels.
        suggested_sizes: sizes that fit better, from the sizes of the objects; None where they do not.
        suggested_recall: recall with these.
        suggested_options: these as text for the setting ``model_options``.

    """

    objects: int
    recall: float
    mean_iou: float
    positive_iou: float
    anchor_sizes: AnchorSizes
    suggested_sizes: AnchorSizes | None = None
    suggested_recall: float | None = None
    suggested_options: str | None = None


def network_boxes(boxes: Tensor, image_sizes: Tensor, network: NetworkInput) -> Tensor:
    """Boxes in network pixels.

    Args:
        boxes: (N, 4) xyxy px of their images.
        image_sizes: (N, 2) int64 H, W of the image of each.
        network: decides to which size each image is brought.

    """
    sizes, of_object = torch.unique(image_sizes, dim=0, return_inverse=True)
    resized = [network.resized_size((height, width)) for height, width in sizes.tolist()]
    scale = torch.tensor(resized, dtype=torch.float32).reshape(-1, 2) / sizes
    scaled: Tensor = boxes * scale[of_object][:, [1, 0, 1, 0]]
    return scaled


def fit_anchors(boxes: Tensor, network: NetworkInput) -> AnchorFit:
    """Compare objects with anchors, and look for better sizes of anchors.

    Args:
        boxes: (N, 4) xyxy, network pixels, of which at least one has an area.
        network: its anchors.

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
    """IoU of each object with the anchor of each level that fits it best.

    Of the anchors of one shape the nearest overlaps an object most: no other is looked at.

    Args:
        boxes: (N, 4) xyxy, network pixels, of positive area.
        network: its anchors.
        sizes: of the anchors.

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
    """The one of the rising values that is nearest to each wanted one."""
    after = torch.searchsorted(values, wanted.contiguous()).clamp(max=len(values) - 1)
    before = (after - 1).clamp(min=0)
    nearer_before = wanted - values[before] < values[after] - wanted
    return torch.where(nearer_before, values[before], values[after])


def _recall(best: Tensor, network: NetworkInput) -> float:
    return float((best >= network.positive_iou).float().mean())


def _better_sizes(boxes: Tensor, network: NetworkInput) -> AnchorSizes:
    """One size after the other is given the value that helps most, until nothing helps any more."""
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    low, high = torch.quantile(sides[:: len(sides) // _SEARCHED_OBJECTS + 1], torch.tensor([0.01, 0.99])).log().tolist()
    steps = torch.linspace(low, high, _CANDIDATES).exp().round().clamp(min=1)
    sizes = [list(level) for level in network.anchor_sizes]
    candidates = sorted({*steps.tolist(), *(size for level in sizes for size in level)})
    boxes = boxes[:: len(boxes) // _SEARCHED_OBJECTS + 1]
    # (C, L, N): a level's anchors of several sizes are no more than those of each size.
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
            # Sizes keep their order, so that coarse levels do not get what only fine ones can find.
            first = chosen[slot - 1] if slot else 0
            last = chosen[slot + 1] if slot + 1 < len(levels) else len(candidates) - 1
            scores = score(overlaps[first : last + 1, level].maximum(best_of_others))
            if scores.max() > scores[chosen[slot] - first] + _LEAST_GAIN:
                chosen[slot] = first + int(scores.argmax())
        if chosen == before:
            break
    sized = [(level, candidates[index]) for level, index in zip(levels, chosen, strict=True)]
    return tuple(tuple(size for other, size in sized if other == level) for level in range(len(sizes)))
