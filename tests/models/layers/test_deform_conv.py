from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from protomask.errors import ConfigError
from protomask.models.build import build_network
from protomask.models.layers.backbone import build_backbone
from protomask.models.layers.deform_conv import ModulatedDeformConv2d, deformable_blocks


def test_equals_the_official_unit(golden_dir: Path) -> None:
    with np.load(golden_dir / "yolact" / "ops.npz") as golden:
        unit = {key.removeprefix("dcn."): torch.from_numpy(golden[key]) for key in golden if key.startswith("dcn.")}
    conv = ModulatedDeformConv2d(4, 5, stride=2)
    conv.load_state_dict({key: unit[key] for key in conv.state_dict()})
    torch.testing.assert_close(conv(unit["x"]), unit["out"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("blocks", "deformable", "interval", "expected"),
    [
        (4, 4, 1, [0, 1, 2, 3]),
        (6, 6, 1, [0, 1, 2, 3, 4, 5]),
        (4, 4, 3, [0, 3]),
        (23, 23, 3, [0, 3, 6, 9, 12, 15, 18, 21]),
        (3, 3, 3, [0]),
        (3, 0, 1, []),
        (6, 2, 1, [4, 5]),
        (23, 10, 3, [15, 18, 21]),
        (0, 3, 1, []),
    ],
)
def test_placement_follows_the_published_rule(blocks: int, deformable: int, interval: int, expected: list[int]) -> None:
    assert deformable_blocks(blocks, deformable, interval) == expected


@pytest.mark.parametrize(("preset", "count"), [("yolact_plus_resnet50", 13), ("yolact_plus_resnet101", 11)])
def test_presets_have_as_many_deformable_blocks_as_the_published_models(preset: str, count: int) -> None:
    with torch.device("meta"):
        network = build_network(preset)
    assert sum(isinstance(module, ModulatedDeformConv2d) for module in network.modules()) == count


@pytest.mark.parametrize(
    ("plain", "stride", "dilation", "groups"), [(False, 1, 1, 1), (False, 2, 1, 1), (True, 1, 2, 1), (True, 1, 1, 2)]
)
def test_starts_as_the_convolution_it_replaces(plain: bool, stride: int, dilation: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups, bias=False)
    x = torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(ModulatedDeformConv2d.from_plain(conv)(x), conv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_deformable_backbone_with_zero_offsets_equals_the_plain_one(name: str) -> None:
    torch.manual_seed(0)
    plain = build_backbone(name).eval()
    torch.manual_seed(0)
    deformable = build_backbone(name, deformable_layers=(0, 4, 6, 3), deformable_interval=2).eval()
    assert any(isinstance(module, ModulatedDeformConv2d) for module in deformable.modules())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(plain(x), deformable(x), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_zero_offset_network_equals_the_plain_network() -> None:
    small: dict[str, Any] = {"image_size": 64, "fpn_channels": 16, "protonet_channels": 16, "rescoring_channels": ()}
    torch.manual_seed(0)
    plus = build_network("yolact_plus_resnet50", num_classes=3, **small).eval()
    plain = build_network("yolact_plus_resnet50", num_classes=3, deformable_layers=(), **small).eval()
    state = plus.state_dict()
    for key, value in list(state.items()):
        if key.endswith("conv2.weight") and f"{key.removesuffix('weight')}bias" in state:
            state[key] = value / 2  # every kernel point has the weight sigmoid(0) = 1/2
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(plus(x)[:4], plain(x)[:4], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_offsets_learn() -> None:
    torch.manual_seed(0)
    conv = ModulatedDeformConv2d(3, 4)
    conv(torch.randn(1, 3, 8, 8)).square().sum().backward()
    assert conv.conv_offset_mask.weight.grad is not None
    assert float(conv.conv_offset_mask.weight.grad.abs().sum()) > 0


def test_only_residual_networks_are_made_deformable() -> None:
    with pytest.raises(ConfigError, match="only ResNets have deformable blocks, got backbone 'darknet53'"):
        build_backbone("darknet53", deformable_layers=(0, 4, 6, 3))
