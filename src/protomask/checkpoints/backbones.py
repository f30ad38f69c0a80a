"""Weights of a backbone alone, from the file of a classifier: torchvision, timm, and efficientnet_lite_pytorch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from protomask.checkpoints.foreign import read_tensors
from protomask.checkpoints.io import fill_counters, load_exactly
from protomask.errors import CheckpointError
from protomask.models.build import build_network
from protomask.models.config import ModelConfig
from protomask.models.layers.deform_conv import ModulatedDeformConv2d
from protomask.models.network import Network
from protomask.models.pretrained import installed_weights
from protomask.models.zoo import zoo_entry

_LITE_LAYERS = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
_LITE_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def build_on_backbone(
    model: str | ModelConfig,
    *,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    **overrides: Any,
) -> Network:
    """An untrained network on a backbone with ImageNet weights.

    Args:
        model: zoo name or config.
        weights: file of a classifier; by default that of an installed package, else the published one.
        class_names: names of the classes.
        num_classes: number of classes, if they have no names yet.
        overrides: config fields to change.

    Raises:
        CheckpointError: the weights are neither here nor reachable, or do not fit.
        ConfigError: as `protomask.models.build.build_network`.

    """
    config = zoo_entry(model).preset() if isinstance(model, str) else model
    path = weights or installed_weights(overrides.get("backbone", config.backbone))
    options: dict[str, Any] = {"class_names": class_names, "num_classes": num_classes, **overrides}
    network = build_network(model, pretrained_backbone=path is None, **options)
    if path is not None:
        load_backbone(network.backbone, path)
    return network


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Copy the weights of a classifier's file into a backbone.

    Args:
        backbone: of `protomask.models.layers.backbone.build_backbone`.
        path: .pth or .safetensors file; its layers beyond the backbone's last level are left out.

    Raises:
        CheckpointError: missing or unreadable file, or a layer of the backbone is not in it or of another shape.

    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file with weights of a backbone")
    tensors = rename(read_tensors(path), blocks=[len(stage) for stage in getattr(backbone, "blocks", [])])
    for name, module in backbone.named_modules():
        if isinstance(module, ModulatedDeformConv2d) and f"{name}.weight" in tensors:
            _from_plain(module, name, tensors)
    # The classifier's own end has no place here, and old files have no counters of batch norm.
    needed = [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]
    fitting = fill_counters(backbone, {key: tensors[key] for key in needed if key in tensors})
    load_exactly(backbone, fitting, source=f"{path} as a backbone")


def _from_plain(conv: ModulatedDeformConv2d, name: str, tensors: dict[str, Tensor]) -> None:
    """Complete the weight of an ordinary convolution so that the deformable one begins by computing the same."""
    if f"{name}.conv_offset_mask.weight" in tensors or tensors[f"{name}.weight"].shape != conv.weight.shape:
        return
    conv.take_plain(tensors[f"{name}.weight"])
    tensors.update({f"{name}.{key}": tensor for key, tensor in conv.state_dict().items()})


def rename(tensors: Mapping[str, Tensor], *, blocks: list[int]) -> dict[str, Tensor]:
    """The names of our backbones for tensors of a classifier.

    Args:
        tensors: as in the file.
        blocks: number of blocks in each stage, for files that number all blocks in a row.

    """
    flat = [(stage, block) for stage, count in enumerate(blocks) for block in range(count)]
    renamed = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match and int(match[1]) < len(flat):
            stage, block = flat[int(match[1])]
            renamed[f"blocks.{stage}.{block}.{_lite_layer(match[2], first=stage == 0)}.{match[3]}"] = tensor
        elif blocks:
            renamed[re.sub(r"^_conv_stem\.", "conv_stem.", re.sub(r"^_bn0\.", "bn1.", key))] = tensor
        else:
            renamed[f"body.{key.removeprefix('trunk_output.')}"] = tensor
    return renamed


def _lite_layer(name: str, *, first: bool) -> str:
    """Layer name in a block; there its batch norms are numbered from 0 where it has an expansion."""
    if first:
        return _LITE_FIRST_BLOCK.get(name, name)
    match = re.fullmatch(r"_bn(\d)", name)
    return f"bn{int(match[1]) + 1}" if match else _LITE_LAYERS.get(name, name)
