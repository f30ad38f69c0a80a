"""YOLACT as one graph: from the pixels of an image to boxes, classes, scores and masks."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.errors import ConfigError
from protomask.exporting.greedy_nms import nms_by_group
from protomask.exporting.resize import interpolate_as_torch, resize_as_opencv, resize_as_pillow
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.boxes import decode_boxes
from protomask.ops.geometry import ImageGeometry
from protomask.ops.masks import assemble_masks, crop_masks

CANDIDATES_PER_DETECTION = 10
"""Fast NMS of the graph looks at so many (anchor, class) pairs for each detection it may return, the best."""


class YolactGraph(nn.Module):
    """A YOLACT network from image to masks; its outputs have the same shapes for every image.

    The results are those of `protomask.models.yolact.detect`, if `CANDIDATES_PER_DETECTION` is
    enough: where a thousand pairs hold no hundred detections, the last and least certain ones are missing.

    Args:
        network: trained; it is run, never changed.
        config: the network's, with the thresholds and the NMS mode that the graph shall have.
        mask_size: (h, w) of the masks; that of the prototypes when not given.
        fixed_size: images come in the network's size and are not resized.

    Raises:
        ConfigError: an NMS mode that has no graph, or an impossible mask size.

    """

    def __init__(
        self,
        network: Yolact,
        config: YolactConfig,
        *,
        mask_size: tuple[int, int] | None = None,
        fixed_size: bool = False,
    ) -> None:
        super().__init__()
        if config.nms not in ("fast", "cross_class_fast", "batched"):
            raise ConfigError(f"nms: expected fast, cross_class_fast or batched in an exported file, got {config.nms}")
        if mask_size is not None and min(mask_size) < 1:
            raise ConfigError(f"mask_size: expected two positive numbers, got {mask_size}")
        self.network = network
        self.config = config
        self.mask_size = mask_size
        self.fixed_size = fixed_size

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Find the instances of one image.

        Args:
            image: (1, 3, H, W) uint8 RGB, any size, or with ``fixed_size`` the network's.

        Returns:
            boxes: (D, 4) float32 xyxy, pixels of the image, clipped to it; D is ``config.max_detections``.
            labels: (D,) int64, 0-based, background excluded.
            class_scores: (D,) float32, descending; 0 marks rows beyond the last detection, which are zero throughout.
            mask_scores: (D,) float32, only of a network with mask rescoring.
            masks: (D, h, w) float32 in 0..1, on a grid over the whole image, zero outside the boxes.

        """
        geometry = self.network.geometry
        output: YolactOutput = self.network(geometry.normalize(image if self.fixed_size else resize(image, geometry)))
        boxes, labels, class_scores, rows = self._choose(output)
        mask_probs = assemble_masks(output.prototypes[0], output.mask_coefficients[0, rows])
        mask_probs = crop_masks(mask_probs, boxes)
        scores = [class_scores]
        if self.network.rescoring is not None:
            scores.append(self.network.rescoring(mask_probs, labels) * (class_scores > 0))
        if self.mask_size is not None:
            mask_probs = F.interpolate(mask_probs[None], self.mask_size, mode="bilinear", align_corners=False)[0]
        width, height = (torch.scalar_tensor(image.shape[axis], dtype=torch.float32) for axis in (3, 2))
        pixel_boxes = boxes.clamp(0, 1) * torch.stack((width, height, width, height))
        return pixel_boxes, labels, *scores, mask_probs

    def _choose(self, output: YolactOutput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (D, 4), labels, class scores and anchors (D,) of the detections."""
        config = self.config
        class_scores = output.class_logits[0].softmax(dim=-1)[:, 1:]
        best_scores = class_scores.amax(dim=-1)
        across_classes = config.nms == "cross_class_fast"
        # The best M pairs of an anchor and a class have their anchors among those M whose best class scores most.
        count = config.max_candidates if across_classes else CANDIDATES_PER_DETECTION * config.max_detections
        best_scores, rows = _best_anchors(best_scores, config, count)
        boxes = decode_boxes(output.box_deltas[0, rows], output.anchors[rows], max_size_ratio=config.max_size_ratio)
        if config.clip_boxes:
            boxes = boxes.clamp(0, 1)
        # A network that diverged can ask for sides beyond what a float holds.
        finite = (boxes.abs() < float("inf")).all(dim=1)
        boxes = torch.where(finite[:, None], boxes, 0.0)
        usable = finite & (best_scores > config.candidate_threshold)
        if across_classes:
            scores, labels = best_scores * usable, class_scores[rows].argmax(dim=1)
        else:
            pair_scores = class_scores[rows] * usable[:, None]
            if config.threshold_detections or config.nms == "batched":
                pair_scores = pair_scores * (pair_scores > config.candidate_threshold)
            scores, pairs = pair_scores.flatten().topk(min(count, pair_scores.numel()))
            places, labels = pairs // config.num_classes, pairs % config.num_classes
            boxes, rows = boxes[places], rows[places]
        keep = (_greedy_keep if config.nms == "batched" else _fast_keep)(boxes, labels, scores, config)
        scores, kept = (scores * keep).topk(min(config.max_detections, len(scores)))
        # Beyond the last detection: a box outside the image, so that its mask is empty.
        boxes = torch.where(scores[:, None] > 0, boxes[kept], -1.0)
        labels = torch.where(scores > 0, labels[kept], 0)
        return boxes, labels, scores, rows[kept]


class CandidatesGraph(nn.Module):
    """A YOLACT network up to where a caller's choices begin: the rest is `protomask.detection.prototypes`.

    Args:
        network: trained, without mask rescoring, which needs the masks; it is run, never changed.

    Raises:
        ConfigError: the network has mask rescoring.

    """

    def __init__(self, network: Yolact) -> None:
        super().__init__()
        if network.rescoring is not None:
            raise ConfigError(f"form: expected detections for {network.config.name}, whose masks are rescored")
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, S, S) uint8 RGB, resized by `ImageGeometry.resize`.

        Returns:
            class_logits: (B, A, C + 1) float32, background first.
            boxes: (B, A, 4) float32 xyxy, relative to the image, not clipped.
            mask_coefficients: (B, A, k) float32.
            prototypes: (B, h, w, k) float32.

        """
        output: YolactOutput = self.network(self.network.geometry.normalize(images))
        boxes = decode_boxes(output.box_deltas, output.anchors, max_size_ratio=self.network.config.max_size_ratio)
        return output.class_logits, boxes, output.mask_coefficients, output.prototypes


def resize(image: Tensor, geometry: ImageGeometry) -> Tensor:
    """`ImageGeometry.resize` as part of a graph.

    Args:
        image: (1, 3, H, W) uint8.
        geometry: of the network.

    Returns:
        (1, 3, *image_size) float32, 0..255. Where the geometry has whole grey levels some can be one off.

    """
    if geometry.antialias:
        return resize_as_pillow(image[0], geometry.image_size)[None]
    if geometry.resize_method == "opencv":
        return resize_as_opencv(image[0], geometry.image_size)[None]
    return interpolate_as_torch(image.float(), geometry.image_size)


def _best_anchors(scores: Tensor, config: YolactConfig, count: int) -> tuple[Tensor, Tensor]:
    """Scores and anchors of the best ``count`` of (A,) scores, fewer where each level has a limit; best first."""
    if config.candidates_per_level is None:
        return cast(tuple[Tensor, Tensor], scores.topk(min(count, len(scores))))
    levels = []
    end = 0
    for size in config.anchors_per_level:
        start, end = end, end + size
        best, rows = scores[start:end].topk(min(config.candidates_per_level, size))
        levels.append((best, rows + start))
    best, rows = (torch.cat(parts) for parts in zip(*levels, strict=True))
    best, order = best.topk(min(count, len(best)))
    return best, rows[order]


def _fast_keep(boxes: Tensor, labels: Tensor, scores: Tensor, config: YolactConfig) -> Tensor:
    """(M,) bool: which boxes, best first, Fast NMS keeps; the same as `protomask.detection.nms.fast_nms`."""
    left, top, right, bottom = boxes.unbind(dim=1)
    width = (torch.minimum(right[:, None], right) - torch.maximum(left[:, None], left)).relu()
    height = (torch.minimum(bottom[:, None], bottom) - torch.maximum(top[:, None], top)).relu()
    intersection = width * height
    area = (right - left) * (bottom - top)
    iou = intersection / (area[:, None] + area - intersection)
    # Both ways of asking differ for NaN, the IoU of two empty boxes.
    overlaps = ~(iou <= config.iou_threshold) if config.empty_boxes_suppress else iou > config.iou_threshold
    rivals = torch.ones_like(iou, dtype=torch.bool).tril(diagonal=-1)
    if config.nms == "fast":
        rivals = rivals & (labels[:, None] == labels)
    # Every better box of the class takes one of its places, and one that overlaps takes them all.
    taken = torch.where(overlaps, float(config.max_candidates), 1.0) * rivals
    return taken.sum(dim=1) < config.max_candidates


def _greedy_keep(boxes: Tensor, labels: Tensor, scores: Tensor, config: YolactConfig) -> Tensor:
    """(M,) 0 or 1: which boxes, best first, greedy NMS keeps; the same as `protomask.detection.nms.batched_nms`."""
    # The official convention: pixels, a box from 3 to 5 is three wide, and an IoU of the threshold suppresses.
    pixel_boxes = boxes * config.image_size + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    limit = float(np.nextafter(np.float32(config.iou_threshold), np.float32(-1)))
    kept = nms_by_group(pixel_boxes, scores, labels, limit, span=pixel_boxes.max() - pixel_boxes.min() + 1)
    return torch.zeros_like(scores).scatter(0, kept, 1.0)
