from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from protomask.models.build import build_network
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.network import Network
from protomask.models.yolact.model import Yolact

TINY: dict[str, Any] = {"image_size": 64, "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4}
# Those of the head stay (each level has its own behind one shared convolution), and those of deformable convolutions.
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "resnet18": ("yolact_resnet18_256", TINY, 5),
    "resnet50": ("yolact_resnet50", TINY, 0),
    "deformable": ("yolact_plus_resnet50", {**TINY, "rescoring_channels": (4, 8)}, 13),
    "darknet53": ("yolact_darknet53", TINY, 0),
    "efficientnet_lite0": ("yolact_nano", TINY, 5),
    "separable": ("protomask_n", {"image_size": 64, "neck_channels": 16, "prototype_channels": 8}, 0),
    "shared": ("protomask_n", {"image_size": 64, "neck_channels": 16, "prototypes": "p3", "branches": "shared"}, 0),
    "mask_rcnn": ("mask_rcnn_resnet50_fpn", {"image_size": 64, "fpn_channels": 16, "head_channels": 8}, 0),
    "mask_rcnn_v2": ("mask_rcnn_resnet50_fpn_v2", {"image_size": 64, "fpn_channels": 16, "head_channels": 8}, 0),
}


def some_network(name: str, **options: Any) -> Network:
    """Untrained, with statistics that a training could have left."""
    torch.manual_seed(0)
    network = build_network(name, num_classes=3, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"), 0, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.3, 0.6)
            nn.init.normal_(module.bias, 0, 0.2)
    return network


def features(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    return network.pyramid(images) if hasattr(network, "pyramid") else [*network(images)[:4]]


def norms(network: Network) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(("name", "options", "left"), NETWORKS.values(), ids=NETWORKS)
def test_the_copy_says_the_same_without_batch_norms(name: str, options: dict[str, Any], left: int) -> None:
    network = some_network(name, **options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    prepared = prepare_for_inference(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for own, other in zip(features(prepared, images), features(network, images), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
    assert norms(prepared) == left
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert set(network.state_dict()) == set(before)


def test_what_is_not_folded_shares_its_memory() -> None:
    network = some_network("yolact_resnet18_256", **TINY)
    assert isinstance(network, Yolact)
    prepared = prepare_for_inference(network)
    assert prepared.head.box.weight.data_ptr() == network.head.box.weight.data_ptr()
    assert network.head.box.weight.requires_grad


def test_lower_precision_is_that_of_convolutions_and_linear_layers() -> None:
    network = some_network("mask_rcnn_resnet50_fpn", **NETWORKS["mask_rcnn"][1])
    prepared = prepare_for_inference(network, torch.bfloat16)
    assert {parameter.dtype for parameter in prepared.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
