"""Key map of detectron2's Mask R-CNN with a ResNet-FPN backbone, as data."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, add_background_rows, last_row_first, rename_by
from protomask.models.rcnn.conventions import TINY, Conventions

SIGNATURE = ("proposal_generator.rpn_head.objectness_logits.weight", "roi_heads.box_predictor.cls_score.weight")
_STAGE = r"backbone\.bottom_up\.res{}\.(\d+)\."
KEY_MAP: KeyMap = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(.+)", r"backbone.body.bn1.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(.+)", r"backbone.body.conv1.\1"),
    *(
        (_STAGE.format(stage + 1) + pattern, rf"backbone.body.layer{stage}.\1.{replacement}")
        for stage in range(1, 5)
        for pattern, replacement in (
            (r"shortcut\.norm\.(.+)", r"downsample.1.\2"),
            (r"shortcut\.(.+)", r"downsample.0.\2"),
            (r"conv(\d)\.norm\.(.+)", r"bn\2.\3"),
            (r"(conv\d)\.(.+)", r"\2.\3"),
        )
    ),
    *((rf"backbone\.fpn_lateral{level + 2}\.(.+)", rf"fpn.inner_blocks.{level}.0.\1") for level in range(4)),
    *((rf"backbone\.fpn_output{level + 2}\.(.+)", rf"fpn.layer_blocks.{level}.0.\1") for level in range(4)),
    (r"proposal_generator\.rpn_head\.conv\.(.+)", r"rpn_head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(.+)", r"rpn_head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(.+)", r"rpn_head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(.+)", r"box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(.+)", r"box_head.fc7.\1"),
    (r"roi_heads\.box_predictor\.(.+)", r"box_predictor.\1"),
    *((rf"roi_heads\.mask_head\.mask_fcn{layer + 1}\.(.+)", rf"mask_head.{layer}.0.\1") for layer in range(4)),
    (r"roi_heads\.mask_head\.deconv\.(.+)", r"mask_predictor.conv5_mask.\1"),
    (r"roi_heads\.mask_head\.predictor\.(.+)", r"mask_predictor.mask_fcn_logits.\1"),
)
IGNORED = r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\..+"

CONVENTIONS = Conventions(
    channel_order="BGR",
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(1.0, 1.0, 1.0),
    resize="pillow",
    resize_rounding="half_up",
    stride_in_1x1=True,
    batch_norm_eps=1e-5,
    anchors="exact",
    limit_delta_below=False,
    min_proposal_side=TINY,
    min_detection_side=0.0,
    level_eps=1e-8,
    level_eps_inside=True,
    roi_align_aligned=True,
    roi_sampling_ratio=0,
    mask_paste="continuous",
    box_smooth_l1_beta=0.0,
)


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detectron2's tensors under our names, the background first in every layer that knows it."""
    renamed = rename_by(tensors, KEY_MAP, ignored=IGNORED)
    last_row_first(renamed, "box_predictor.cls_score")
    add_background_rows(renamed, "box_predictor.bbox_pred", rows=4)
    add_background_rows(renamed, "mask_predictor.mask_fcn_logits")
    return renamed


def conventions(filename: str, config_text: str | None = None) -> Conventions:
    """The same for every file of the ResNet-50 and ResNet-101 models with detectron2's default settings."""
    return CONVENTIONS
