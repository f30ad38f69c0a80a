"""Prototype models as one graph: from the pixels of an image to boxes, classes, scores and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.detection.mask_nms import PAIRS_PER_DETECTION
from protomask.errors import ConfigError
from protomask.exporting.pairs import keep_best, mask_overlaps, pick_in_turn
from protomask.exporting.resize import interpolate_as_torch, resize_as_opencv, resize_as_pillow
from protomask.exporting.search import (
    best_anchors,
    box_overlaps,
    overlap_no_better,
    search_classes,
    search_pairs,
)
from protomask.models.network import Network
from protomask.models.prototype_config import PrototypeModelConfig
from protomask.ops.geometry import ImageGeometry


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the output of a prototype network is read, as operations of a graph.

    Attributes:
        candidates: (network, output) to what it says before anything is chosen, the outputs of `CandidatesGraph`.
        masks: (network, (h, w, k) prototypes, (D, m) mask parameters, (D, 4) relative boxes) to (D, h, w)
            probabilities, zero outside the boxes.
        rescoring: network to the part that estimates the IoU of masks, (mask_probs, labels) to (D,); None for none.
        sums: network to whether its masks are weighted sums of prototypes, which readers of candidates make.

    """

    candidates: Callable[[Any, Any], tuple[Tensor, ...]]
    masks: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    rescoring: Callable[[Any], nn.Module | None] = lambda network: None
    sums: Callable[[Any], bool] = lambda network: True


class PrototypeGraph(nn.Module):
    """A prototype network from image to masks; its outputs have the same shapes for every image.

    The results are those of the family's ``detect``. Only a limited search can miss some: where its pairs hold
    fewer than ``max_detections`` that do not overlap, the least certain ones.

    Args:
        network: trained; it is run, never changed.
        reading: of its family.
        config: the network's, with the thresholds and the NMS mode that the graph shall have.
        mask_size: (h, w) of the masks; that of the prototypes when not given.
        fixed_size: images come in the network's size and are not resized.
        search_depth: number of (anchor, class) pairs, the best, that NMS looks at. None: fast NMS looks at all, greedy
            and Soft-NMS, and NMS by masks, at ``PAIRS_PER_DETECTION`` for each detection.
        batched: several images of one size come at once, and every output has an additional first dimension.

    Raises:
        ConfigError: an NMS mode that has no graph, or an impossible mask size or depth.

    """

    def __init__(
        self,
        network: Network,
        config: PrototypeModelConfig,
        reading: Reading,
        *,
        mask_size: tuple[int, int] | None = None,
        fixed_size: bool = False,
        search_depth: int | None = None,
        batched: bool = False,
    ) -> None:
        super().__init__()
        if batched and config.nms == "batched" and config.overlap == "box_iou":
            raise ConfigError("nms: expected another than batched in a file for several images, got batched")
        if batched and config.candidates_per_level is not None:
            raise ConfigError(
                f"candidates_per_level: expected None in a file for several images, got {config.candidates_per_level}"
            )
        if mask_size is not None and min(mask_size) < 1:
            raise ConfigError(f"mask_size: expected two positive numbers, got {mask_size}")
        by_masks = config.overlap != "box_iou"
        if search_depth is not None and config.nms == "cross_class_fast" and not by_masks:
            raise ConfigError("search_depth: expected none with nms cross_class_fast, which looks at max_candidates")
        if search_depth is not None and search_depth < config.max_detections:
            raise ConfigError(
                f"search_depth: expected at least max_detections ({config.max_detections}), got {search_depth}"
            )
        for name, refused, expected in (
            ("edges", "pixels", "grid"),
            ("duplicates", "average", "drop"),
            ("crop", "component", "box or none"),
        ):
            if getattr(config, name) == refused:
                raise ConfigError(
                    f"{name}: expected {expected} in an exported file of detections, got {refused}; a file of "
                    "candidates leaves it to its reader"
                )
        self.network: Any = network
        self.config = config
        self.reading = reading
        self.mask_size = mask_size
        self.fixed_size = fixed_size
        self.batched = batched
        if search_depth is None and (by_masks or config.nms not in ("fast", "cross_class_fast")):
            search_depth = PAIRS_PER_DETECTION * config.max_detections
        self.search_depth = search_depth

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Find the instances of one image.

        Args:
            image: (1, 3, H, W) uint8 RGB, any size, or with ``fixed_size`` the network's; (B, 3, H, W) if batched.

        Returns:
            boxes: (D, 4) float32 xyxy, pixels of the image, clipped to it; D is ``config.max_detections``.
            labels: (D,) int64, 0-based, background excluded.
            class_scores: (D,) float32, descending; 0 marks rows beyond the last detection, which are zero throughout.
            mask_scores: (D,) float32, only of a network with mask rescoring.
            masks: (D, h, w) float32 in 0..1, on a grid over the whole image, zero outside the boxes.
            then what they are made of, which no file keeps: the outputs of `CandidatesGraph`.

        """
        geometry = self.network.geometry
        output = self.network(geometry.normalize(image if self.fixed_size else resize(image, geometry)))
        candidates = self.reading.candidates(self.network, output)
        own = candidates if self.batched else tuple(part[0] for part in candidates)
        boxes, labels, class_scores, rows = self._each(self._choose, *own)
        parameters, prototypes = self._each(torch.Tensor.__getitem__, own[2], rows), own[3]
        mask_probs = self._each(self._masks, prototypes, parameters, boxes)
        scores = [class_scores]
        rescoring = self.reading.rescoring(self.network)
        if rescoring is not None:
            estimates = rescoring(mask_probs.flatten(0, -3), labels.flatten()).view_as(class_scores)
            scores.append(estimates * (class_scores > 0))
        if self.config.crop == "none" or self.config.crop_margin:
            crops = self._each(self._crop_boxes, boxes, class_scores)
            mask_probs = self._each(self._masks, prototypes, parameters, crops)
        if self.mask_size is not None:
            every = mask_probs if self.batched else mask_probs[None]
            every = F.interpolate(every, self.mask_size, mode="bilinear", align_corners=False)
            mask_probs = every if self.batched else every[0]
        width, height = (torch.scalar_tensor(image.shape[axis], dtype=torch.float32) for axis in (3, 2))
        pixel_boxes = boxes.clamp(0, 1) * torch.stack((width, height, width, height))
        return pixel_boxes, labels, *scores, mask_probs, *candidates

    def _each(self, function: Callable[..., Any], *parts: Tensor) -> Any:
        """A function of one image, of every image of a batch."""
        return torch.vmap(function)(*parts) if self.batched else function(*parts)

    def _masks(self, prototypes: Tensor, parameters: Tensor, boxes: Tensor) -> Tensor:
        return self.reading.masks(self.network, prototypes, parameters, boxes)

    def _crop_boxes(self, boxes: Tensor, class_scores: Tensor) -> Tensor:
        """(D, 4) boxes that cut the masks, as `protomask.detection.mask_shape.MaskShape.crop_boxes`."""
        if self.config.crop == "none":
            crops = boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).expand_as(boxes)
        else:
            low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
            reach = self.config.crop_margin * (high - low)
            crops = torch.stack((low - reach, high + reach), dim=1).flatten(1)
        return torch.where(class_scores[:, None] > 0, crops, boxes)

    def _choose(
        self, class_logits: Tensor, boxes: Tensor, parameters: Tensor, prototypes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (D, 4), labels, class scores and anchors (D,) of the detections."""
        config = self.config
        class_scores = class_logits.softmax(dim=-1)[:, 1:]
        # The best M pairs of an anchor and a class have their anchors among those M whose best class scores most.
        count = self.search_depth
        if config.nms == "cross_class_fast" and config.overlap == "box_iou":
            count = config.max_candidates
        rows = best_anchors(class_scores.amax(dim=-1), config, count)
        if rows is not None:
            class_scores, boxes, parameters = class_scores[rows], boxes[rows], parameters[rows]
        best_scores = class_scores.amax(dim=-1)
        if config.clip_boxes:
            boxes = boxes.clamp(0, 1)
        # A network that diverged can ask for sides beyond what a float holds.
        finite = (boxes.abs() < float("inf")).all(dim=1)
        boxes = torch.where(finite[:, None], boxes, 0.0)
        usable = finite & (best_scores > config.candidate_threshold)
        pair_scores = class_scores * usable[:, None]
        if config.threshold_detections or config.nms not in ("fast", "cross_class_fast"):
            pair_scores = pair_scores * (pair_scores > config.candidate_threshold)
        if config.overlap != "box_iou" or config.nms in ("soft_linear", "soft_gaussian"):
            scores, places, labels = self._choose_by_overlaps(pair_scores, boxes, parameters, prototypes)
            kept = scores > 0
        elif config.nms == "cross_class_fast":
            scores, places, labels = best_scores * usable, torch.arange(len(boxes)), class_scores.argmax(dim=1)
            kept = overlap_no_better(boxes, config)
        elif count is None:
            scores, places, labels, kept = search_classes(boxes, pair_scores, config)
        else:
            scores, places, labels, kept = search_pairs(boxes, pair_scores, config, count)
        scores, best = (scores * kept).topk(min(config.max_detections, len(scores)))
        places, labels = places[best], labels[best]
        # Beyond the last detection: a box outside the image, so that its mask is empty.
        boxes = torch.where(scores[:, None] > 0, boxes[places], -1.0)
        labels = torch.where(scores > 0, labels, 0)
        return boxes, labels, scores, places if rows is None else rows[places]

    def _choose_by_overlaps(
        self, pair_scores: Tensor, boxes: Tensor, parameters: Tensor, prototypes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, places among the boxes, and labels of what NMS keeps, with scores of 0 for the rest."""
        config = self.config
        assert self.search_depth is not None
        if config.nms == "cross_class_fast":
            best, best_labels = pair_scores.max(dim=1)
            scores, places = best.topk(min(self.search_depth, len(best)))
            labels, groups = best_labels[places], torch.zeros_like(places)
        else:
            scores, pairs = pair_scores.flatten().topk(min(self.search_depth, pair_scores.numel()))
            places, labels = pairs // config.num_classes, pairs % config.num_classes
            groups = labels
        if config.overlap == "box_iou":
            overlaps = box_overlaps(boxes[places])
            overlaps = torch.where(overlaps.isnan(), 0.0, overlaps)  # OpenVINO knows no nan_to_num
        else:
            mask_probs = self.reading.masks(self.network, prototypes, parameters[places], boxes[places])
            overlaps = mask_overlaps(mask_probs, config.overlap)
        if config.nms in ("fast", "cross_class_fast"):
            return scores * keep_best(overlaps, groups, config), places, labels
        scores, picks = pick_in_turn(scores, groups, overlaps, config)
        return scores, places[picks], labels[picks]


class CandidatesGraph(nn.Module):
    """A prototype network up to where a caller's choices begin: the rest is `protomask.detection.prototypes`.

    Args:
        network: trained, without mask rescoring, which needs the masks; it is run, never changed.
        reading: of its family.

    Raises:
        ConfigError: the network has mask rescoring, or its masks are not sums of prototypes.

    """

    def __init__(self, network: Network, reading: Reading) -> None:
        super().__init__()
        if reading.rescoring(network) is not None:
            raise ConfigError(f"form: expected detections for {network.config.name}, whose masks are rescored")
        if not reading.sums(network):
            raise ConfigError(f"form: expected detections for {network.config.name}, whose masks are not plain sums")
        self.network: Any = network
        self.reading = reading

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, S, S) uint8 RGB, resized by `ImageGeometry.resize`.

        Returns:
            class_logits: (B, A, C + 1) float32, background first.
            boxes: (B, A, 4) float32 xyxy, relative to the image, not clipped.
            mask_coefficients: (B, A, k) float32, or other mask parameters.
            prototypes: (B, h, w, k) float32.

        """
        found: tuple[Tensor, ...] = self.reading.candidates(
            self.network, self.network(self.network.geometry.normalize(images))
        )
        return found


def resize(image: Tensor, geometry: ImageGeometry) -> Tensor:
    """`ImageGeometry.resize` as part of a graph.

    Args:
        image: (B, 3, H, W) uint8.
        geometry: of the network.

    Returns:
        (B, 3, *image_size) float32, 0..255. Where the geometry has whole grey levels some can be one off.

    """
    if geometry.antialias or geometry.resize_method == "opencv":
        resize_planes = resize_as_pillow if geometry.antialias else resize_as_opencv
        return resize_planes(image.flatten(0, 1), geometry.image_size).view(-1, 3, *geometry.image_size)
    return interpolate_as_torch(image.float(), geometry.image_size)
