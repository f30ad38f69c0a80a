"""The training loss of the modern prototype models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protomask.models.proto.assignment import Assignment, assign_aligned, assign_static, points_in_crowds
from protomask.models.proto.boxes import boxes_of, encode
from protomask.models.proto.boxes_alone import loss_from_boxes
from protomask.models.proto.config import ProtoConfig
from protomask.models.proto.heads import BIN_RANGE
from protomask.models.proto.masks import mask_logits
from protomask.models.proto.truth import BatchTruth, Places, choose_places, sample_grid
from protomask.ops.boxes import generalized_iou, paired_iou
from protomask.ops.losses import mine_hard_negatives, shared_count, two_bin_cross_entropy, varifocal_sum
from protomask.ops.matching import BACKGROUND, NEUTRAL
from protomask.ops.targets import learnable
from protomask.structures.target import Target

if TYPE_CHECKING:
    from protomask.models.proto.heads import ProtoOutput
    from protomask.models.proto.model import ProtoNetwork

_SMOOTH = 1.0
"""Places added to both halves of the Dice fraction: without them a missed tiny object would have no gradient."""

_PLACES_COMPARED = 3
"""Masks of all points that may learn an object are compared at one in this many places."""

_L1 = 0.5
"""Weight of the distance of encoded boxes beside their GIoU."""

_BINS = 0.5
"""Weight of the cross entropy of their bins."""


class _Scene(NamedTuple):
    """Everything that the terms of one batch share; prototypes (B, G, P, k) at the places, boxes (B, A, 4)."""

    output: ProtoOutput
    truth: BatchTruth
    places: Places
    sampled: Tensor
    boxes: Tensor


class ProtoCriterion(nn.Module):
    """Box, class, mask and semantic terms.

    Box and mask are divided by the weights of the points that learn objects, class by their qualities, semantic by the
    images. A batch without objects has a finite loss, and objects without area are left out.

    Args:
        config: of the network.
        label_smoothing: of class probabilities (Szegedy et al. 2016, section 7), in [0, 1); the score "quality" has
            none.

    """

    def __init__(self, config: ProtoConfig, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.label_smoothing = label_smoothing

    @classmethod
    def for_network(cls, network: ProtoNetwork, *, label_smoothing: float = 0.0) -> ProtoCriterion:
        """The criterion of a network."""
        return cls(network.config, label_smoothing=label_smoothing)

    def forward(self, output: ProtoOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Score a prediction.

        Args:
            output: of a network in training mode; semantic_logits may be None, then that term is 0.
            targets: one per image, in the network's frame.

        Returns:
            loss_box, loss_class, loss_mask, loss_semantic, where the network has these outputs loss_quality and
            loss_one_to_one, and their sum loss_total, scalars.

        """
        # Sums over thousands of points need float32 also where the network ran in less.
        with torch.autocast(output.class_logits.device.type, enabled=False):
            return self._terms(_in_float32(output), targets)

    def _terms(self, output: ProtoOutput, targets: Sequence[Target]) -> dict[str, Tensor]:
        config = self.config
        objects = [learnable(target) for target in targets]
        truth = BatchTruth.of(objects)
        grid_size = (output.prototypes.shape[1], output.prototypes.shape[2])
        places = choose_places(truth, objects, config.mask_points, grid_size)
        scene = _Scene(
            output=output,
            truth=truth,
            places=places,
            sampled=sample_grid(output.prototypes, places.positions),
            boxes=boxes_of(config, output),
        )
        assigned = self._assign(scene, objects, targets)
        quality = self._quality(scene, assigned.points)
        total = shared_count(assigned.weights.sum())
        losses = {
            "loss_box": config.loss_weight_box * self._box(scene, assigned) / total,
            "loss_class": config.loss_weight_class * self._class(output.class_logits, scene, assigned, quality),
            "loss_mask": config.loss_weight_mask * self._mask(scene, assigned),
            "loss_semantic": config.loss_weight_semantic * self._semantic(output, objects),
        }
        if output.quality_logits is not None:
            losses["loss_quality"] = config.loss_weight_quality * self._rating(output.quality_logits, assigned, quality)
        if output.one_to_one_logits is not None:
            losses["loss_one_to_one"] = config.loss_weight_class * self._one_to_one(scene, assigned.neutral)
        losses["loss_total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _assign(self, scene: _Scene, objects: Sequence[Target], targets: Sequence[Target]) -> Assignment:
        config, references = self.config, scene.output.references
        if config.assigner == "static":
            return assign_static(config, references, objects, targets, scene.truth)
        logits = scene.output.class_logits.detach()
        found = assign_aligned(
            config,
            self._scores(logits),
            scene.boxes.detach(),
            references,
            scene.truth,
            lambda points: self._quality(_fewer_places(scene), points),
        )
        return Assignment(*found, points_in_crowds(references, targets))

    def _scores(self, logits: Tensor) -> Tensor:
        """(B, A, num_classes) in [0, 1] of the logits of a class branch."""
        return logits.sigmoid() if self.config.score == "quality" else logits.softmax(dim=-1)[..., 1:]

    @torch.no_grad()
    def _quality(self, scene: _Scene, points: Tensor) -> Tensor:
        """(B, G, K) IoU of the masks that points predict, cropped to their boxes, with those of the objects.

        Where only the box can be trusted, it is the IoU of the boxes.
        """
        boxes = _take(scene.boxes, points)
        logits = self._logits(scene, points, scene.sampled)
        x, y = scene.places.positions[:, :, None].unbind(dim=-1)
        # The crop keeps a cell beyond the box.
        height, width = scene.output.prototypes.shape[1:3]
        within = (x >= boxes[..., 0:1] - 1 / width) & (x <= boxes[..., 2:3] + 1 / width)
        within &= (y >= boxes[..., 1:2] - 1 / height) & (y <= boxes[..., 3:4] + 1 / height)
        found, truth = (logits > 0) & within, scene.places.inside[:, :, None] > 0
        shared, either = (found & truth).sum(dim=-1), (found | truth).sum(dim=-1)
        of_boxes = paired_iou(boxes, scene.truth.boxes[:, :, None])
        return torch.where(scene.truth.boxed[..., None], of_boxes, shared / either.clamp(min=1))

    def _logits(self, scene: _Scene, points: Tensor, sampled: Tensor) -> Tensor:
        """(B, G, K, P) mask logits at the places."""
        parameters = _take(scene.output.mask_parameters, points)
        boxes = _take(scene.boxes.detach(), points)
        return mask_logits(self.config, parameters, sampled, scene.places.positions, boxes)

    def _box(self, scene: _Scene, assigned: Assignment) -> Tensor:
        image, own, place = assigned.positive.nonzero(as_tuple=True)
        points, weights = assigned.points[image, own, place], assigned.weights[image, own, place]
        wanted = scene.truth.boxes[image, own]
        encoded = encode(self.config, wanted, scene.output.references[points])
        values = scene.output.box_values[image, points]
        if self.config.box_loss == "smooth_l1":
            return (F.smooth_l1_loss(values, encoded, reduction="none").sum(dim=-1) * weights).sum()
        distance = 1 - generalized_iou(scene.boxes[image, points], wanted)
        if self.config.box_loss == "giou_l1":
            distance = distance + _L1 * (values - encoded).abs().sum(dim=-1)
        if scene.output.bin_logits is not None:
            logits = scene.output.bin_logits[image, points]
            distance = distance + _BINS * two_bin_cross_entropy(logits, encoded, BIN_RANGE).sum(dim=-1)
        return (distance * weights).sum()

    def _class(self, logits: Tensor, scene: _Scene, assigned: Assignment, quality: Tensor) -> Tensor:
        if self.config.score != "quality":
            return self._class_probability(logits, scene, assigned)
        image, own, place = assigned.positive.nonzero(as_tuple=True)
        points, labels = assigned.points[image, own, place], scene.truth.labels[image, own]
        values = quality[image, own, place]
        wanted = torch.zeros_like(logits)
        wanted[image, points, labels] = values
        # A point that learns an object still learns that it is of no other class.
        ignored = assigned.neutral.index_put((image, points), assigned.neutral.new_zeros(()))
        total = varifocal_sum(logits, wanted, (~ignored).float()[..., None].expand_as(logits))
        return total / shared_count(values.sum())

    def _class_probability(self, logits: Tensor, scene: _Scene, assigned: Assignment) -> Tensor:
        image, own, place = assigned.positive.nonzero(as_tuple=True)
        matched = torch.where(assigned.neutral, NEUTRAL, BACKGROUND)
        matched[image, assigned.points[image, own, place]] = scene.truth.labels[image, own] + 1
        ratio = self.config.negatives_per_positive
        chosen = mine_hard_negatives(logits, matched, negatives_per_positive=ratio) | (matched > BACKGROUND)
        total = F.cross_entropy(logits[chosen], matched[chosen], reduction="sum", label_smoothing=self.label_smoothing)
        return total / shared_count(assigned.positive.sum())

    def _rating(self, logits: Tensor, assigned: Assignment, quality: Tensor) -> Tensor:
        """Cross entropy between the expected and the measured IoU of the masks of points that learn an object."""
        image, own, place = assigned.positive.nonzero(as_tuple=True)
        found, wanted = logits[image, assigned.points[image, own, place], 0], quality[image, own, place]
        total = F.binary_cross_entropy_with_logits(found, wanted, reduction="sum")
        return total / shared_count(assigned.positive.sum())

    def _mask(self, scene: _Scene, assigned: Assignment) -> Tensor:
        """Mean over the predictions of the objects that are looked at, each by its weight.

        A mask that teaches less counts less in the sum; one that teaches nothing is learned from its box.
        """
        count = self.config.masks_per_object
        weights = (assigned.weights * assigned.positive)[..., :count]
        weights = weights * _some(scene.truth.valid, self.config.objects_to_train)[..., None]
        logits = self._logits(scene, assigned.points[..., :count], scene.sampled)
        wanted = scene.places.inside[:, :, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=-1)
        if self.config.mask_loss == "dice_bce":
            probs = logits.sigmoid()
            halves = (probs**2).sum(dim=-1) + wanted.sum(dim=-1)
            loss = loss + 1 - (2 * (probs * wanted).sum(dim=-1) + _SMOOTH) / (halves + _SMOOTH)
        loss = loss * scene.truth.mask_trust[..., None]
        if self.config.box_supervision:
            loss = loss + self.config.box_supervision * self._from_boxes(scene, logits)
        return (loss * weights).sum() / shared_count(weights.sum())

    def _from_boxes(self, scene: _Scene, logits: Tensor) -> Tensor:
        """(B, G, K) what masks learn of objects of which only the box can be trusted; 0 for others."""
        config, images, loss = self.config, scene.output.images, logits.new_zeros(logits.shape[:3])
        image, own = scene.truth.boxed.nonzero(as_tuple=True)
        if images is None or not len(image):
            return loss
        shrunk = F.interpolate(images, scene.output.prototypes.shape[1:3], mode="area").permute(0, 2, 3, 1)
        colors = shrunk * images.new_tensor(config.pixel_std) + images.new_tensor(config.pixel_mean)
        colors = sample_grid(colors / 255, scene.places.positions)[image, own]
        positions, boxes = scene.places.positions[image, own], scene.truth.boxes[image, own][:, None]
        within = ((positions >= boxes[..., :2]) & (positions <= boxes[..., 2:])).all(dim=-1)
        return loss.index_put((image, own), loss_from_boxes(logits[image, own], within, colors, config.mask_points))

    def _semantic(self, output: ProtoOutput, objects: Sequence[Target]) -> Tensor:
        if output.semantic_logits is None:
            return output.class_logits.new_zeros(())
        logits = output.semantic_logits
        batch, _, height, width = logits.shape
        wanted, known = torch.zeros_like(logits), torch.ones_like(logits)
        for image, own in enumerate(objects):
            if len(own):
                # What is in the middle of each cell: a fraction of the pixels says enough of what is where.
                rows = ((torch.arange(height, device=logits.device) + 0.5) * own.image_size[0] / height).long()
                columns = ((torch.arange(width, device=logits.device) + 0.5) * own.image_size[1] / width).long()
                masks = own.masks[:, rows][:, :, columns].float()
                trusted = (own.mask_trust > 0)[:, None, None]
                wanted[image].index_add_(0, own.labels, masks * trusted)
                known[image].index_add_(0, own.labels, -masks * ~trusted)
        wanted = wanted.clamp(max=1)
        # Where a mask may be that cannot be trusted, nothing is learned but what others say.
        weights = ((wanted > 0) | (known > 0)).float()
        loss = F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="sum")
        return loss / (height * width * batch)

    def _one_to_one(self, scene: _Scene, neutral: Tensor) -> Tensor:
        """The second class branch: the one point that predicts an object best learns it, all others nothing."""
        logits = scene.output.one_to_one_logits
        assert logits is not None
        found = assign_aligned(
            self.config,
            self._scores(logits.detach()),
            scene.boxes.detach(),
            scene.output.references,
            scene.truth,
            lambda points: self._quality(_fewer_places(scene), points),
            count=1,
        )
        assigned = Assignment(*found, neutral)
        return self._class(logits, scene, assigned, self._quality(scene, assigned.points))


def _fewer_places(scene: _Scene) -> _Scene:
    """The same with a part of the places: enough to say which of many masks is better."""
    positions, inside = (values[:, :, ::_PLACES_COMPARED] for values in scene.places)
    return scene._replace(places=Places(positions, inside), sampled=scene.sampled[:, :, ::_PLACES_COMPARED])


def _take(values: Tensor, points: Tensor) -> Tensor:
    """(B, A, n) and (B, G, K) to (B, G, K, n)."""
    index = points.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, index).view(*points.shape, values.shape[-1])


def _some(valid: Tensor, most: int) -> Tensor:
    """(B, G) bool: up to this many random ones of each row."""
    if valid.shape[1] <= most:
        return valid
    chance = torch.where(valid, torch.rand(valid.shape, device=valid.device), -1.0)
    return valid & (chance >= chance.topk(most, dim=1).values[:, -1:])


def _in_float32(output: ProtoOutput) -> ProtoOutput:
    return output._replace(**{name: one.float() for name, one in output._asdict().items() if one is not None})
