"""One frozen config per model family; presets are named functions of `protomask.models.zoo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from protomask.errors import ConfigError

NmsMode = Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"]
NMS_MODES: tuple[str, ...] = get_args(NmsMode)
Norm = Literal["none", "batch"]
STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
"""Of the levels of every backbone."""

COCO_ANCHOR_SCALES = ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,))


@dataclass(frozen=True, kw_only=True)
class YolactConfig:
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
    nms: NmsMode = "fast"
    iou_threshold: float = 0.5
    max_candidates: int = 200
    max_detections: int = 100

    def __post_init__(self) -> None:
        positive = (
            "num_classes", "fpn_channels", "num_levels", "protonet_channels", "protonet_upsamplings", "num_prototypes",
            "masks_to_train", "deformable_interval", "max_candidates", "max_detections", "negatives_per_positive",
        )  # fmt: skip
        for field in positive:
            self._expect(field, _is_whole(getattr(self, field), 1), "a whole number of at least 1")
        self._expect("image_size", _is_whole(self.image_size, 32), "a whole number of at least 32 pixels")
        self._expect("nms", self.nms in NMS_MODES, f"one of {', '.join(NMS_MODES)}")
        self._expect("norm", self.norm in get_args(Norm), f"one of {', '.join(get_args(Norm))}")
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
        for field in ("candidate_threshold", "iou_threshold", "positive_iou", "negative_iou", "crowd_overlap"):
            self._expect(field, _is_number(getattr(self, field), 0, 1), "a number from 0 to 1")
        self._expect(
            "negative_iou", self.negative_iou <= self.positive_iou, f"at most positive_iou={self.positive_iou}"
        )
        weights = ("box", "class", "mask", "semantic", "rescoring")
        for field in ("rescoring_min_area", *(f"loss_weight_{term}" for term in weights)):
            self._expect(field, _is_number(getattr(self, field), 0), "a number of at least 0")

    def _expect(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigError(f"{field}: expected {expected}, got {getattr(self, field)!r}")

    def _rescoring_fits(self) -> bool:
        finest = self.backbone_levels[int(self.protonet_detail)]
        side: int = self.image_size // STRIDES.get(finest, STRIDES["C3"]) * 2**self.protonet_upsamplings
        for _ in self.rescoring_channels:
            side = (side - 3) // 2 + 1
        return side >= 1

    @property
    def anchors_per_cell(self) -> int:
        """Anchors at one position of one level."""
        return len(self.anchor_scales[0]) * len(self.anchor_aspect_ratios)

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

    def override(self, **changes: Any) -> YolactConfig:
        """A copy with some fields changed; a new ``image_size`` alone also scales the anchors.

        Raises:
            ConfigError: a field does not exist or its value is wrong.

        """
        known = {field.name for field in fields(self)}
        for field in changes:
            if field not in known:
                raise ConfigError(f"{field}: no such setting; known are {', '.join(sorted(known))}")
        size = changes.get("image_size")
        if size is not None and "anchor_scales" not in changes:
            if not isinstance(size, int):
                raise ConfigError(f"image_size: expected a whole number of pixels, got {size!r}")
            changes["anchor_scales"] = self._anchor_scales_at(size)
        return replace(self, **{field: _as_tuple(value) for field, value in changes.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> YolactConfig:
        """Inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown, missing or wrong.

        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        missing = sorted({"name", "num_classes"} - set(values))
        if unknown or missing:
            raise ConfigError(f"model config: unknown fields {unknown}, missing fields {missing}")
        return cls(**{field: _as_tuple(value) for field, value in values.items()})


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and value >= low


def _is_number(value: Any, low: float, high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and low <= value <= high


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value
