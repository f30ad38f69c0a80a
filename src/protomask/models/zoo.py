"""Names of models: their configs, class names, published weights and published results; needs no PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from protomask.errors import ConfigError
from protomask.models.config import ModelConfig
from protomask.models.fcis.config import FCISConfig
from protomask.models.proto.config import ProtoConfig
from protomask.models.published import PUBLISHED
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.yolact.config import COCO_ANCHOR_SCALES, RESCORING_CHANNELS, YolactConfig

EVERYDAY_CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "boat", "bird", "bottle", "chair",
)  # fmt: skip
SHAPE_CLASS_NAMES = ("disk", "ring", "square", "triangle", "star", "cross", "crescent", "heart", "arrow", "bar")
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
    return yolact_resnet101().replace(name="yolact_resnet50", backbone="resnet50")


def yolact_resnet101_400() -> YolactConfig:
    """The paper's fastest model, "yolact_im400" in the official code."""
    return yolact_resnet101().at_image_size(400).replace(name="yolact_resnet101_400")


def yolact_resnet101_700() -> YolactConfig:
    """The paper's largest model, "yolact_im700" in the official code."""
    return yolact_resnet101().at_image_size(700).replace(name="yolact_resnet101_700", masks_to_train=300)


def yolact_darknet53() -> YolactConfig:
    """The paper's Darknet model; its input is scaled to 0..1 and not shifted."""
    return yolact_resnet101().replace(
        name="yolact_darknet53",
        backbone="darknet53",
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(255.0, 255.0, 255.0),
    )


def yolact_resnet50_pascal() -> YolactConfig:
    """The paper's Pascal SBD model: larger anchors with real aspect ratios."""
    return yolact_resnet50().replace(
        name="yolact_resnet50_pascal",
        num_classes=20,
        anchor_scales=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
        square_anchors=False,
    )


def yolact_plus_resnet50() -> YolactConfig:
    """YOLACT++: deformable blocks in all stages but the first, nine anchors per cell, mask rescoring."""
    return yolact_resnet50().replace(
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
    return yolact_plus_resnet50().replace(
        name="yolact_plus_resnet101",
        backbone="resnet101",
        deformable_layers=(0, 4, 23, 3),
        deformable_interval=3,
    )


def yolact_resnet18_256() -> YolactConfig:
    """A small model on ResNet-18, for machines with a little more to give than yolact_nano needs."""
    return yolact_nano().replace(name="yolact_resnet18_256", backbone="resnet18",
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


def protomask_n() -> ProtoConfig:
    """Our modern model, the smallest: points instead of anchors, scores that are the expected quality of the mask."""
    return ProtoConfig(
        name="protomask_n", num_classes=80, output_kernel=3, box_bins=11, prototype_upsamplings=2,
        prototype_convolutions="dense", duplicates="average",
    )  # fmt: skip


def everyday() -> ProtoConfig:
    """`protomask_n` for photographs, with ten everyday classes; trained at 320 px."""
    return protomask_n().replace(name="everyday", num_classes=len(EVERYDAY_CLASS_NAMES), image_size=384)


def shapes() -> ProtoConfig:
    """`protomask_n` for the scenes of `protomask data synth`; trained on parts of 256 px of enlarged scenes.

    Trained before boxes had bins, as `nuclei` was.
    """
    return protomask_n().replace(
        name="shapes", num_classes=len(SHAPE_CLASS_NAMES), image_size=512, box_bins=0, prototype_upsamplings=1,
        prototype_convolutions="separable", edges="pixels",
    )  # fmt: skip


def nuclei() -> ProtoConfig:
    """`protomask_n` for microscopy images with hundreds of small nuclei; trained on parts of 320 px."""
    return protomask_n().replace(
        name="nuclei", num_classes=1, image_size=960, nms="batched", max_candidates=2000, max_detections=400,
        box_bins=0, prototype_upsamplings=1, prototype_convolutions="separable", edges="pixels",
    )  # fmt: skip


def protomask_s() -> ProtoConfig:
    """A wider neck and head, and more prototypes."""
    return protomask_n().replace(name="protomask_s", neck_channels=96, prototype_channels=48, num_prototypes=24)


def protomask_m() -> ProtoConfig:
    """The largest of our modern models."""
    return protomask_n().replace(
        name="protomask_m", neck_channels=128, prototype_channels=64, num_prototypes=32, branch_depth=3
    )


def mask_rcnn_resnet50_fpn() -> RCNNConfig:
    """Mask R-CNN as torchvision has it."""
    return RCNNConfig(name="mask_rcnn_resnet50_fpn", num_classes=80)


def mask_rcnn_resnet50_fpn_v2() -> RCNNConfig:
    """Torchvision's second version: convolutions and batch norm in the heads (Li et al. 2021)."""
    return mask_rcnn_resnet50_fpn().replace(name="mask_rcnn_resnet50_fpn_v2", convolutional_heads=True)


def mask_rcnn_resnet101_fpn() -> RCNNConfig:
    """Mask R-CNN on ResNet-101."""
    return mask_rcnn_resnet50_fpn().replace(name="mask_rcnn_resnet101_fpn", backbone="resnet101")


def ms_rcnn_resnet50_fpn() -> RCNNConfig:
    """Mask Scoring R-CNN."""
    return mask_rcnn_resnet50_fpn().replace(name="ms_rcnn_resnet50_fpn", mask_iou=True)


def ms_rcnn_resnet101_fpn() -> RCNNConfig:
    """Mask Scoring R-CNN on ResNet-101."""
    return mask_rcnn_resnet101_fpn().replace(name="ms_rcnn_resnet101_fpn", mask_iou=True)


def fcis_resnet101() -> FCISConfig:
    """FCIS as published."""
    return FCISConfig(name="fcis_resnet101", num_classes=80)


def fcis_resnet50() -> FCISConfig:
    """FCIS on ResNet-50, of which there are no official weights."""
    return fcis_resnet101().replace(name="fcis_resnet50", backbone="resnet50")


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """One name of the zoo.

    Attributes:
        preset: makes the config.
        class_names: of the published weights.
        repository: Hugging Face repository of the weights, None where nobody publishes them there.
        filename: in that repository.
        revision: commit of that repository; None for its main branch.
        sha256: of the file; None where only the hub states it.
        packaged: file name of weights that ship with the package.
        official_name: what the official code calls the model; official file names begin with it.
        published: name in `protomask.models.published.PUBLISHED` of weights that are elsewhere; ``mask_ap``, ``source``
            and ``licence`` are theirs.
        mask_ap: published COCO mask AP in percent, see ``source``; None where nobody published one.
        source: where ``mask_ap`` is published.
        licence: SPDX name, of the weights; empty where there are none.
        recipe: that training begins with unless another one is named; None for the published one of YOLACT.

    """

    preset: Callable[[], ModelConfig]
    class_names: tuple[str, ...]
    repository: str | None = None
    filename: str | None = None
    revision: str | None = None
    sha256: str | None = None
    packaged: str | None = None
    official_name: str | None = None
    published: str | None = None
    mask_ap: float | None = None
    source: str = ""
    licence: str = ""
    recipe: str | None = None

    @property
    def scores_masks(self) -> bool:
        """Whether the model says how good each mask is."""
        return self.preset().scores_masks


def _published(preset: Callable[[], RCNNConfig], name: str) -> ZooEntry:
    weights = PUBLISHED[name]
    return ZooEntry(
        preset=preset, class_names=COCO_CLASS_NAMES, published=name, mask_ap=weights.mask_ap, source=weights.source,
        licence=weights.licence,
    )  # fmt: skip


_PAPER = "Bolya et al. 2019, table 1 (COCO test-dev)"
_PLUS_PAPER = "Bolya et al. 2020, YOLACT++, table 1 (COCO test-dev)"
ZOO: dict[str, ZooEntry] = {
    "everyday": ZooEntry(
        preset=everyday, class_names=EVERYDAY_CLASS_NAMES, packaged="everyday.safetensors", licence="MIT",
        recipe="photographs",
    ),
    "shapes": ZooEntry(
        preset=shapes, class_names=SHAPE_CLASS_NAMES, packaged="shapes.safetensors", licence="MIT", recipe="modern",
    ),
    "nuclei": ZooEntry(
        preset=nuclei, class_names=("nucleus",), packaged="nuclei.safetensors", licence="MIT", recipe="modern",
    ),
    "yolact_nano": ZooEntry(
        preset=yolact_nano, class_names=COCO_CLASS_NAMES, packaged="yolact_nano.safetensors", licence="MIT",
    ),
    "protomask_n": ZooEntry(preset=protomask_n, class_names=COCO_CLASS_NAMES, recipe="modern"),
    "protomask_s": ZooEntry(preset=protomask_s, class_names=COCO_CLASS_NAMES, recipe="modern"),
    "protomask_m": ZooEntry(preset=protomask_m, class_names=COCO_CLASS_NAMES, recipe="modern"),
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
    "fcis_resnet50": ZooEntry(preset=fcis_resnet50, class_names=COCO_CLASS_NAMES),
    "fcis_resnet101": ZooEntry(
        preset=fcis_resnet101, class_names=COCO_CLASS_NAMES, mask_ap=29.6,
        source="official FCIS repository (COCO test-dev)",
    ),
}  # fmt: skip


def list_models() -> list[str]:
    """Names that `load` and `build` know."""
    return list(ZOO)


def zoo_entry(name: str) -> ZooEntry:
    """Look a name up.

    Raises:
        ConfigError: no such name; the message lists them.

    """
    if not isinstance(name, str) or name not in ZOO:
        near = difflib.get_close_matches(str(name), ZOO, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"model: expected one of {', '.join(ZOO)}, got {name!r}{hint}")
    return ZOO[name]
