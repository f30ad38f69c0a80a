"""Key map of mmdetection's Mask R-CNN and Mask Scoring R-CNN (versions 2 and 3), as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, add_background_rows, keep_rows, last_row_first, rename_by
from protomask.models.rcnn.conventions import TINY, Conventions

SIGNATURE = ("rpn_head.rpn_cls.weight", "roi_head.bbox_head.fc_cls.weight")
KEY_MAP: KeyMap = (
    (r"backbone\.(.+)", r"backbone.body.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.+)", r"fpn.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(.+)", r"fpn.layer_blocks.\1.0.\2"),
    (r"rpn_head\.rpn_conv\.(.+)", r"rpn_head.conv.0.0.\1"),
    (r"rpn_head\.rpn_cls\.(.+)", r"rpn_head.cls_logits.\1"),
    (r"rpn_head\.rpn_reg\.(.+)", r"rpn_head.bbox_pred.\1"),
    (r"roi_head\.bbox_head\.shared_fcs\.0\.(.+)", r"box_head.fc6.\1"),
    (r"roi_head\.bbox_head\.shared_fcs\.1\.(.+)", r"box_head.fc7.\1"),
    (r"roi_head\.bbox_head\.fc_cls\.(.+)", r"box_predictor.cls_score.\1"),
    (r"roi_head\.bbox_head\.fc_reg\.(.+)", r"box_predictor.bbox_pred.\1"),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.(.+)", r"mask_head.\1.0.\2"),
    (r"roi_head\.mask_head\.upsample\.(.+)", r"mask_predictor.conv5_mask.\1"),
    (r"roi_head\.mask_head\.conv_logits\.(.+)", r"mask_predictor.mask_fcn_logits.\1"),
    (r"roi_head\.mask_iou_head\.convs\.(.+)", r"mask_iou_head.convs.\1"),
    (r"roi_head\.mask_iou_head\.fcs\.0\.(.+)", r"mask_iou_head.fc1.\1"),
    (r"roi_head\.mask_iou_head\.fcs\.1\.(.+)", r"mask_iou_head.fc2.\1"),
    (r"roi_head\.mask_iou_head\.fc_mask_iou\.(.+)", r"mask_iou_head.iou.\1"),
)
IGNORED = r".+\.num_batches_tracked|ema_.+|data_preprocessor\..+"

PYTORCH_CONVENTIONS = Conventions(
    channel_order="RGB",
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(58.395, 57.12, 57.375),
    resize="opencv",
    resize_rounding="half_up",
    stride_in_1x1=False,
    batch_norm_eps=1e-5,
    anchors="exact",
    limit_delta_below=True,
    min_proposal_side=TINY,
    min_detection_side=0.0,
    # log2(side / 56 + 1e-6) there is log2(side / 224 + 0.25e-6) + 2.
    level_eps=0.25e-6,
    level_eps_inside=True,
    roi_align_aligned=True,
    roi_sampling_ratio=0,
    mask_paste="continuous",
    box_smooth_l1_beta=0.0,
)
CAFFE_CONVENTIONS = replace(PYTORCH_CONVENTIONS, channel_order="BGR", pixel_std=(1.0, 1.0, 1.0), stride_in_1x1=True)
# In the text of a config, which is Python or JSON; all published Mask Scoring R-CNNs on a plain ResNet are Caffe's.
STYLE = re.compile(r"""style['"]?\s*[=:]\s*['"](caffe|pytorch)['"]""")
CAFFE_FILENAME = re.compile(r"caffe|ms[-_]rcnn[-_]r\d")


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mmdetection's tensors under our names, the background first in every layer that knows it."""
    renamed = rename_by(tensors, KEY_MAP, ignored=IGNORED)
    if "box_predictor.cls_score.weight" in renamed:
        # Some files of version 2.0 counted the background in this layer and never used its row, the last.
        keep_rows(renamed, "mask_iou_head.iou", rows=len(renamed["box_predictor.cls_score.weight"]) - 1)
    last_row_first(renamed, "box_predictor.cls_score")
    add_background_rows(renamed, "box_predictor.bbox_pred", rows=4)
    add_background_rows(renamed, "mask_predictor.mask_fcn_logits")
    add_background_rows(renamed, "mask_iou_head.iou")
    return renamed


def conventions(filename: str, config_text: str | None = None) -> Conventions:
    """Those of the backbone's style, which the config in the file says, or else the name of the file.

    Args:
        filename: without folders.
        config_text: of the config that the file was trained with, where it holds one.

    """
    style = STYLE.search(config_text or "")
    caffe = style[1] == "caffe" if style else CAFFE_FILENAME.search(filename.lower()) is not None
    return CAFFE_CONVENTIONS if caffe else PYTORCH_CONVENTIONS
