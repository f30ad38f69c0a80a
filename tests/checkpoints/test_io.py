from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from protomask.checkpoints import io
from protomask.checkpoints.official_yolact import KEY_MAP, rename_key
from protomask.errors import CheckpointError, ConfigError
from protomask.models.yolact.model import Yolact
from protomask.models.zoo import ZOO, build_network

TINY: dict[str, Any] = {"image_size": 64, "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4}
NAMES = ("nut", "bolt", "gear")


@pytest.fixture(scope="module")
def network() -> Yolact:
    torch.manual_seed(0)
    return build_network("yolact_nano", class_names=NAMES, backbone="shufflenet_v2_x1_0", **TINY).eval()


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
    assert io.load_weights(path).get_buffer("backbone.body.conv1.1.running_var")[0] == 1e6


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
        f"{misshapen} (model {tuple(network.head.box.bias.shape)}, file (7,))",
    ):
        assert part in message


def test_what_fits_can_be_taken_over(network: Yolact) -> None:
    other = build_network("yolact_nano", num_classes=5, backbone="shufflenet_v2_x1_0", **TINY)
    left = io.load_matching(other, network.state_dict())
    assert left == ["head.classify.weight", "head.classify.bias", "semantic.weight", "semantic.bias"]
    assert torch.equal(other.head.box.weight, network.head.box.weight)


def truncated(path: Path, saved: Path) -> None:
    path.write_bytes(saved.read_bytes()[:-100])


def with_header(**changes: Any) -> Any:
    def write(path: Path, saved: Path) -> None:
        with safe_open(saved, framework="pt") as file:
            header = json.loads(file.metadata()["protomask"]) | changes
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        save_file(tensors, path, metadata={"protomask": json.dumps(header)})

    return write


WRONG_FILES: dict[str, tuple[Any, str]] = {
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
    "config incomplete": (with_header(config={}), r"missing fields \['name', 'num_classes'\]"),
    "config of wrong types": (with_header(config={"name": "x", "num_classes": "3"}), "num_classes: expected"),
    "names missing": (with_header(class_names=None), "class"),
    "names too few": (with_header(class_names=["nut"]), "misshapen: .*head.classify.weight"),
    "names twice": (with_header(class_names=["nut", "nut", "nut"]), "repeated"),
    "missing": (lambda path, saved: None, "no such weights file"),
    "folder": (lambda path, saved: path.mkdir(), "no such weights file"),
}


@pytest.mark.parametrize(("write", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_files_that_are_not_ours_are_refused_by_name(write: Any, message: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    write(path, saved)
    with pytest.raises(CheckpointError, match=message) as caught:
        io.load_weights(path)
    assert "wrong.safetensors" in str(caught.value)


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
        io.load_foreign(path)
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # no advice to load it all the same
    assert "\n" not in str(caught.value)


WRONG_FOREIGN: dict[str, tuple[Any, str]] = {
    "empty": (lambda path: path.touch(), "not a readable weights file: EOFError"),
    "text": (lambda path: path.write_text("hello"), "weights file|refused"),
    "list": (lambda path: torch.save([torch.zeros(1)], path), "expected named tensors, got list"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), "expected named tensors"),
    "nothing": (lambda path: torch.save({}, path), "expected named tensors"),
    "module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), "refused, .*Linear"),
    "missing": (lambda path: None, "no such weights file"),
}


@pytest.mark.parametrize(("write", "message"), WRONG_FOREIGN.values(), ids=WRONG_FOREIGN)
def test_foreign_files_without_named_tensors_are_refused(write: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "yolact_base_1_2.pth"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        io.load_foreign(path)
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
    assert io.model_from_filename(filename) == model


@pytest.mark.parametrize(
    "filename", ["best.pth", "yolact.pth", "yolact_plus_darknet53_54_800000.pth", "yolact_basement.pth"]
)
def test_other_file_names_ask_for_the_model(filename: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{filename}: cannot tell the model .*setting model.*yolact_darknet"):
        io.model_from_filename(filename)


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
        own = list(build_network("yolact_darknet53").state_dict())
    renamed = [rename_key(key) for key in official_darknet_keys()]
    assert len(set(renamed)) == len(renamed)
    assert set(renamed) == set(own)


def test_every_official_resnet_key_has_its_place(golden_dir: Path) -> None:
    recipe = json.loads((golden_dir / "yolact" / "yolact_base.state_dict.json").read_text())
    with torch.device("meta"):
        own = build_network("yolact_resnet101").state_dict()
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
        network = build_network(model)
    with pytest.raises(CheckpointError) as caught:
        io.load_exactly(network, tensors, source="FILE")
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
    from dataclasses import replace

    monkeypatch.setitem(ZOO, "yolact_resnet50", replace(ZOO["yolact_resnet50"], preset=lambda: small))
    return build_network("yolact_resnet50", class_names=NAMES)


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
    loaded = io.load_foreign(path, class_names=NAMES)
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
        io.load_foreign(path, model="yolact_resnet50")
    with pytest.raises(ConfigError, match="expected one of"):
        io.load_foreign(path, model="yolact_resnet51")


def test_models_nobody_publishes_say_so() -> None:
    with pytest.raises(CheckpointError, match=r"yolact_resnet18_256: no published weights .*protomask train"):
        io.fetch_published("yolact_resnet18_256")


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(CheckpointError) as caught:
        io.fetch_published("yolact_resnet101")
    message = str(caught.value)
    assert asked == [("dbolya/yolact-base", "yolact_base_54_800000.pth")]
    assert "not in the cache" in message
    assert "ConnectionError: no route to host\n" in message
    assert "load('yolact_base_54_800000.pth')" in message


def test_a_cached_file_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, filename: str(tmp_path / filename))
    assert io.fetch_from_hub("owner/repository", "a.pth") == tmp_path / "a.pth"


@pytest.mark.slow
def test_offline_for_real(tmp_path: Path) -> None:
    code = "import protomask\ntry: protomask.load('yolact_resnet50')\nexcept protomask.CheckpointError as e: print(e)"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert "not in the cache" in done.stdout
    assert str(tmp_path) in done.stdout
    assert "load('yolact_resnet50_54_800000.pth')" in done.stdout
