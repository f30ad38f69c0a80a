"""One frozen config per model family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil
from typing import Any, Literal, Self, get_args

from protomask.errors import ConfigError
from protomask.models.conventions import Conventions
from protomask.structures.geometry import ImageGeometry, ShortSideGeometry
from protomask.structures.resize import RESIZE_METHODS, ResizeMethod

NmsMode = Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"]
NMS_MODES: tuple[str, ...] = get_args(NmsMode)
Norm = Literal["none", "batch"]
ExtraLevelsFrom = Literal["P5", "C5"]
STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
"""Of the levels of every backbone."""

COCO_ANCHOR_SCALES = ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,))


class ModelConfig:
    """What the configs of all families do alike."""

    name: str
    num_classes: int

    def _expect(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"{field}: expected {expected}, got {getattr(self, field)!r}")

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Further changes that come with these."""
        return {}

    def override(self, **changes: Any) -> Self:
        """A copy with some fields changed; a new ``image_size`` alone also scales what depends on it.

        Raises:
            ConfigError: a field does not exist or its value is wrong.

        """
        known = {entry.name for entry in fields(self)}  # type: ignore[arg-type]
        for name in changes:
            if name not in known:
                raise ConfigError(f"{name}: no such setting; known are {', '.join(sorted(known))}")
        size = changes.get("image_size")
        if size is not None and not isinstance(size, int):
            raise ConfigError(f"image_size: expected a whole number of pixels, got {size!r}")
        changes = {**self._implied_by(changes), **changes}
        return replace(self, **{name: _as_tuple(value) for name, value in changes.items()})  # type: ignore[type-var]

    def override_given(self, **changes: Any) -> Self:
        """`override` for those changes that are not None."""
        return self.override(**{name: value for name, value in changes.items() if value is not None})

    def for_prediction(self, **thresholds: Any) -> Self:
        """The config whose thresholds a prediction has: these where they are given, and what follows from them.

        Raises:
            ConfigError: a threshold is out of range.

        """
        return self.override_given(**thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown, missing or wrong.

        """
        known = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        missing = sorted({"name", "num_classes"} - set(values))
        if unknown or missing:
            raise ConfigError(f"model config: unknown fields {unknown}, missing fields {missing}")
        return cls(**{name: _as_tuple(value) for name, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class YolactConfig(ModelConfig):
    """Everything that defines a YOLACT network (Bolya et al. 2019) and how its output is read.

    Attributes:
        name: preset this came from.
        num_classes: without background.
        image_size: side of the square network input, pixels.
        backbone: name for `protomask.models.layers.backbone.build_backbone`.
        backbone_levels: which of its levels feed the pyramid, finest first; "C3" has stride 8.
        deformable_layers: for each ResNet stage C2 to C5, how many of its blocks may be deformable (YOLACT++); empty
            for none, see `protomask.models.layers.deform_conv.deformable_blocks`.
        deformable_interval: of those blocks, one in so many is.
        fpn_channels: width of the pyramid and of the prediction head.
        fpn_relu: rectify the levels that the backbone feeds, as the official code does.
        fpn_extra_from: the coarser levels are made from "P5", the pyramid's coarsest of the others, or from "C5", the
            backbone's coarsest, as it is.
        num_levels: pyramid levels P3, P4, ...
        protonet_channels: width of the Protonet.
        protonet_upsamplings: each doubles the prototypes' resolution, beginning at that of P3; the paper has one.
        protonet_detail: the first of ``backbone_levels`` (twice as fine as the next) feeds the Protonet instead of the
            pyramid.
        num_prototypes: k in the paper.
        rescoring_channels: widths of the network that estimates each mask's IoU (YOLACT++); empty for none.
        norm: normalisation in pyramid, head and Protonet; the official networks have none.
        anchor_scales: side lengths in network pixels, one tuple per level.
        anchor_aspect_ratios: width over height.
        square_anchors: every anchor is a square whatever its ratio, as the published COCO models were trained.
        pixel_mean: RGB, 0..255 scale.
        pixel_std: RGB, 0..255 scale.
        antialias: filter when shrinking images.
        resize_method: how pictures are resized, see `protomask.structures.geometry.ImageGeometry`; training resizes
            with its augmentation.
        positive_iou: anchors above are positive (see `protomask.ops.matching.Matcher`).
        negative_iou: anchors below are background.
        crowd_overlap: share of an anchor inside a crowd above which it is neutral.
        negatives_per_positive: hard negatives per positive anchor.
        masks_to_train: at most so many positives of an image take part in the mask loss.
        rescoring_min_area: masks of at most so many prototype pixels do not train the rescoring network.
        loss_weight_box: weight of the box term.
        loss_weight_class: weight of the class term.
        loss_weight_mask: weight of the mask term.
        loss_weight_semantic: weight of the semantic term; 0 leaves the semantic head out of the loss.
        loss_weight_rescoring: weight of the mask rescoring term.
        candidate_threshold: anchors whose best class score is not above this are never looked at.
        candidates_per_level: of each pyramid level at most so many anchors, those of the best scores, are looked at;
            None for no limit.
        threshold_detections: ``candidate_threshold`` also holds for each detection of fast NMS, which can otherwise
            return an anchor with more classes than the one that passed. (The greedy modes always do so.)
        max_size_ratio: the sides of a box are at most so many times, and at least the same part of, its anchor's; None
            for no limit.
        clip_boxes: to the image before NMS and before masks are cropped; otherwise only those of the results.
        empty_boxes_suppress: in fast NMS, a better box without area suppresses another one without area.
        nms: one of fast, cross_class_fast, batched, soft_linear, soft_gaussian.
        iou_threshold: overlap above which NMS suppresses.
        max_candidates: anchors per class that enter fast NMS.
        max_detections: at most so many instances per image.

    """

    name: str
    num_classes: int
    image_size: int = 550
    backbone: str = "resnet101"
    backbone_levels: tuple[str, ...] = ("C3", "C4", "C5")
    deformable_layers: tuple[int, ...] = ()
    deformable_interval: int = 1
    fpn_channels: int = 256
    fpn_relu: bool = True
    fpn_extra_from: ExtraLevelsFrom = "P5"
    num_levels: int = 5
    protonet_channels: int = 256
    protonet_upsamplings: int = 1
    protonet_detail: bool = False
    num_prototypes: int = 32
    rescoring_channels: tuple[int, ...] = ()
    norm: Norm = "none"
    anchor_scales: tuple[tuple[float, ...], ...] = COCO_ANCHOR_SCALES
    anchor_aspect_ratios: tuple[float, ...] = (1.0, 0.5, 2.0)
    square_anchors: bool = True
    pixel_mean: tuple[float, float, float] = (123.68, 116.78, 103.94)
    pixel_std: tuple[float, float, float] = (58.40, 57.12, 57.38)
    antialias: bool = False
    resize_method: ResizeMethod = "float"
    positive_iou: float = 0.5
    negative_iou: float = 0.4
    crowd_overlap: float = 0.7
    negatives_per_positive: int = 3
    masks_to_train: int = 100
    rescoring_min_area: int = 25
    loss_weight_box: float = 1.5
    loss_weight_class: float = 1.0
    loss_weight_mask: float = 6.125
    loss_weight_semantic: float = 1.0
    loss_weight_rescoring: float = 25.0
    candidate_threshold: float = 0.05
    candidates_per_level: int | None = None
    threshold_detections: bool = False
    max_size_ratio: float | None = None
    clip_boxes: bool = False
    empty_boxes_suppress: bool = True
    nms: NmsMode = "fast"
    iou_threshold: float = 0.5
    max_candidates: int = 200
    max_detections: int = 100

    def __post_init__(self) -> None:
        positive = (
            "num_classes", "fpn_channels", "num_levels", "protonet_channels", "protonet_upsamplings", "num_prototypes",
            "masks_to_train", "deformable_interval", "max_candidates", "max_detections", "negatives_per_positive",
        )  # fmt: skip
        for name in positive:
            self._expect(name, _is_whole(getattr(self, name), 1), "a whole number of at least 1")
        self._expect("image_size", _is_whole(self.image_size, 32), "a whole number of at least 32 pixels")
        self._expect("nms", self.nms in NMS_MODES, f"one of {', '.join(NMS_MODES)}")
        self._expect("norm", self.norm in get_args(Norm), f"one of {', '.join(get_args(Norm))}")
        self._expect("fpn_extra_from", self.fpn_extra_from in get_args(ExtraLevelsFrom), "P5 or C5")
        self._expect("resize_method", self.resize_method in RESIZE_METHODS, f"one of {', '.join(RESIZE_METHODS)}")
        self._expect(
            "antialias", not (self.antialias and self.resize_method == "opencv"), "False with resize_method opencv"
        )
        limit, ratio = self.candidates_per_level, self.max_size_ratio
        self._expect(
            "candidates_per_level", limit is None or _is_whole(limit, 1), "None or a whole number of at least 1"
        )
        self._expect("max_size_ratio", ratio is None or _is_number(ratio, 1), "None or a number of at least 1")
        pyramid_inputs = len(self.backbone_levels) - self.protonet_detail
        fits = 1 <= pyramid_inputs <= self.num_levels
        self._expect("backbone_levels", fits, "1 to num_levels names for the pyramid")
        self._expect(
            "anchor_scales",
            len(self.anchor_scales) == self.num_levels and len({len(level) for level in self.anchor_scales}) == 1
            and all(scale > 0 for level in self.anchor_scales for scale in level),
            f"equally many positive sizes for each of {self.num_levels} levels",
        )  # fmt: skip
        ratios = self.anchor_aspect_ratios
        self._expect("anchor_aspect_ratios", bool(ratios) and min(ratios) > 0, "positive ratios")
        self._expect("pixel_mean", len(self.pixel_mean) == 3, "three numbers")
        self._expect("pixel_std", len(self.pixel_std) == 3 and min(self.pixel_std) > 0, "three positive numbers")
        self._expect(
            "deformable_layers",
            len(self.deformable_layers) <= 4 and all(_is_whole(count, 0) for count in self.deformable_layers),
            "at most four numbers of blocks",
        )
        self._expect(
            "rescoring_channels",
            all(_is_whole(width, 1) for width in self.rescoring_channels) and self._rescoring_fits(),
            "positive widths, and no more of them than leave a pixel of the prototypes (each halves their sides)",
        )
        for name in ("candidate_threshold", "iou_threshold", "positive_iou", "negative_iou", "crowd_overlap"):
            self._expect(name, _is_number(getattr(self, name), 0, 1), "a number from 0 to 1")
        self._expect(
            "negative_iou", self.negative_iou <= self.positive_iou, f"at most positive_iou={self.positive_iou}"
        )
        weights = ("box", "class", "mask", "semantic", "rescoring")
        for name in ("rescoring_min_area", *(f"loss_weight_{term}" for term in weights)):
            self._expect(name, _is_number(getattr(self, name), 0), "a number of at least 0")

    def _rescoring_fits(self) -> bool:
        finest = self.backbone_levels[int(self.protonet_detail)]
        side: int = self.image_size // STRIDES.get(finest, STRIDES["C3"]) * 2**self.protonet_upsamplings
        for _ in self.rescoring_channels:
            side = (side - 3) // 2 + 1
        return side >= 1

    @property
    def geometry(self) -> ImageGeometry:
        """The way from an image to the network's input."""
        return ImageGeometry(
            image_size=(self.image_size, self.image_size),
            mean=self.pixel_mean,
            std=self.pixel_std,
            antialias=self.antialias,
            resize_method=self.resize_method,
        )

    def for_prediction(self, **thresholds: Any) -> YolactConfig:
        """See `ModelConfig.for_prediction`."""
        config = self.override_given(**thresholds)
        if config.max_detections > config.max_candidates:
            # As many candidates for each detection as before, or dense images would lose detections to that limit.
            ratio = config.max_detections / self.max_detections
            config = config.override(max_candidates=ceil(self.max_candidates * ratio))
        if thresholds.get("max_detections") is None and config.nms == "cross_class_fast":
            config = config.override(max_detections=max(config.max_candidates, config.max_detections))
        return config

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at one position of one level."""
        return len(self.anchor_scales[0]) * len(self.anchor_aspect_ratios)

    @property
    def level_sides(self) -> tuple[int, ...]:
        """Side of the square feature map of each level, finest first, with a backbone whose halvings round up."""
        inputs = self.backbone_levels[int(self.protonet_detail) :]
        sides = [ceil(self.image_size / STRIDES[level]) for level in inputs]
        while len(sides) < self.num_levels:
            sides.append(ceil(sides[-1] / 2))
        return tuple(sides)

    @property
    def anchors_per_level(self) -> tuple[int, ...]:
        """Anchors of each level, finest first, see `level_sides`."""
        return tuple(side * side * self.anchors_per_cell for side in self.level_sides)

    def at_image_size(self, image_size: int) -> YolactConfig:
        """The same network for another input size: anchors cover the same share of the image.

        Sides are cut to whole pixels, as in the published 400 and 700 pixel models.
        """
        return replace(self, image_size=image_size, anchor_scales=self._anchor_scales_at(image_size))

    def _anchor_scales_at(self, image_size: int) -> tuple[tuple[float, ...], ...]:
        if image_size == self.image_size:
            return self.anchor_scales
        return tuple(
            tuple(float(max(1, int(scale * image_size / self.image_size))) for scale in level)
            for level in self.anchor_scales
        )

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("image_size") is None:
            return {}
        return {"anchor_scales": self._anchor_scales_at(changes["image_size"])}


@dataclass(frozen=True, kw_only=True)
class RCNNConfig(ModelConfig):
    """Everything that defines a Mask R-CNN (He et al. 2017) or Mask Scoring R-CNN (Huang et al. 2019).

    Attributes:
        name: preset this came from.
        num_classes: without background.
        image_size: short side of the resized image, pixels.
        max_image_size: limit of its long side.
        backbone: name for `protomask.models.layers.backbone.build_backbone`.
        backbone_levels: which of its levels feed the pyramid; only C2 to C5, whose strides anchors and RoIs assume.
        fpn_channels: width of pyramid and heads.
        head_channels: width of the fully connected layers.
        convolutional_heads: four convolutions before the fully connected layer of the box head, two in the RPN, batch
            norm in pyramid and heads: the "v2" of torchvision.
        mask_iou: a head estimates the IoU of each mask (Mask Scoring R-CNN).
        conventions: what weights of different origins mean.
        anchor_sizes: square root of the area of the anchors, one for each pyramid level, network pixels.
        anchor_aspect_ratios: HEIGHT over width.
        rpn_candidates: of each level, the best so many anchors become proposals.
        rpn_iou_threshold: overlap above which a better proposal suppresses another of its level.
        max_proposals: the best so many over all levels are looked at.
        training_rpn_candidates: in the place of ``rpn_candidates`` while training.
        training_max_proposals: likewise.
        rpn_positive_iou: anchors above are positive.
        rpn_negative_iou: anchors below are background.
        rpn_samples: anchors of an image that train the RPN.
        rpn_positive_share: at most so many of them are positive.
        positive_iou: proposals from here on are positive, others are background.
        roi_samples: proposals of an image that train the heads.
        roi_positive_share: at most so many of them are positive.
        crowd_overlap: share of an anchor or proposal inside a crowd above which it does not train.
        loss_weight_objectness: weight of a term of the loss.
        loss_weight_rpn_box: likewise.
        loss_weight_class: likewise.
        loss_weight_box: likewise.
        loss_weight_mask: likewise.
        loss_weight_mask_iou: likewise.
        candidate_threshold: boxes whose class score is not above this are never looked at.
        nms: one of fast, cross_class_fast, batched, soft_linear, soft_gaussian.
        iou_threshold: overlap above which NMS suppresses.
        max_detections: at most so many instances per image.

    """

    name: str
    num_classes: int
    image_size: int = 800
    max_image_size: int = 1333
    backbone: str = "resnet50"
    backbone_levels: tuple[str, ...] = ("C2", "C3", "C4", "C5")
    fpn_channels: int = 256
    head_channels: int = 1024
    convolutional_heads: bool = False
    mask_iou: bool = False
    conventions: Conventions = field(default_factory=Conventions)
    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    anchor_aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    rpn_candidates: int = 1000
    rpn_iou_threshold: float = 0.7
    max_proposals: int = 1000
    training_rpn_candidates: int = 2000
    training_max_proposals: int = 2000
    rpn_positive_iou: float = 0.7
    rpn_negative_iou: float = 0.3
    rpn_samples: int = 256
    rpn_positive_share: float = 0.5
    positive_iou: float = 0.5
    roi_samples: int = 512
    roi_positive_share: float = 0.25
    crowd_overlap: float = 0.7
    loss_weight_objectness: float = 1.0
    loss_weight_rpn_box: float = 1.0
    loss_weight_class: float = 1.0
    loss_weight_box: float = 1.0
    loss_weight_mask: float = 1.0
    loss_weight_mask_iou: float = 1.0
    candidate_threshold: float = 0.05
    nms: NmsMode = "batched"
    iou_threshold: float = 0.5
    max_detections: int = 100

    @property
    def geometry(self) -> ShortSideGeometry:
        """The way from an image to the network's input."""
        return ShortSideGeometry(
            image_size=self.image_size,
            max_image_size=self.max_image_size,
            mean=self.conventions.pixel_mean,
            std=self.conventions.pixel_std,
            channel_order=self.conventions.channel_order,
            resize_method=self.conventions.resize,
            rounding=self.conventions.resize_rounding,
        )

    def __post_init__(self) -> None:
        positive = (
            "num_classes", "fpn_channels", "head_channels", "rpn_candidates", "max_proposals",
            "training_rpn_candidates", "training_max_proposals", "rpn_samples", "roi_samples", "max_detections",
        )  # fmt: skip
        for name in positive:
            self._expect(name, _is_whole(getattr(self, name), 1), "a whole number of at least 1")
        self._expect("image_size", _is_whole(self.image_size, 32), "a whole number of at least 32 pixels")
        fits = _is_whole(self.max_image_size, self.image_size)
        self._expect("max_image_size", fits, f"a whole number of at least image_size={self.image_size}")
        self._expect("nms", self.nms in NMS_MODES, f"one of {', '.join(NMS_MODES)}")
        self._expect("backbone_levels", self.backbone_levels == ("C2", "C3", "C4", "C5"), "C2, C3, C4, C5")
        levels = len(self.backbone_levels) + 1
        sizes = len(self.anchor_sizes) == levels and min(self.anchor_sizes) > 0
        self._expect("anchor_sizes", sizes, f"{levels} positive sizes, one more than backbone_levels")
        ratios = self.anchor_aspect_ratios
        self._expect("anchor_aspect_ratios", bool(ratios) and min(ratios) > 0, "positive ratios")
        self._expect("conventions", isinstance(self.conventions, Conventions), "Conventions")
        shares = (
            "rpn_iou_threshold", "rpn_positive_iou", "rpn_negative_iou", "rpn_positive_share", "positive_iou",
            "roi_positive_share", "crowd_overlap", "candidate_threshold", "iou_threshold",
        )  # fmt: skip
        for name in shares:
            self._expect(name, _is_number(getattr(self, name), 0, 1), "a number from 0 to 1")
        at_most = self.rpn_negative_iou <= self.rpn_positive_iou
        self._expect("rpn_negative_iou", at_most, f"at most rpn_positive_iou={self.rpn_positive_iou}")
        for term in ("objectness", "rpn_box", "class", "box", "mask", "mask_iou"):
            name = f"loss_weight_{term}"
            self._expect(name, _is_number(getattr(self, name), 0), "a number of at least 0")

    def _implied_by(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if changes.get("image_size") is None:
            return {}
        return {"max_image_size": round(self.max_image_size * changes["image_size"] / self.image_size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown, missing or wrong.

        """
        conventions = values.get("conventions")
        if isinstance(conventions, Mapping):
            values = {**values, "conventions": Conventions.from_dict(conventions)}
        return super().from_dict(values)


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and value >= low


def _is_number(value: Any, low: float, high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value
