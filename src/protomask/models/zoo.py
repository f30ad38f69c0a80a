"""Names of models: their configs, class names, published weights and published results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protomask.errors import ConfigError
from protomask.models.config import COCO_ANCHOR_SCALES, RCNNConfig, YolactConfig
from protomask.models.published import PUBLISHED
from protomask.models.rcnn.criterion import RCNNCriterion
from protomask.models.rcnn.model import MaskRCNN
from protomask.models.yolact.criterion import YolactCriterion
from protomask.models.yolact.mask_rescoring import RESCORING_CHANNELS
from protomask.models.yolact.model import Yolact

Network = Yolact | MaskRCNN

COCO_CLASS_NAMES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
PASCAL_CLASS_NAMES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def yolact_resnet101() -> YolactConfig:
    """The paper's main model, "yolact_base" in the official code."""
    return YolactConfig(name="yolact_resnet101", num_classes=80, backbone="resnet101")


def yolact_resnet50() -> YolactConfig:
    """The paper's ResNet-50 model."""
    return replace(yolact_resnet101(), name="yolact_resnet50", backbone="resnet50")


def yolact_resnet101_400() -> YolactConfig:
    """The paper's fastest model, "yolact_im400" in the official code."""
    return replace(yolact_resnet101().at_image_size(400), name="yolact_resnet101_400")


def yolact_resnet101_700() -> YolactConfig:
    """The paper's largest model, "yolact_im700" in the official code."""
    return replace(yolact_resnet101().at_image_size(700), name="yolact_resnet101_700", masks_to_train=300)


def yolact_darknet53() -> YolactConfig:
    """The paper's Darknet model; its input is scaled to 0..1 and not shifted."""
    return replace(
        yolact_resnet101(),
        name="yolact_darknet53",
        backbone="darknet53",
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(255.0, 255.0, 255.0),
    )


def yolact_resnet50_pascal() -> YolactConfig:
    """The paper's Pascal SBD model: larger anchors with real aspect ratios."""
    return replace(
        yolact_resnet50(),
        name="yolact_resnet50_pascal",
        num_classes=20,
        anchor_scales=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
        square_anchors=False,
    )


def yolact_plus_resnet50() -> YolactConfig:
    """YOLACT++: deformable blocks in all stages but the first, nine anchors per cell, mask rescoring."""
    return replace(
        yolact_resnet50(),
        name="yolact_plus_resnet50",
        deformable_layers=(0, 4, 6, 3),
        anchor_scales=tuple(
            tuple(scale * 2 ** (third / 3) for third in range(3) for scale in level) for level in COCO_ANCHOR_SCALES
        ),
        square_anchors=False,
        rescoring_channels=RESCORING_CHANNELS,
    )


def yolact_plus_resnet101() -> YolactConfig:
    """YOLACT++ on ResNet-101, "yolact_plus_base" in the official code: every third block is deformable."""
    return replace(
        yolact_plus_resnet50(),
        name="yolact_plus_resnet101",
        backbone="resnet101",
        deformable_layers=(0, 4, 23, 3),
        deformable_interval=3,
    )


def yolact_resnet18_256() -> YolactConfig:
    """A small model on ResNet-18, for machines with a little more to give than yolact_nano needs."""
    return replace(
        yolact_nano(), name="yolact_resnet18_256", backbone="resnet18",
        backbone_levels=("C2", "C3", "C4", "C5"), protonet_channels=64,
    )  # fmt: skip


def yolact_nano() -> YolactConfig:
    """Our model for real time on a CPU: a light backbone, narrow pyramid and heads, batch norm everywhere."""
    return YolactConfig(
        name="yolact_nano",
        num_classes=80,
        image_size=256,
        backbone="efficientnet_lite0",
        backbone_levels=("C2", "C3", "C4", "C5"),
        fpn_channels=128,
        protonet_channels=32,
        protonet_upsamplings=2,
        protonet_detail=True,
        num_prototypes=24,
        norm="batch",
        anchor_scales=((12.0, 17.0), (24.0, 34.0), (48.0, 68.0), (96.0, 136.0), (180.0, 240.0)),
        square_anchors=False,
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(58.395, 57.12, 57.375),
        antialias=True,
        # Five times the positives of the published thresholds and scales: short trainings learn faster.
        positive_iou=0.4,
        negative_iou=0.3,
    )


def nuclei() -> YolactConfig:
    """`yolact_nano` for microscopy images with hundreds of small nuclei; trained at 384, then at 512 px."""
    return replace(
        yolact_nano(),
        name="nuclei",
        num_classes=1,
        image_size=512,
        anchor_scales=((11.0, 17.0), (26.0, 36.0), (51.0, 72.0), (102.0, 144.0), (204.0, 270.0)),
        max_candidates=2000,
        max_detections=400,
    )


def mask_rcnn_resnet50_fpn() -> RCNNConfig:
    """Mask R-CNN as torchvision has it."""
    return RCNNConfig(name="mask_rcnn_resnet50_fpn", num_classes=80)


def mask_rcnn_resnet50_fpn_v2() -> RCNNConfig:
    """Torchvision's second version: convolutions and batch norm in the heads (Li et al. 2021)."""
    return replace(mask_rcnn_resnet50_fpn(), name="mask_rcnn_resnet50_fpn_v2", convolutional_heads=True)


def mask_rcnn_resnet101_fpn() -> RCNNConfig:
    """Mask R-CNN on ResNet-101."""
    return replace(mask_rcnn_resnet50_fpn(), name="mask_rcnn_resnet101_fpn", backbone="resnet101")


def ms_rcnn_resnet50_fpn() -> RCNNConfig:
    """Mask Scoring R-CNN."""
    return replace(mask_rcnn_resnet50_fpn(), name="ms_rcnn_resnet50_fpn", mask_iou=True)


def ms_rcnn_resnet101_fpn() -> RCNNConfig:
    """Mask Scoring R-CNN on ResNet-101."""
    return replace(mask_rcnn_resnet101_fpn(), name="ms_rcnn_resnet101_fpn", mask_iou=True)


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """One name of the zoo.

    Attributes:
        preset: makes the config.
        class_names: of the published weights.
        repository: Hugging Face repository of the weights, None where nobody publishes them there.
        filename: in that repository.
        packaged: file name of weights that ship with the package.
        official_name: what the official code calls the model; official file names begin with it.
        published: name in `protomask.models.published.PUBLISHED` of weights that are elsewhere; ``mask_ap``, ``source``
            and ``licence`` are theirs.
        mask_ap: published COCO mask AP in percent, see ``source``; None where nobody published one.
        source: where ``mask_ap`` is published.
        licence: SPDX name, of the weights; empty where there are none.

    """

    preset: Callable[[], YolactConfig | RCNNConfig]
    class_names: tuple[str, ...]
    repository: str | None = None
    filename: str | None = None
    packaged: str | None = None
    official_name: str | None = None
    published: str | None = None
    mask_ap: float | None = None
    source: str = ""
    licence: str = ""

    @property
    def scores_masks(self) -> bool:
        """Whether the model says how good each mask is."""
        config = self.preset()
        return config.mask_iou if isinstance(config, RCNNConfig) else bool(config.rescoring_channels)


def _published(preset: Callable[[], RCNNConfig], name: str) -> ZooEntry:
    weights = PUBLISHED[name]
    return ZooEntry(
        preset=preset, class_names=COCO_CLASS_NAMES, published=name, mask_ap=weights.mask_ap, source=weights.source,
        licence=weights.licence,
    )  # fmt: skip


_PAPER = "Bolya et al. 2019, table 1 (COCO test-dev)"
_PLUS_PAPER = "Bolya et al. 2020, YOLACT++, table 1 (COCO test-dev)"
ZOO: dict[str, ZooEntry] = {
    "yolact_nano": ZooEntry(
        preset=yolact_nano, class_names=COCO_CLASS_NAMES, packaged="yolact_nano.safetensors", licence="MIT",
    ),
    "nuclei": ZooEntry(preset=nuclei, class_names=("nucleus",), packaged="nuclei.safetensors", licence="MIT"),
    "yolact_resnet18_256": ZooEntry(preset=yolact_resnet18_256, class_names=COCO_CLASS_NAMES),
    "yolact_resnet50": ZooEntry(
        preset=yolact_resnet50, class_names=COCO_CLASS_NAMES, official_name="yolact_resnet50",
        repository="dbolya/yolact-resnet50", filename="yolact_resnet50_54_800000.pth",
        licence="MIT", mask_ap=28.2, source=_PAPER,
    ),
    "yolact_resnet101": ZooEntry(
        preset=yolact_resnet101, class_names=COCO_CLASS_NAMES, official_name="yolact_base",
        repository="dbolya/yolact-base", filename="yolact_base_54_800000.pth",
        licence="MIT", mask_ap=29.8, source=_PAPER,
    ),
    "yolact_resnet101_400": ZooEntry(
        preset=yolact_resnet101_400, class_names=COCO_CLASS_NAMES, official_name="yolact_im400",
        mask_ap=24.9, source=_PAPER,
    ),
    "yolact_resnet101_700": ZooEntry(
        preset=yolact_resnet101_700, class_names=COCO_CLASS_NAMES, official_name="yolact_im700",
        repository="dbolya/yolact-im700", filename="yolact_im700_54_800000.pth",
        licence="MIT", mask_ap=31.2, source=_PAPER,
    ),
    "yolact_darknet53": ZooEntry(
        preset=yolact_darknet53, class_names=COCO_CLASS_NAMES, official_name="yolact_darknet53",
        repository="dbolya/yolact-darknet53", filename="yolact_darknet53_54_800000.pth",
        licence="MIT", mask_ap=28.7, source=_PAPER,
    ),
    "yolact_resnet50_pascal": ZooEntry(
        preset=yolact_resnet50_pascal, class_names=PASCAL_CLASS_NAMES, official_name="yolact_resnet50_pascal",
    ),
    "yolact_plus_resnet50": ZooEntry(
        preset=yolact_plus_resnet50, class_names=COCO_CLASS_NAMES, official_name="yolact_plus_resnet50",
        repository="dbolya/yolact-plus-resnet50", filename="yolact_plus_resnet50_54_800000.pth", licence="MIT",
        mask_ap=34.1, source=_PLUS_PAPER,
    ),
    "yolact_plus_resnet101": ZooEntry(
        preset=yolact_plus_resnet101, class_names=COCO_CLASS_NAMES, official_name="yolact_plus_base",
        repository="dbolya/yolact-plus-base", filename="yolact_plus_base_54_800000.pth", licence="MIT",
        mask_ap=34.6, source=_PLUS_PAPER,
    ),
    "mask_rcnn_resnet50_fpn": _published(mask_rcnn_resnet50_fpn, "maskrcnn_resnet50_fpn"),
    "mask_rcnn_resnet50_fpn_v2": _published(mask_rcnn_resnet50_fpn_v2, "maskrcnn_resnet50_fpn_v2"),
    "mask_rcnn_resnet101_fpn": _published(mask_rcnn_resnet101_fpn, "mask_rcnn_r101_fpn_mstrain-poly_3x_coco"),
    "ms_rcnn_resnet50_fpn": _published(ms_rcnn_resnet50_fpn, "ms_rcnn_r50_caffe_fpn_2x_coco"),
    "ms_rcnn_resnet101_fpn": _published(ms_rcnn_resnet101_fpn, "ms_rcnn_r101_caffe_fpn_2x_coco"),
}  # fmt: skip
DEFAULT_MODEL = "yolact_nano"


@dataclass(frozen=True, kw_only=True)
class OptionalPart:
    """A part that a trained network can be given afterwards.

    Attributes:
        family: of the networks.
        attribute: of the network, None where it has not got the part.
        options: config fields that give it the part.

    """

    family: type[YolactConfig] | type[RCNNConfig]
    attribute: str
    options: Mapping[str, Any]


OPTIONAL_PARTS = {
    "mask_rescoring": OptionalPart(
        family=YolactConfig, attribute="rescoring", options={"rescoring_channels": RESCORING_CHANNELS}
    ),
    "mask_iou": OptionalPart(family=RCNNConfig, attribute="mask_iou_head", options={"mask_iou": True}),
}


def list_models() -> list[str]:
    """Names that `load` and `build` know."""
    return list(ZOO)


def zoo_entry(name: str) -> ZooEntry:
    """Look a name up.

    Raises:
        ConfigError: no such name; the message lists them.

    """
    if name not in ZOO:
        raise ConfigError(f"model: expected one of {', '.join(ZOO)}, got {name!r}")
    return ZOO[name]


def build_network(
    model: str | YolactConfig | RCNNConfig,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    pretrained_backbone: bool = False,
    **overrides: Any,
) -> Network:
    """An untrained network.

    Args:
        model: zoo name or config.
        class_names: names of the classes.
        num_classes: number of classes where they have no names yet: they become "class_0", "class_1" and so on.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).
        overrides: config fields to change, for example ``image_size=400``.

    Raises:
        ConfigError: unknown name or field, wrong value, or names and number that disagree.

    """
    if isinstance(class_names, str):
        raise ConfigError(f"class_names: expected a list of names, got the string {class_names!r}")
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise ConfigError(f"num_classes: expected {len(class_names)} as there are class_names, got {num_classes}")
    if isinstance(model, str):
        entry = zoo_entry(model)
        config = entry.preset()
        names: Sequence[str] | None = entry.class_names
    else:
        config, names = model, None
    if class_names is not None:
        names = class_names
    elif num_classes is not None or names is None:
        count = num_classes if num_classes is not None else config.num_classes
        if names is None or len(names) != count:
            names = [f"class_{index}" for index in range(count)]
    if not names:
        raise ConfigError("class_names: expected at least one name")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        raise ConfigError(f"class_names: expected different names, got repeated {repeated}")
    config = config.override(num_classes=len(names), **overrides)
    if isinstance(config, RCNNConfig):
        return MaskRCNN(config, names, pretrained_backbone=pretrained_backbone)
    return Yolact(config, names, pretrained_backbone=pretrained_backbone)


def build_criterion(network: Network, *, label_smoothing: float = 0.0) -> YolactCriterion | RCNNCriterion:
    """The training loss that belongs to a network."""
    if isinstance(network, MaskRCNN):
        return RCNNCriterion(network, label_smoothing=label_smoothing)
    return YolactCriterion(network.config, network.rescoring, label_smoothing=label_smoothing)
