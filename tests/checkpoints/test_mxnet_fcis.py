from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import protomask
from params_files import params_bytes
from protomask.checkpoints import mxnet_fcis
from protomask.checkpoints.foreign import ForeignFile
from protomask.checkpoints.formats import FORMATS
from protomask.errors import CheckpointError
from protomask.models.build import build_network
from protomask.models.network import Network

BLOCKS = {"fcis_resnet50": ("abc", "abcd", "abcdef", "abc"), "fcis_resnet101": ("abc", "a123", "a" + "x" * 22, "abc")}


def official_keys(model: str) -> set[str]:
    """Every name that an official file of a model has."""
    layers = ("rpn_conv_3x3", "rpn_cls_score", "rpn_bbox_pred", "conv_new_1", "fcis_cls_seg", "fcis_bbox")
    keys = {f"arg:{layer}_{kind}" for kind in ("weight", "bias") for layer in layers}
    convs = [("conv1", "bn_conv1")]
    for stage, letters in enumerate(BLOCKS[model], 2):
        many = letters[1:2] in ("1", "x")
        blocks = ["a", *(f"b{number}" for number in range(1, len(letters)))] if many else list(letters)
        convs += [(f"res{stage}a_branch1", f"bn{stage}a_branch1")]
        convs += [
            (f"res{stage}{block}_branch2{part}", f"bn{stage}{block}_branch2{part}")
            for block in blocks
            for part in "abc"
        ]
    for conv, norm in convs:
        keys |= {f"arg:{conv}_weight", f"arg:{norm}_gamma", f"arg:{norm}_beta"}
        keys |= {f"aux:{norm}_moving_mean", f"aux:{norm}_moving_var"}
    return keys


@pytest.mark.parametrize("model", BLOCKS)
def test_every_name_has_its_place(model: str) -> None:
    renamed = mxnet_fcis.rename({key: torch.zeros(()) for key in official_keys(model)})
    with torch.device("meta"):
        own = build_network(model).state_dict()
    assert set(renamed) == {key for key in own if not key.endswith("num_batches_tracked")}


def official_tensors(model: str, **options: Any) -> dict[str, Tensor]:
    """Random tensors under the official names, in the shapes of a network."""
    torch.manual_seed(0)
    own = build_network(model, **options).state_dict()
    keys = official_keys(model)
    place = {key: next(iter(mxnet_fcis.rename({key: torch.zeros(())}))) for key in keys}
    return {key: torch.rand_like(own[place[key]]) for key in keys}


def loaded(tensors: dict[str, Tensor], model: str | None = None, names: Any = None) -> Network:
    file = ForeignFile(tensors=tensors)
    origin = next(known for known in FORMATS if known.recognises(tensors))
    assert origin.name == "official FCIS"
    return origin.load(Path("fcis_coco-0000.params"), file, model, names)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return official_tensors("fcis_resnet50", num_classes=20)


def test_a_file_tells_its_network(tensors: dict[str, Tensor]) -> None:
    network = loaded(tensors)
    assert network.config.name == "fcis_resnet50"
    assert network.class_names[:2] == ("aeroplane", "bicycle")
    config: Any = network.config
    assert (config.caffe_backbone, config.pixel_mean, config.pixel_std) == (True, (123.15, 115.9, 103.06), (1, 1, 1))
    assert torch.equal(network.state_dict()["box_maps.bias"], tensors["arg:fcis_bbox_bias"])
    assert not network.training


def test_multiplied_copies_are_ignored(tensors: dict[str, Tensor]) -> None:
    more = {**tensors, "arg:fcis_bbox_weight_test": torch.full((392, 1024, 1, 1), 7.0)}
    assert torch.equal(loaded(more).state_dict()["box_maps.weight"], tensors["arg:fcis_bbox_weight"])


def test_a_file_with_multiplied_copies_alone(tensors: dict[str, Tensor]) -> None:
    deviations = torch.tensor([0.2, 0.2, 0.5, 0.5]).repeat(2).repeat_interleave(49)
    rest = dict(tensors)
    for kind in ("weight", "bias"):
        value = rest.pop(f"arg:fcis_bbox_{kind}")
        rest[f"arg:fcis_bbox_{kind}_test"] = value * deviations.view(-1, *[1] * (value.ndim - 1))
    torch.testing.assert_close(loaded(rest).state_dict()["box_maps.weight"], tensors["arg:fcis_bbox_weight"])


def test_anchors_of_pascal_voc(tensors: dict[str, Tensor]) -> None:
    fewer = dict(tensors)
    for layer, rows in (("cls_score", 18), ("bbox_pred", 36)):
        fewer[f"arg:rpn_{layer}_weight"] = torch.rand(rows, 512, 1, 1)
        fewer[f"arg:rpn_{layer}_bias"] = torch.rand(rows)
    config: Any = loaded(fewer).config
    assert config.anchor_sizes == (128, 256, 512)


@pytest.mark.parametrize(
    ("model", "names", "message"),
    [
        ("yolact_resnet50", None, "expected an FCIS of the zoo to load it as, got model yolact_resnet50"),
        (None, ("cat", "dog"), "expected 20 class names, got 2"),
        ("fcis_resnet101", None, "the weights do not fit the model"),
    ],
)
def test_what_does_not_fit(tensors: dict[str, Tensor], model: str | None, names: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        loaded(tensors, model, names)


def test_another_backbone_is_named(tensors: dict[str, Tensor]) -> None:
    fewer = {key: tensor for key, tensor in tensors.items() if "4f_" not in key}
    with pytest.raises(
        CheckpointError, match=r"expected 6 \(fcis_resnet50\) or 23 \(fcis_resnet101\) blocks in res4, found 5"
    ):
        loaded(fewer)


def test_a_file_of_wrong_shapes_is_no_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "fcis_coco-0000.params"
    one = torch.zeros(1).numpy()
    path.write_bytes(params_bytes({"arg:fcis_cls_seg_weight": one, "arg:rpn_cls_score_weight": one}))
    with pytest.raises(CheckpointError, match=r"fcis_coco-0000\.params"):
        protomask.load(path, model="fcis_resnet50")


def test_the_public_face_loads_a_file(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "fcis_voc-0000.params"
    path.write_bytes(params_bytes({key: tensor.numpy() for key, tensor in tensors.items()}))
    predictor = protomask.load(path, model="fcis_resnet50")
    assert (predictor.model_name, len(predictor.class_names)) == ("fcis_resnet50", 20)
