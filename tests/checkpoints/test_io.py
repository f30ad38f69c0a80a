"""Weights files of ours."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from networks import build_yolact
from protomask.checkpoints import io
from protomask.errors import CheckpointError
from protomask.models.yolact.model import Yolact

TINY: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0", "image_size": 64, "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4,
}  # fmt: skip
NAMES = ("nut", "bolt", "gear")


@pytest.fixture(scope="module")
def network() -> Yolact:
    torch.manual_seed(0)
    return build_yolact(class_names=NAMES, **TINY).eval()


@pytest.fixture
def saved(network: Yolact, tmp_path: Path) -> Path:
    return io.save_weights(network, tmp_path / "tiny.safetensors", provenance={"epoch": 3})


def test_round_trip_is_bit_equal(network: Yolact, saved: Path) -> None:
    loaded = io.load_weights(saved)
    assert not loaded.training
    assert loaded.config == network.config
    assert loaded.class_names == NAMES
    assert loaded.geometry == network.geometry
    state, original = loaded.state_dict(), network.state_dict()
    assert list(state) == list(original)
    for key, value in original.items():
        assert state[key].dtype == value.dtype, key
        assert torch.equal(state[key], value), key


def test_float16_halves_the_file_and_rounds(network: Yolact, saved: Path, tmp_path: Path) -> None:
    path = io.save_weights(network, tmp_path / "half.safetensors", dtype=torch.float16)
    assert path.stat().st_size < 0.6 * saved.stat().st_size
    for key, value in io.load_weights(path).state_dict().items():
        original = network.state_dict()[key]
        assert value.dtype == original.dtype, key
        if value.is_floating_point():
            assert torch.equal(value, original.half().float()), key


def test_a_tensor_beyond_float16_keeps_its_type(network: Yolact, tmp_path: Path) -> None:
    variance = network.get_buffer("backbone.body.conv1.1.running_var")
    before = variance.clone()
    variance[0] = 1e6
    try:
        path = io.save_weights(network, tmp_path / "half.safetensors", dtype=torch.float16)
    finally:
        variance.copy_(before)
    assert io.load_weights(path).state_dict()["backbone.body.conv1.1.running_var"][0] == 1e6


def test_channels_last_weights_are_stored_alike(network: Yolact, saved: Path, tmp_path: Path) -> None:
    loaded = io.load_weights(saved).to(memory_format=torch.channels_last)
    assert io.save_weights(loaded, tmp_path / "b.safetensors", provenance={"epoch": 3}).read_bytes() == (
        saved.read_bytes()
    )


def test_header(network: Yolact, saved: Path) -> None:
    header = io.read_header(saved)
    assert header["format_version"] == "1"
    assert header["family"] == "yolact"
    assert header["class_names"] == list(NAMES)
    assert header["config"]["num_prototypes"] == 4
    assert header["preprocessing"] == {
        "image_size": [64, 64],
        "channel_order": "RGB",
        "mean": list(network.config.pixel_mean),
        "std": list(network.config.pixel_std),
        "antialias": True,
        "resize_method": "float",
    }
    assert header["provenance"] == {"epoch": 3}


def test_others_may_read_the_file_as_far_as_the_umask_lets_them(network: Yolact, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = io.save_weights(network, tmp_path / "new folder" / "tiny.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_failing_disk_leaves_the_old_file_and_no_rest(network: Yolact, saved: Path) -> None:
    import resource

    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"tiny\.safetensors: cannot be written: File too large"):
            io.save_weights(network, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_every_key_that_differs_is_listed(network: Yolact, saved: Path) -> None:
    tensors = network.state_dict()
    missing, misshapen = "semantic.weight", "head.box.bias"
    del tensors[missing]
    tensors[misshapen] = torch.zeros(7)
    tensors["intruder.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        io.load_exactly(network, tensors, source="some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth: the weights do not fit")
    for part in (
        f"1 missing: {missing}",
        "1 unexpected: intruder.weight",
        f"{misshapen} (model {tuple(network.state_dict()[misshapen].shape)}, file (7,))",
    ):
        assert part in message


def test_what_fits_can_be_taken_over(network: Yolact) -> None:
    other = build_yolact(num_classes=5, **TINY)
    left = io.load_matching(other, network.state_dict())
    assert left == ["head.classify.weight", "head.classify.bias", "semantic.weight", "semantic.bias"]
    assert torch.equal(other.head.box.weight, network.head.box.weight)


Write = Callable[[Path, Path], object]
"""(file to write, a good one)."""


def truncated(path: Path, saved: Path) -> None:
    path.write_bytes(saved.read_bytes()[:-100])


def with_header(**changes: Any) -> Write:
    def write(path: Path, saved: Path) -> None:
        with safe_open(saved, framework="pt") as file:
            header = json.loads(file.metadata()["protomask"]) | changes
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        save_file(tensors, path, metadata={"protomask": json.dumps(header)})

    return write


WRONG_FILES: dict[str, tuple[Write, str]] = {
    "empty": (lambda path, saved: path.touch(), "not a readable .safetensors file"),
    "text": (lambda path, saved: path.write_text("hello"), "not a readable .safetensors file"),
    "truncated": (truncated, "not a readable .safetensors file"),
    "foreign": (lambda path, saved: save_file({"a": torch.zeros(1)}, path), "found no 'protomask' header"),
    "no JSON": (
        lambda path, saved: save_file({"a": torch.zeros(1)}, path, metadata={"protomask": "{"}),
        "not a JSON object",
    ),
    "JSON list": (
        lambda path, saved: save_file({"a": torch.zeros(1)}, path, metadata={"protomask": "[1]"}),
        "not a JSON object",
    ),
    "newer version": (with_header(format_version="9"), "expected format version 1 .* got version 9"),
    "other family": (with_header(family="other"), "of family other"),
    "config incomplete": (with_header(config={}), r"missing name, num_classes"),
    "config of wrong types": (with_header(config={"name": "x", "num_classes": "3"}), "num_classes: expected"),
    "names missing": (with_header(class_names=None), "class"),
    "names too few": (with_header(class_names=["nut"]), "misshapen: .*head.classify.weight"),
    "names twice": (with_header(class_names=["nut", "nut", "nut"]), "repeated"),
    "missing": (lambda path, saved: None, "no such weights file"),
    "folder": (lambda path, saved: path.mkdir(), "no such weights file"),
}


@pytest.mark.parametrize(("write", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_files_that_are_not_ours_are_refused_by_name(write: Write, message: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    write(path, saved)
    with pytest.raises(CheckpointError, match=message) as caught:
        io.load_weights(path)
    assert "wrong.safetensors" in str(caught.value)
