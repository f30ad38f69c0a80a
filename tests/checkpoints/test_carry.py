from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from protomask.checkpoints.carry import carry_weights, same_classes
from protomask.models.build import build_network, placeholder_names
from protomask.models.class_layers import ClassLayer
from protomask.models.families import family_of
from protomask.models.network import Network
from protomask.models.zoo import ZOO
from tiny_rcnn import CONFIG as RCNN_CONFIG

YOLACT: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0", "fpn_channels": 4, "protonet_channels": 4, "num_prototypes": 2,
    "image_size": 64, "rescoring_channels": (4,), "anchor_scales": [[8.0], [16.0], [32.0], [48.0], [64.0]],
}  # fmt: skip
TRAINED = ("cat", "dog", "cell phone")


def network_of(family: str, names: tuple[str, ...], seed: int) -> Network:
    """Every tensor of class-dependent layers has values that say where they come from."""
    torch.manual_seed(seed)
    if family == "yolact":
        return build_network("yolact_nano", class_names=names, **YOLACT)
    return build_network(RCNN_CONFIG.override(num_classes=len(names)), class_names=names)


def rows(network: Network, layer: ClassLayer, kind: str, name: str | None) -> Tensor:
    """Of one class, or of the background; the layout is written out here once more."""
    value = network.state_dict()[f"{layer.name}.{kind}"]
    index = 0 if name is None else network.class_names.index(name) + layer.background
    count = len(network.class_names) + layer.background
    per_group = layer.rows * count
    starts = [group * per_group + index * layer.rows for group in range(layer.groups)]
    return torch.cat([value[start : start + layer.rows] for start in starts])


@pytest.mark.parametrize("family", ["yolact", "rcnn"])
@pytest.mark.parametrize(
    "names",
    [("dog", "cat", "cell phone"), ("dog",), ("fox", "dog", "cat", "owl"), TRAINED, ("Cell-Phone", "fox", "hen")],
    ids=["other order", "fewer", "more", "the same", "other names"],
)
def test_each_class_gets_the_rows_of_its_name(family: str, names: tuple[str, ...]) -> None:
    source, network, untouched = (
        network_of(family, TRAINED, 1),
        network_of(family, names, 2),
        network_of(family, names, 2),
    )
    carried = carry_weights(network, source)
    known = {
        name: "cell phone" if name == "Cell-Phone" else name for name in names if name not in ("fox", "owl", "hen")
    }
    assert carried.classes == known
    assert carried.new == tuple(name for name in names if name not in known)
    assert carried.dropped == tuple(name for name in TRAINED if name not in known.values())
    layers = family_of(network.config).class_layers(network.config)
    for layer in layers:
        for kind in ("weight", "bias"):
            for name in names:
                expected = (
                    rows(source, layer, kind, known[name]) if name in known else rows(untouched, layer, kind, name)
                )
                assert torch.equal(rows(network, layer, kind, name), expected), (layer.name, kind, name)
            if layer.background:
                assert torch.equal(rows(network, layer, kind, None), rows(source, layer, kind, None))
    by_class = {f"{layer.name}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(carried.partial) == (by_class if carried.new else set())
    assert carried.initialised == ()
    own, trained = network.state_dict(), source.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in own.items() if key not in by_class)


@pytest.mark.parametrize("family", ["yolact", "rcnn"])
def test_no_class_in_common(family: str) -> None:
    source, network, untouched = (
        network_of(family, TRAINED, 1),
        network_of(family, ("a", "b", "c"), 2),
        network_of(family, ("a", "b", "c"), 2),
    )
    carried = carry_weights(network, source)
    assert (carried.classes, carried.new, carried.dropped) == ({}, ("a", "b", "c"), TRAINED)
    layers = family_of(network.config).class_layers(network.config)
    for layer in layers:
        for name in network.class_names:
            assert torch.equal(rows(network, layer, "weight", name), rows(untouched, layer, "weight", name))
        if layer.background:
            assert torch.equal(rows(network, layer, "bias", None), rows(source, layer, "bias", None))
    assert set(carried.initialised) == {
        f"{layer.name}.{kind}" for layer in layers for kind in ("weight", "bias") if not layer.background
    }


def test_other_anchors_leave_their_layers_new() -> None:
    source = network_of("yolact", ("cat", "dog", "hen"), 1)
    # 3 anchors x 4 outputs and 6 anchors x 2 outputs are equally many.
    two_sizes = [[8.0, 12.0], [16.0, 20.0], [32.0, 40.0], [48.0, 56.0], [64.0, 80.0]]
    network = build_network("yolact_nano", class_names=("cat",), **YOLACT | {"anchor_scales": two_sizes})
    before = network.state_dict()["head.classify.weight"].clone()
    assert before.shape == source.state_dict()["head.classify.weight"].shape
    carried = carry_weights(network, source)
    assert {key for key in carried.initialised if key.startswith("head")} == {
        f"head.{part}.{kind}" for part in ("box", "classify", "mask") for kind in ("weight", "bias")
    }
    assert torch.equal(network.state_dict()["head.classify.weight"], before)


def test_weights_without_class_names() -> None:
    names = placeholder_names(3)
    network, untouched = network_of("yolact", TRAINED, 2), network_of("yolact", TRAINED, 2)
    carried = carry_weights(network, network_of("yolact", names, 1))
    assert carried.nameless
    assert carried.classes == {}
    assert torch.equal(network.state_dict()["semantic.weight"], untouched.state_dict()["semantic.weight"])
    assert any("have no class names" in line for line in carried.describe("x.pth"))
    same = carry_weights(network_of("yolact", names, 2), network_of("yolact", names, 1))
    assert not same.nameless
    assert len(same.classes) == 3


@pytest.mark.parametrize(
    ("names", "trained", "pairs"),
    [
        (("a", "b"), ("b", "a"), {0: 1, 1: 0}),
        (("Traffic_Light", "car"), ("person", "traffic light"), {0: 1}),
        (("Car", "car"), ("car",), {1: 0}),
        (("Car", "CAR"), ("car",), {}),
        (("car",), ("Car", "CAR"), {}),
        ((), ("a",), {}),
    ],
    ids=["order", "spelling", "exact first", "two like one", "one like two", "none"],
)
def test_same_classes(names: tuple[str, ...], trained: tuple[str, ...], pairs: dict[int, int]) -> None:
    assert same_classes(names, trained) == pairs


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (TRAINED, ["classes: carried over by name: cat, dog, cell phone; none is new or left out"]),
        (
            ("Dog", "owl"),
            [
                "classes: carried over by name: Dog (there dog); new: owl; "
                "in the weights but not in the data: cat, cell phone"
            ],
        ),
        (
            tuple(f"owl {index}" for index in range(12)),
            ["classes: carried over by name: none; new: owl 0, owl 1, owl 2, owl 3, owl 4, owl 5, owl 6, owl 7, "
             "owl 8, owl 9, ... (12 in all); in the weights but not in the data: cat, dog, cell phone"],
        ),
    ],
    ids=["all", "some", "many"],
)  # fmt: skip
def test_description(names: tuple[str, ...], lines: list[str]) -> None:
    carried = carry_weights(network_of("yolact", names, 2), network_of("yolact", TRAINED, 1))
    assert carried.describe("a.pth")[1:] == lines
    assert carried.describe("a.pth")[0].startswith(f"a.pth: {len(carried.taken)} tensors taken")


@pytest.mark.parametrize("name", ZOO)
def test_every_layer_that_depends_on_the_number_of_classes_is_known(name: str) -> None:
    with torch.device("meta"):
        few, many = (build_network(name, num_classes=count) for count in (2, 5))
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (few, many)]
    differing = {key for key, shape in shapes[0].items() if shapes[1][key] != shape}
    layers = family_of(few.config).class_layers(few.config)
    assert differing == {f"{layer.name}.{kind}" for layer in layers for kind in ("weight", "bias")}
    for network, found, count in ((few, shapes[0], 2), (many, shapes[1], 5)):
        for layer in family_of(network.config).class_layers(network.config):
            assert found[f"{layer.name}.bias"][0] == layer.groups * layer.rows * (count + layer.background)
