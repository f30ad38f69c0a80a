from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from protomask.errors import ConfigError, MissingExtraError
from protomask.models.config import STRIDES
from protomask.models.layers.backbone import CaffePool, build_backbone, use_caffe_pooling

DYNAMIC = torch.export.Dim.DYNAMIC
NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "shufflenet_v2_x1_0", "regnet_x_400mf", "darknet53",
    "efficientnet_lite0",
)  # fmt: skip


@pytest.mark.parametrize("levels", [("C2", "C3", "C4", "C5"), ("C3", "C4", "C5"), ("C3",)])
@pytest.mark.parametrize("name", NAMES)
def test_channels_and_strides_are_as_promised(name: str, levels: tuple[str, ...]) -> None:
    # Shapes are all that is asked for, and the meta device knows them without computing; RegNet's widths need numbers.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        backbone = build_backbone(name, levels)
        features = backbone(torch.zeros(2, 3, 64, 96))
    assert backbone.strides == tuple(STRIDES[level] for level in levels)
    for feature, channels, stride in zip(features, backbone.channels, backbone.strides, strict=True):
        assert feature.shape == (2, channels, 64 // stride, 96 // stride)


def test_levels_are_not_changed_by_later_layers() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        kept = backbone(images)
        finest = build_backbone("resnet18", ("C3",)).eval()
        finest.load_state_dict(
            {key: value for key, value in backbone.state_dict().items() if key in finest.state_dict()}
        )
        torch.testing.assert_close(finest(images)[0], kept[0])


def test_unused_layers_are_left_out() -> None:
    with torch.device("meta"):
        names = {key.split(".")[1] for key in build_backbone("resnet18", ("C2", "C3")).state_dict()}
    assert names == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("vgg16", ("C3",), "expected one of resnet18, .*efficientnet_lite0, timm:NAME, got 'vgg16'"),
        ("resnet18", ("C3", "C6"), "expected some of C2, C3, C4, C5, got 'C6'"),
        ("resnet18", ("C4", "C3"), "finest first"),
        ("resnet18", ("C3", "C3"), "different levels"),
        ("resnet18", (), "different levels"),
    ],
)
def test_wrong_requests_are_refused(name: str, levels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(name, levels)


def test_darknet_has_no_published_weights() -> None:
    with pytest.raises(ConfigError, match="darknet53"):
        build_backbone("darknet53", pretrained=True)


def test_timm_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'protomask\[timm\]'"):
        build_backbone("timm:resnet18")


def test_timm_backbones_keep_the_contract() -> None:
    pytest.importorskip("timm")
    backbone = build_backbone("timm:resnet18").eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(feature.shape[1:]) for feature in features] == [(128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert (backbone.channels, backbone.strides) == ((128, 256, 512), (8, 16, 32))
    with pytest.raises(ConfigError, match="timm cannot make features of 'no_such_model'"):
        build_backbone("timm:no_such_model")


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (10, 7), (3, 3), (2, 5)])
def test_pooling_of_caffe_is_rounded_up(size: tuple[int, int]) -> None:
    network = build_backbone("resnet18")
    use_caffe_pooling(network)
    [pool] = [module for module in network.modules() if isinstance(module, nn.MaxPool2d)]
    features = torch.rand(1, 2, *size)
    wanted = nn.functional.max_pool2d(features, 3, stride=2, ceil_mode=True)
    torch.testing.assert_close(pool(features), wanted, rtol=0, atol=0)


def test_pooling_of_caffe_has_a_graph_of_any_size() -> None:
    program = torch.export.export(CaffePool(), (torch.rand(1, 2, 9, 8),), dynamic_shapes=({2: DYNAMIC, 3: DYNAMIC},))
    features = torch.rand(1, 2, 12, 17)
    torch.testing.assert_close(program.module()(features), CaffePool()(features), rtol=0, atol=0)
