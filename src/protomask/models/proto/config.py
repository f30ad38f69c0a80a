"""The config of the modern prototype family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from protomask.models.config import STRIDES, Depth, ImageSide, Width
from protomask.models.prototype_config import PrototypeModelConfig
from protomask.settings import Count, CountOrZero, NonNegative, NotEmpty, Positive, Text, Unit

Neck = Literal["pafpn", "fpn"]
Head = Literal["points", "anchors"]
Branches = Literal["decoupled", "shared"]
Score = Literal["rated", "quality", "class"]
Assigner = Literal["aligned", "static"]
BoxLoss = Literal["giou_l1", "giou", "smooth_l1"]
MaskHead = Literal["linear", "dynamic"]
MaskLoss = Literal["dice_bce", "bce"]
Prototypes = Literal["fused", "p3"]
Convolutions = Literal["separable", "dense"]
SeparableStart = Literal["identity", "xavier"]
POINT_SIDE = 4.0
"""Side of the square about a point, in strides of its level: the box that a head of zeros predicts."""


@dataclass(frozen=True, kw_only=True)
class ProtoConfig(PrototypeModelConfig):
    """Everything that defines a modern prototype network and how its output is read.

    Each part can be exchanged for the one that YOLACT has, by one argument.

    Attributes:
        image_size: side of the square network input, pixels.
        backbone: name for `protomask.models.layers.backbone.build_backbone`.
        backbone_levels: which of its levels are used, finest first: C2, which gives the prototypes their detail, and
            those that feed the neck.
        neck: "pafpn", top-down and bottom-up with separable convolutions (Liu et al. 2018, PANet), or "fpn", that of
            YOLACT.
        neck_channels: width of the neck and of the head.
        num_levels: pyramid levels P3, P4, ...
        head: "points", one point per cell whose box is four distances (Tian et al. 2019, FCOS), or "anchors", several
            boxes per cell that are corrected, as in YOLACT.
        branches: "decoupled", one branch for classes and one for boxes and masks, or "shared", one convolution for all,
            as in YOLACT.
        branch_depth: separable convolutions in each decoupled branch.
        output_kernel: size of the convolutions that give the outputs, 1 or 3.
        box_bins: of points: 0, each distance is one output; or it is the mean of so many fixed values, at least 2, with
            probabilities that the network gives them (Li et al. 2020, Generalized Focal Loss, section 3.2).
        anchor_scales: of anchors: side lengths in network pixels, one tuple per level.
        anchor_aspect_ratios: of anchors: width over height.
        score: what class scores are: "rated", the probability of the class times the IoU that one more output expects
            of the mask (as Huang et al. 2019, Mask Scoring R-CNN, but for every point); "quality", both as one output
            (Zhang et al. 2021, VarifocalNet, with masks); or "class", the probability alone, as in YOLACT.
        prototypes: "fused", made from all levels, or "p3", made from P3 as in YOLACT.
        prototype_convolutions: of "fused": "dense", ordinary ones, as those of "p3", or "separable", which learn more
            slowly.
        prototype_channels: width of the branch that makes them.
        prototype_upsamplings: each doubles their resolution, beginning at that of P3; stride 4 takes one.
        num_prototypes: number of prototypes.
        mask_head: "linear", a mask is a weighted sum of prototypes, or "dynamic", it comes from two small convolutions
            of its own, which also see where in the box a cell lies (Tian et al. 2020, CondInst).
        dynamic_channels: width between these two.
        one_to_one: a second class branch that learns one point per object, so that prediction needs no NMS (Wang et al.
            2024, YOLOv10).
        separable_start: weights of depthwise convolutions before training: "identity", what they are given and a little
            noise; or "xavier", as all other convolutions.
        pixel_mean: RGB, 0..255 scale.
        pixel_std: RGB, 0..255 scale.
        antialias: filter when shrinking images.
        assigner: which points learn an object: "aligned", those whose score and overlap are best (Feng et al. 2021,
            TOOD), the overlap being the mean of box and mask IoU; or "static", those whose own boxes overlap it.
        points_per_object: maximum number of points, or anchors, that learn an object.
        score_power: exponent of the score in the alignment.
        overlap_power: exponent of the overlap in the alignment.
        positive_iou: "static": anchors above are positive (see `protomask.ops.matching.Matcher`).
        negative_iou: "static": anchors below are background.
        negatives_per_positive: hard negatives per positive, of the scores "rated" and "class".
        box_loss: "giou" (Rezatofighi et al. 2019); "giou_l1", with the distance of the encoded boxes beside it, as
            Carion et al. 2020 (DETR) have both; or "smooth_l1" on the encoded box, as in YOLACT.
        mask_loss: "dice_bce", Dice and cross entropy, or "bce", cross entropy alone; both are means over an enlarged
            box, so that each object counts alike.
        mask_points: number of places along each side of an object's enlarged box that the mask losses look at.
        masks_per_object: maximum number of predictions of an object that take part in the mask losses, the best ones.
        objects_to_train: maximum number of objects of an image that take part in the mask losses.
        box_supervision: weight, in the mask term, of what masks learn where only the box of the object can be trusted
            (Tian et al. 2021, BoxInst); with 0 they learn nothing there.
        loss_weight_box: weight of the box term.
        loss_weight_class: weight of the class term.
        loss_weight_quality: weight of the term of the expected IoU, of the score "rated".
        loss_weight_mask: weight of the mask terms.
        loss_weight_semantic: weight of the semantic term, which only training has; 0 leaves its layer out of the loss.

    """

    image_size: ImageSide = 320
    backbone: Text = "efficientnet_lite0"
    backbone_levels: tuple[Text, ...] = ("C2", "C3", "C4", "C5")
    neck: Neck = "pafpn"
    neck_channels: Width = 64
    num_levels: Depth = 3
    head: Head = "points"
    branches: Branches = "decoupled"
    branch_depth: Depth = 2
    output_kernel: Literal[1, 3] = 1
    box_bins: CountOrZero = 0
    anchor_scales: tuple[tuple[Positive, ...], ...] = ((16.0, 24.0), (32.0, 48.0), (64.0, 128.0))
    anchor_aspect_ratios: Annotated[tuple[Positive, ...], NotEmpty()] = (1.0, 0.5, 2.0)
    score: Score = "rated"
    prototypes: Prototypes = "fused"
    prototype_convolutions: Convolutions = "separable"
    prototype_channels: Width = 32
    prototype_upsamplings: Depth = 1
    num_prototypes: Width = 16
    mask_head: MaskHead = "linear"
    dynamic_channels: Width = 8
    one_to_one: bool = False
    separable_start: SeparableStart = "identity"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    antialias: bool = True
    assigner: Assigner = "aligned"
    points_per_object: Count = 10
    score_power: NonNegative = 1.0
    overlap_power: NonNegative = 3.0
    positive_iou: Unit = 0.4
    negative_iou: Unit = 0.3
    negatives_per_positive: Count = 3
    box_loss: BoxLoss = "giou_l1"
    mask_loss: MaskLoss = "dice_bce"
    mask_points: Count = 24
    masks_per_object: Count = 5
    objects_to_train: Count = 64
    box_supervision: NonNegative = 1.0
    loss_weight_box: NonNegative = 2.0
    loss_weight_class: NonNegative = 1.0
    loss_weight_quality: NonNegative = 1.0
    loss_weight_mask: NonNegative = 2.0
    loss_weight_semantic: NonNegative = 0.5

    @property
    def sums_prototypes(self) -> bool:
        """See `PrototypeModelConfig.sums_prototypes`."""
        return self.mask_head == "linear"

    def _check(self) -> None:
        self._expect("backbone_levels", self.backbone_levels[:1] == ("C2",), "C2 as the first")
        inputs = len(self.backbone_levels) - 1
        self._expect("backbone_levels", 1 <= inputs <= self.num_levels, "1 to num_levels names after C2")
        self._expect("num_levels", self.neck == "fpn" or inputs == self.num_levels, f"{inputs} with the neck pafpn")
        averages = self.duplicates == "average" and not self.sums_prototypes
        self._expect("duplicates", not averages, f"drop with mask_head={self.mask_head}")
        self._expect("box_bins", self.box_bins != 1, "0 or at least 2")
        if self.head == "anchors":
            self._expect("box_bins", self.box_bins == 0, "0 with the head anchors")
            self._expect(
                "anchor_scales",
                len(self.anchor_scales) == self.num_levels and len({len(level) for level in self.anchor_scales}) == 1,
                f"equally many positive sizes for each of {self.num_levels} levels",
            )
        self._expect(
            "negative_iou", self.negative_iou <= self.positive_iou, f"at most positive_iou={self.positive_iou}"
        )

    @property
    def scores_masks(self) -> bool:
        """Whether the scores of the network are the expected IoU of its masks."""
        return self.score != "class"

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each pyramid level, finest first."""
        strides = [STRIDES.get(level, 8) for level in self.backbone_levels[1:]]
        while len(strides) < self.num_levels:
            strides.append(2 * strides[-1])
        return tuple(strides)

    @property
    def anchors_per_cell(self) -> int:
        """Points, or anchors, at one position of one level."""
        return 1 if self.head == "points" else len(self.anchor_scales[0]) * len(self.anchor_aspect_ratios)

    @property
    def anchors_per_level(self) -> tuple[int, ...]:
        """Points, or anchors, of each level, finest first, with a backbone whose halvings round up."""
        return tuple(ceil(self.image_size / stride) ** 2 * self.anchors_per_cell for stride in self.strides)

    @property
    def mask_parameters(self) -> int:
        """Numbers per point that make its mask."""
        if self.mask_head == "linear":
            return self.num_prototypes
        return (self.num_prototypes + 2) * self.dynamic_channels + 2 * self.dynamic_channels + 1
