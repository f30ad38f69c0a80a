"""Key map of torchvision's Mask R-CNN files (maskrcnn_resnet50_fpn and its v2), as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, rename_by
from protomask.models.rcnn.conventions import Conventions
from protomask.models.zoo import COCO_CLASS_NAMES

SIGNATURE = ("rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight")
# Files of before 2022 have no second number in the pyramid and the RPN, and other names in the mask head.
KEY_MAP: KeyMap = (
    (r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)", r"fpn.\1_blocks.\2.0.\3"),
    (r"backbone\.fpn\.(.+)", r"fpn.\1"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn_head.conv.0.0.\1"),
    (r"rpn\.head\.(.+)", r"rpn_head.\1"),
    *((rf"roi_heads\.mask_head\.mask_fcn{layer + 1}\.(.+)", rf"mask_head.{layer}.0.\1") for layer in range(4)),
    (r"roi_heads\.((?:box|mask)_(?:head|predictor)\..+)", r"\1"),
)
IGNORED = r"rpn\.anchor_generator\..+"

CONVENTIONS = Conventions()
COCO_V1_CONVENTIONS = replace(CONVENTIONS, batch_norm_eps=0.0)
COCO_V1_FILENAME = "maskrcnn_resnet50_fpn_coco"

UNUSED_COCO_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers between 1 and 90 that no category of COCO has; torchvision's files have rows for them."""


def coco_id_names() -> tuple[str, ...]:
    """Names of the 90 classes of files trained on COCO's own category ids, "unused 12" and so on among them."""
    names = iter(COCO_CLASS_NAMES)
    return tuple(f"unused {number}" if number in UNUSED_COCO_IDS else next(names) for number in range(1, 91))


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's tensors under our names."""
    return rename_by(tensors, KEY_MAP, ignored=IGNORED)


def conventions(filename: str, config_text: str | None = None) -> Conventions:
    """Torchvision's conventions; its published v1 weights alone were trained with a batch norm that has no epsilon."""
    return COCO_V1_CONVENTIONS if COCO_V1_FILENAME in filename else CONVENTIONS
