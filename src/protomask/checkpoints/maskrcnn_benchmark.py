"""Key map of maskrcnn-benchmark and the official Mask Scoring R-CNN, which is made of it, as data."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, rename_by
from protomask.models.rcnn.conventions import Conventions

SIGNATURE = ("rpn.head.cls_logits.weight", "roi_heads.box.predictor.cls_score.weight")
KEY_MAP: KeyMap = (
    (r"backbone\.body\.stem\.(.+)", r"backbone.body.\1"),
    *((rf"backbone\.fpn\.fpn_inner{level + 1}\.(.+)", rf"fpn.inner_blocks.{level}.0.\1") for level in range(4)),
    *((rf"backbone\.fpn\.fpn_layer{level + 1}\.(.+)", rf"fpn.layer_blocks.{level}.0.\1") for level in range(4)),
    (r"rpn\.head\.conv\.(.+)", r"rpn_head.conv.0.0.\1"),
    (r"rpn\.head\.(.+)", r"rpn_head.\1"),
    (r"roi_heads\.box\.feature_extractor\.(.+)", r"box_head.\1"),
    (r"roi_heads\.box\.predictor\.(.+)", r"box_predictor.\1"),
    *(
        (rf"roi_heads\.mask\.feature_extractor\.mask_fcn{layer + 1}\.(.+)", rf"mask_head.{layer}.0.\1")
        for layer in range(4)
    ),
    (r"roi_heads\.mask\.predictor\.(.+)", r"mask_predictor.\1"),
    *(
        (rf"roi_heads\.maskiou\.feature_extractor\.maskiou_fcn{layer + 1}\.(.+)", rf"mask_iou_head.convs.{layer}.\1")
        for layer in range(4)
    ),
    (r"roi_heads\.maskiou\.feature_extractor\.maskiou_(fc[12])\.(.+)", r"mask_iou_head.\1.\2"),
    (r"roi_heads\.maskiou\.predictor\.maskiou\.(.+)", r"mask_iou_head.iou.\1"),
)
IGNORED = r"rpn\.anchor_generator\..+"

CONVENTIONS = Conventions(
    channel_order="BGR",
    pixel_mean=(122.7717, 115.9465, 102.9801),
    pixel_std=(1.0, 1.0, 1.0),
    resize="pillow",
    resize_rounding="short_side",
    stride_in_1x1=True,
    batch_norm_eps=0.0,
    extent_offset=1.0,
    anchors="legacy",
    limit_delta_below=False,
    min_proposal_side=0.0,
    min_detection_side=0.0,
    nms_inclusive=True,
    level_eps=1e-6,
    level_eps_inside=True,
    roi_align_aligned=False,
    roi_sampling_ratio=2,
    mask_paste="integer",
    box_smooth_l1_beta=1.0,
    anchors_inside_image=True,
)


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official tensors under our names; the background comes first there too."""
    return rename_by(tensors, KEY_MAP, ignored=IGNORED)


def conventions(filename: str, config_text: str | None = None) -> Conventions:
    """The same for every file of this format."""
    return CONVENTIONS
