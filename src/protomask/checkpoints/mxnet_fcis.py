"""Key map and conventions of the official FCIS (MXNet), as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from protomask.checkpoints.key_maps import KeyMap, rename_by
from protomask.models.fcis.config import BOX_STDS, GROUPS

SIGNATURE = ("arg:fcis_cls_seg_weight", "arg:rpn_cls_score_weight")
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
# Blocks are numbers here, see `_numbered`.
KEY_MAP: KeyMap = (
    (r"conv1_weight", r"backbone.body.conv1.weight"),
    *((rf"bn_conv1_{theirs}", rf"backbone.body.bn1.{ours}") for theirs, ours in _NORM.items()),
    *(
        (rf"res{stage}_(\d+)_branch1_weight", rf"backbone.body.layer{stage - 1}.\1.downsample.0.weight")
        for stage in range(2, 6)
    ),
    *(
        (rf"bn{stage}_(\d+)_branch1_{theirs}", rf"backbone.body.layer{stage - 1}.\1.downsample.1.{ours}")
        for stage in range(2, 6)
        for theirs, ours in _NORM.items()
    ),
    *(
        (rf"res{stage}_(\d+)_branch2{letter}_weight", rf"backbone.body.layer{stage - 1}.\1.conv{number}.weight")
        for stage in range(2, 6)
        for number, letter in enumerate("abc", 1)
    ),
    *(
        (rf"bn{stage}_(\d+)_branch2{letter}_{theirs}", rf"backbone.body.layer{stage - 1}.\1.bn{number}.{ours}")
        for stage in range(2, 6)
        for number, letter in enumerate("abc", 1)
        for theirs, ours in _NORM.items()
    ),
    (r"rpn_conv_3x3_(weight|bias)", r"rpn.conv.\1"),
    (r"rpn_cls_score_(weight|bias)", r"rpn.logits.\1"),
    (r"rpn_bbox_pred_(weight|bias)", r"rpn.box_deltas.\1"),
    (r"conv_new_1_(weight|bias)", r"narrow.\1"),
    (r"fcis_cls_seg_(weight|bias)", r"score_maps.\1"),
    (r"fcis_bbox_(weight|bias)", r"box_maps.\1"),
)
IGNORED = r".+_test"
"""Copies that are multiplied by the deviations of the boxes."""
CONVENTIONS: dict[str, Any] = {
    "caffe_backbone": True,
    "pixel_mean": (123.15, 115.90, 103.06),
    "pixel_std": (1.0, 1.0, 1.0),
}
"""Config fields of all its weights."""


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file with these names is an official FCIS."""
    return set(tensors).issuperset(SIGNATURE)


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official file under our names."""
    named = {key.removeprefix("arg:").removeprefix("aux:"): tensor for key, tensor in tensors.items()}
    for kind in ("weight", "bias"):
        if f"fcis_bbox_{kind}" not in named and f"fcis_bbox_{kind}_test" in named:
            named[f"fcis_bbox_{kind}"] = _undone(named[f"fcis_bbox_{kind}_test"])
    return rename_by({_numbered(key): tensor for key, tensor in named.items()}, KEY_MAP, ignored=IGNORED)


def _undone(tensor: Tensor) -> Tensor:
    """What a copy for tests was before it was multiplied."""
    deviations = torch.tensor(BOX_STDS).repeat(2).repeat_interleave(GROUPS**2)
    return tensor / deviations.view(-1, *[1] * (tensor.ndim - 1))


def _numbered(key: str) -> str:
    """Blocks of a stage are a, b, c and so on, or a, b1, b2 and so on."""

    def number(match: re.Match[str]) -> str:
        block = int(match[3]) if match[3] else ord(match[2]) - ord("a")
        return f"{match[1]}_{block}_"

    return re.sub(r"^((?:res|bn)[2-5])([a-z])(\d*)_(?=branch)", number, key)
