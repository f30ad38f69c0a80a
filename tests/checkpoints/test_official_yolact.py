"""Files of the official YOLACT, and files that are of nobody."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from networks import build_yolact
from protomask.checkpoints import formats
from protomask.checkpoints.io import load_exactly
from protomask.checkpoints.official_yolact import KEY_MAP, rename_key
from protomask.errors import CheckpointError, ConfigError
from protomask.models.yolact.model import Yolact
from protomask.models.zoo import ZOO

NAMES = ("nut", "bolt", "gear")


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "yolact_base_1_2.pth", tmp_path / "executed"
    torch.save({"a": torch.zeros(1), "b": Malicious(trace)}, path)
    with pytest.raises(CheckpointError, match=r"refused, .* could run code: .*mkdir") as caught:
        formats.load_foreign(path)
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # no advice to load it all the same
    assert "\n" not in str(caught.value)


WRONG_FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "not a readable weights file: EOFError"),
    "text": (lambda path: path.write_text("hello"), "weights file|refused"),
    "list": (lambda path: torch.save([torch.zeros(1)], path), "expected named tensors, got list"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), "expected named tensors"),
    "nothing": (lambda path: torch.save({}, path), "expected named tensors"),
    "module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), "refused, .*Linear"),
    "missing": (lambda path: None, "no such weights file"),
}


@pytest.mark.parametrize(("write", "message"), WRONG_FOREIGN.values(), ids=WRONG_FOREIGN)
def test_foreign_files_without_named_tensors_are_refused(
    write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "yolact_base_1_2.pth"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        formats.load_foreign(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("filename", "model"),
    [
        ("yolact_base_54_800000.pth", "yolact_resnet101"),
        ("yolact_im700_54_800000.pth", "yolact_resnet101_700"),
        ("yolact_im400_54_800000.pth", "yolact_resnet101_400"),
        ("yolact_resnet50_54_800000.pth", "yolact_resnet50"),
        ("yolact_darknet53_54_800000.pth", "yolact_darknet53"),
        ("yolact_resnet50_pascal_3_1234_interrupt.pth", "yolact_resnet50_pascal"),
        ("yolact_base.pth", "yolact_resnet101"),
        ("yolact_resnet101_700_best.pth", "yolact_resnet101_700"),
    ],
)
def test_the_file_name_tells_the_model(filename: str, model: str) -> None:
    assert formats.model_from_filename(filename) == model


@pytest.mark.parametrize(
    "filename", ["best.pth", "yolact.pth", "yolact_plus_darknet53_54_800000.pth", "yolact_basement.pth"]
)
def test_other_file_names_ask_for_the_model(filename: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"{filename}: cannot tell the model .*with the setting model, .*yolact_darknet53"
    ):
        formats.model_from_filename(filename)


def official_darknet_keys() -> list[str]:
    """Every key of the official Darknet model: the facts of its structure, spelled out."""
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def conv_norm(prefix: str) -> list[str]:
        return [f"{prefix}.0.weight", *(f"{prefix}.1.{part}" for part in parts)]

    keys = conv_norm("backbone._preconv")
    for stage, blocks in enumerate((1, 2, 8, 8, 4)):
        keys += conv_norm(f"backbone.layers.{stage}.0")
        for block in range(1, blocks + 1):
            keys += conv_norm(f"backbone.layers.{stage}.{block}.conv1")
            keys += conv_norm(f"backbone.layers.{stage}.{block}.conv2")
    convolutions = [
        *(f"proto_net.{index}" for index in (0, 2, 4, 8, 10)),
        *(f"fpn.{kind}_layers.{index}" for kind in ("lat", "pred") for index in range(3)),
        *(f"fpn.downsample_layers.{index}" for index in range(2)),
        *(f"prediction_layers.0.{layer}" for layer in ("upfeature.0", "bbox_layer", "conf_layer", "mask_layer")),
        "semantic_seg_conv",
    ]
    return keys + [f"{conv}.{part}" for conv in convolutions for part in ("weight", "bias")]


def test_every_official_darknet_key_has_its_place() -> None:
    with torch.device("meta"):
        own = list(build_yolact("yolact_darknet53").state_dict())
    renamed = [rename_key(key) for key in official_darknet_keys()]
    assert len(set(renamed)) == len(renamed)
    assert set(renamed) == set(own)


def test_every_official_resnet_key_has_its_place(golden_dir: Path) -> None:
    recipe = json.loads((golden_dir / "yolact" / "yolact_base.state_dict.json").read_text())
    with torch.device("meta"):
        own = build_yolact("yolact_resnet101").state_dict()
    shapes = {rename_key(entry["key"]): tuple(entry["shape"]) for entry in recipe["state_dict"]}
    assert shapes == {key: tuple(value.shape) for key, value in own.items()}


@pytest.mark.parametrize(
    ("file", "model", "kind"),
    [("yolact_plus_resnet50", "yolact_resnet50", "unexpected"), ("yolact_resnet50", "yolact_plus_resnet50", "missing")],
)
def test_one_preset_in_another_says_which_keys_differ(golden_dir: Path, file: str, model: str, kind: str) -> None:
    recipe = json.loads((golden_dir / "yolact" / f"{file}.state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        tensors = {rename_key(entry["key"]): torch.empty(entry["shape"]) for entry in recipe}
        network = build_yolact(model)
    with pytest.raises(CheckpointError) as caught:
        load_exactly(network, tensors, source="FILE")
    first, *groups = str(caught.value).splitlines()
    assert first == "FILE: the weights do not fit the model"
    # 13 blocks have a bias and an offset convolution of two tensors; the rescoring network has six convolutions.
    lists = {group.split()[1].rstrip(":"): group.partition(": ")[2] for group in groups}
    assert set(lists) == {kind, "misshapen"}
    assert len(lists[kind].split(", ")) == 13 * 3 + 6 * 2
    assert "backbone.body.layer2.0.conv2.conv_offset_mask.weight" in lists[kind].split(", ")
    assert "rescoring.classify.bias" in lists[kind].split(", ")
    heads = [f"head.{part}.{tensor}" for part in ("box", "classify", "mask") for tensor in ("weight", "bias")]
    assert [key for key in heads if key not in lists["misshapen"]] == []


def test_a_key_of_nobody_keeps_its_name() -> None:
    assert rename_key("maskiou_net.0.weight") == "maskiou_net.0.weight"
    assert len({pattern for pattern, _ in KEY_MAP}) == len(KEY_MAP)


def official_tensors(network: Yolact) -> dict[str, Tensor]:
    """A small network's tensors under official names, by turning the key map round for the names at hand."""
    own = network.state_dict()
    return {key: own[rename_key(key)] for key in official_keys_of(network)}


def official_keys_of(network: Yolact) -> list[str]:
    heads = [key for key in official_darknet_keys() if not key.startswith("backbone")]
    body = [key.removeprefix("backbone.body.") for key in network.state_dict() if key.startswith("backbone.body.")]
    backbone = [
        f"backbone.layers.{int(key[5]) - 1}.{key[7:]}" if key.startswith("layer") else f"backbone.{key}" for key in body
    ]
    return heads + backbone


@pytest.fixture
def small_official(monkeypatch: pytest.MonkeyPatch) -> Yolact:
    """The ResNet-50 preset made small, so that a whole official file is written and read in no time."""
    small = (
        ZOO["yolact_resnet50"]
        .preset()
        .override(
            image_size=64, backbone="resnet18", fpn_channels=16, protonet_channels=8, num_prototypes=4, num_classes=3
        )
    )
    monkeypatch.setitem(ZOO, "yolact_resnet50", replace(ZOO["yolact_resnet50"], preset=lambda: small))
    return build_yolact("yolact_resnet50", class_names=NAMES)


@pytest.mark.parametrize("counters", [True, False], ids=["all keys", "without num_batches_tracked"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_files_load(small_official: Yolact, tmp_path: Path, prefix: str, counters: bool) -> None:
    tensors = {
        prefix + key: value
        for key, value in official_tensors(small_official).items()
        if counters or not key.endswith("num_batches_tracked")
    }
    # The official loader passes over these.
    tensors[f"{prefix}fpn.downsample_layers.2.weight"] = tensors[f"{prefix}backbone.layer1.0.conv1.weight"] = (
        torch.ones(1)
    )
    path = tmp_path / "yolact_resnet50_54_800000.pth"
    torch.save(tensors, path)
    loaded = formats.load_foreign(path, class_names=NAMES)
    assert loaded.class_names == NAMES
    assert not loaded.training
    for key, value in small_official.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_a_file_of_another_model_lists_what_differs(small_official: Yolact, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save(official_tensors(small_official), path)
    with pytest.raises(
        CheckpointError, match=r"best\.pth as yolact_resnet50 .*\n.*misshapen: .*head\.classify\.weight"
    ):
        formats.load_foreign(path, model="yolact_resnet50")
    with pytest.raises(ConfigError, match="expected one of"):
        formats.load_foreign(path, model="yolact_resnet51")
