"""Predictions are those of the network as it is, whatever way it was changed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import protomask
from protomask.errors import ConfigError
from protomask.torch_runtime.predictor import TorchPredictor

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def tiny() -> TorchPredictor:
    torch.manual_seed(0)
    return protomask.build("yolact_nano", num_classes=2, image_size=64, device="cpu")


def found(model: TorchPredictor) -> list[Any]:
    instances = model.predict(IMAGE, score_threshold=0.0, candidate_threshold=0.0, max_detections=5)
    return [instances.scores.tolist(), instances.boxes.tolist(), instances.rle()]


def scaled(model: TorchPredictor) -> dict[str, torch.Tensor]:
    state = model.network.state_dict()
    return {key: value * 0.9 if value.is_floating_point() else value.clone() for key, value in state.items()}


def assign(model: TorchPredictor) -> None:
    model.network.load_state_dict(scaled(model), assign=True)  # type: ignore[call-arg]


def copy_data(model: TorchPredictor) -> None:
    for key, value in scaled(model).items():
        model.network.state_dict()[key].data.copy_(value)


def one_weight(model: TorchPredictor) -> None:
    next(iter(model.network.backbone.parameters())).data[0, 0] += 1.0


def other_view(model: TorchPredictor) -> None:
    for parameter in model.network.parameters():
        view = torch.from_numpy(parameter.detach().numpy())
        view *= 1.1


def whole_layer(model: TorchPredictor) -> None:
    for module in model.network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                other = nn.BatchNorm2d(child.num_features).eval()
                nn.init.constant_(other.bias, 0.5)
                setattr(module, name, other)


def one_parameter(model: TorchPredictor) -> None:
    conv = next(module for module in model.network.modules() if isinstance(module, nn.Conv2d))
    conv.weight = nn.Parameter(conv.weight.detach() * 1.5)


def data_of_a_parameter(model: TorchPredictor) -> None:
    for parameter in model.network.parameters():
        parameter.data = parameter.data * 0.8


def optimizer_step(model: TorchPredictor) -> None:
    for parameter in model.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.network.parameters(), lr=0.01).step()


CHANGES = [
    assign, copy_data, one_weight, other_view, whole_layer, one_parameter, data_of_a_parameter, optimizer_step,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_prediction_uses_the_weights_of_now(change: Callable[[TorchPredictor], None]) -> None:
    model, fresh = tiny(), tiny()
    first = found(model)
    change(model)
    change(fresh)
    again = found(model)
    assert again == found(fresh)
    assert again != first


def test_the_copy_is_kept_while_nothing_changes() -> None:
    model = tiny()
    assert found(model) == found(model)
    assert model._prepared is not None
    network = model._prepared[0]
    model.network.eval()
    model.network.load_state_dict(model.network.state_dict())
    found(model)
    assert model._prepared[0] is network


@pytest.mark.parametrize("name", ["half", "double", "bfloat16"])
def test_another_precision_is_refused_and_comes_back(name: str) -> None:
    model = tiny()
    first = found(model)
    getattr(model, name)()
    with pytest.raises(ConfigError, match=r'precision: expected .* float32, got \w+; .* precision="fp16"'):
        found(model)
    model.float()
    if name == "double":
        assert found(model) == first


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_predict_the_same_and_go_their_own_way(duplicate: Callable[[TorchPredictor], TorchPredictor]) -> None:
    model = tiny()
    first = found(model)
    other = duplicate(model)
    assert found(other) == first
    if duplicate is not copy.copy:
        one_parameter(other)
        assert found(other) != first
        assert found(model) == first


@pytest.mark.parametrize(
    "given", [IMAGE, "street.jpg", torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_calling_a_model_says_what_to_call(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.predict\(image\)"):
        tiny()(given)
    output = tiny()(torch.zeros(1, 3, 64, 64))
    assert output is not None
