"""Key map and conventions of MMDetection's YOLACT files (https://github.com/open-mmlab/mmdetection), as data.

The names of version 2 (``segm_head``) and of version 3 (``mask_head.segm_branch``) are both known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, rename_by

# What the configs of these files do differently from the official code. The classes, the channels and the sizes of the
# anchors are the same.
CONVENTIONS: dict[str, Any] = {
    "fpn_relu": False,
    "fpn_extra_from": "C5",
    "anchor_aspect_ratios": (2.0, 1.0, 0.5),
    "square_anchors": False,
    "resize_method": "opencv",
    "candidates_per_level": 1000,
    "threshold_detections": True,
    "max_size_ratio": 1000 / 16,
    "clip_boxes": True,
    "empty_boxes_suppress": False,
}
# The first pattern that matches counts.
KEY_MAP: KeyMap = (
    (r"backbone\.(conv1|bn1|layer\d)\.(.+)", r"backbone.body.\1.\2"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.+)", r"fpn.lateral.\1.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(.+)", r"fpn.output.\1.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(.+)", r"fpn.extra.0.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(.+)", r"fpn.extra.1.\1"),
    (r"bbox_head\.head_convs\.0\.conv\.(.+)", r"head.feature.\1"),
    (r"bbox_head\.conv_reg\.(.+)", r"head.box.\1"),
    (r"bbox_head\.conv_cls\.(.+)", r"head.classify.\1"),
    (r"bbox_head\.conv_coeff\.(.+)", r"head.mask.\1"),
    (r"mask_head\.protonet\.0\.(.+)", r"protonet.before.0.\1"),
    (r"mask_head\.protonet\.2\.(.+)", r"protonet.before.1.\1"),
    (r"mask_head\.protonet\.4\.(.+)", r"protonet.before.2.\1"),
    (r"mask_head\.protonet\.8\.(.+)", r"protonet.after.0.\1"),
    (r"mask_head\.protonet\.10\.(.+)", r"protonet.prototypes.\1"),
    (r"(?:segm_head|mask_head\.segm_branch)\.segm_conv\.(.+)", r"semantic.\1"),
)
# A second copy of the weights (their moving average), and what the pixels were normalised with.
IGNORED = r"ema_.+|data_preprocessor\..+"
MODEL_OF_BLOCKS = {6: "yolact_resnet50", 23: "yolact_resnet101"}
"""Zoo name by the number of blocks in ``backbone.layer3``."""


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of one of MMDetection's YOLACT files."""
    return "bbox_head.conv_coeff.weight" in tensors


def model_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Zoo name of the network, recognised by the depth of its backbone; None for a depth that no published file has."""
    blocks = {match[1] for key in tensors if (match := re.match(r"backbone\.layer3\.(\d+)\.", key))}
    return MODEL_OF_BLOCKS.get(len(blocks))


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MMDetection's tensors under our names, with their channels in our order."""
    renamed = rename_by(tensors, KEY_MAP, ignored=IGNORED)
    box = renamed.get("head.box.bias")
    anchors_per_cell = 1 if box is None else max(1, len(box) // 4)
    for part in ("weight", "bias"):
        if (tensor := renamed.get(f"head.classify.{part}")) is not None and len(tensor) % anchors_per_cell == 0:
            renamed[f"head.classify.{part}"] = _background_first(tensor, anchors_per_cell)
        # Class c was trained in channel c - 1 and class 0 in the last one.
        if (tensor := renamed.get(f"semantic.{part}")) is not None:
            renamed[f"semantic.{part}"] = tensor.roll(1, dims=0)
    return renamed


def _background_first(tensor: Tensor, anchors_per_cell: int) -> Tensor:
    """Each anchor's channels are its classes; MMDetection counts the background as the last of them."""
    by_anchor = tensor.reshape(anchors_per_cell, -1, *tensor.shape[1:])
    return by_anchor.roll(1, dims=1).reshape(tensor.shape)
