"""Key map of the official YOLACT files (https://github.com/dbolya/yolact), as data."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# The first pattern that matches counts. The official pyramid starts at the coarsest level, ours at the finest.
KEY_MAP: tuple[tuple[str, str], ...] = (
    (r"backbone\._preconv\.(.+)", r"backbone.stem.\1"),
    (r"backbone\.layers\.(\d+)\.0\.([01])\.(.+)", r"backbone.stages.\1.0.\2.\3"),
    (r"backbone\.layers\.(\d+)\.(\d+)\.(conv\d)\.([01])\.(.+)", r"backbone.stages.\1.\2.\3.\4.\5"),
    (r"backbone\.layers\.(\d+)\.(.+)", r"backbone.body.layer{0}.\2"),
    (r"backbone\.(conv1|bn1)\.(.+)", r"backbone.body.\1.\2"),
    (r"fpn\.lat_layers\.(\d+)\.(.+)", r"fpn.lateral.{1}.\2"),
    (r"fpn\.pred_layers\.(\d+)\.(.+)", r"fpn.output.{1}.\2"),
    (r"fpn\.downsample_layers\.(\d+)\.(.+)", r"fpn.extra.\1.\2"),
    (r"proto_net\.0\.(.+)", r"protonet.before.0.\1"),
    (r"proto_net\.2\.(.+)", r"protonet.before.1.\1"),
    (r"proto_net\.4\.(.+)", r"protonet.before.2.\1"),
    (r"proto_net\.8\.(.+)", r"protonet.after.0.\1"),
    (r"proto_net\.10\.(.+)", r"protonet.prototypes.\1"),
    (r"prediction_layers\.0\.upfeature\.0\.(.+)", r"head.feature.\1"),
    (r"prediction_layers\.0\.bbox_layer\.(.+)", r"head.box.\1"),
    (r"prediction_layers\.0\.conf_layer\.(.+)", r"head.classify.\1"),
    (r"prediction_layers\.0\.mask_layer\.(.+)", r"head.mask.\1"),
    (r"maskiou_net\.maskiou_net\.10\.(.+)", r"rescoring.classify.\1"),
    (r"maskiou_net\.maskiou_net\.(\d+)\.(.+)", r"rescoring.layers.{2}.\2"),
    (r"semantic_seg_conv\.(.+)", r"semantic.\1"),
)
PYRAMID_INPUTS = 3
# The official loader drops these too: levels of another pyramid, and a second copy of the backbone.
IGNORED = re.compile(r"fpn\.downsample_layers\.([2-9]|\d\d+)\..+|backbone\.layer\d\..+")


def rename_key(key: str) -> str:
    """Our name of an official key; a key that no official YOLACT has keeps its name."""
    for pattern, replacement in KEY_MAP:
        match = re.fullmatch(pattern, key)
        if match:
            number = int(match[1]) if match[1].isdigit() else 0
            return match.expand(replacement).format(number + 1, PYRAMID_INPUTS - 1 - number, number // 2)
    return key


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors under our names."""
    return {rename_key(key): tensor for key, tensor in tensors.items() if not IGNORED.fullmatch(key)}
