"""A family that the package has never heard of needs one record to be built, saved, loaded, trained and used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protomask.checkpoints.io import load_weights, read_header, save_weights
from protomask.engine.loop import TrainingStep
from protomask.engine.optim import build_optimizer
from protomask.errors import CheckpointError, ConfigError
from protomask.inference.predictor import Predictor
from protomask.models.build import build_criterion, build_network
from protomask.models.config import ModelConfig
from protomask.models.families import FAMILIES, RCNN, YOLACT, Family, family, family_of, register
from protomask.models.layers.backbone import build_backbone
from protomask.models.zoo import ZOO
from protomask.ops.geometry import ImageGeometry
from protomask.settings import Count
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import GridMasks
from protomask.structures.target import Target


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    image_size: int = 64
    backbone: str = "shufflenet_v2_x1_0"
    width: Count = 4


def toy_geometry(config: ToyConfig) -> ImageGeometry:
    size = (config.image_size, config.image_size)
    return ImageGeometry(image_size=size, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


class Toy(nn.Module):
    """Says of every image which one class it shows, and where: one mask over the whole image."""

    def __init__(self, config: ToyConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config, self.class_names, self.geometry = config, tuple(class_names), toy_geometry(config)
        self.backbone = build_backbone(config.backbone, ("C3",), pretrained=pretrained_backbone)
        self.narrow = nn.Conv2d(self.backbone.channels[0], config.width, 1)
        self.classify = nn.Conv2d(config.width, config.num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.narrow(self.backbone(images)[0]).relu())
        return logits

    def postprocess(self, output: Tensor, original_sizes: Sequence[tuple[int, int]], **options: Any) -> list[Instances]:
        found = []
        for logits, (height, width) in zip(output.float().cpu(), original_sizes, strict=True):
            score, label = logits.mean(dim=(1, 2)).softmax(dim=0).max(dim=0)
            found.append(
                Instances(
                    boxes=torch.tensor([[0.0, 0.0, width, height]]),
                    labels=label[None],
                    class_scores=score[None],
                    masks=GridMasks(logits[label[None]].sigmoid(), (height, width)),
                    image_size=(height, width),
                    class_names=self.class_names,
                )
            )
        return found


class ToyCriterion(nn.Module):
    def __init__(self, network: Toy, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def forward(self, output: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        labels = torch.stack([target.labels[0] for target in targets])
        return {"loss_total": self.loss(output.mean(dim=(2, 3)), labels)}


TOY = Family(name="toy", config=ToyConfig, network=Toy, criterion=ToyCriterion, geometry=toy_geometry)


@pytest.fixture
def toy() -> Iterator[Family]:
    yield register(TOY)
    FAMILIES.pop("toy", None)


def toy_network(**changes: Any) -> Any:
    torch.manual_seed(0)
    return build_network(ToyConfig(name="toy_tiny", num_classes=2, **changes), class_names=("nut", "bolt"))


@pytest.mark.usefixtures("toy")
def test_a_new_family_is_built_saved_and_loaded(tmp_path: Path) -> None:
    network = toy_network(width=3)
    path = save_weights(network, tmp_path / "toy.safetensors")
    assert read_header(path)["family"] == "toy"
    loaded = load_weights(path)
    assert type(loaded) is Toy
    assert (loaded.config, loaded.class_names) == (network.config, ("nut", "bolt"))
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    del FAMILIES["toy"]
    with pytest.raises(CheckpointError, match="of family yolact or rcnn, got version 1 of family toy"):
        load_weights(path)


@pytest.mark.usefixtures("toy")
def test_a_new_family_learns() -> None:
    network = toy_network().train()
    step = TrainingStep(network, build_criterion(network, label_smoothing=0.1))
    optimizer = build_optimizer(network, learning_rate=0.01)
    images = network.geometry.normalize_batch(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), [(64, 64)] * 2)
    targets = [
        Target(
            boxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
            labels=torch.tensor([label]),
            masks=torch.ones(1, 64, 64, dtype=torch.bool),
            is_crowd=torch.zeros(1, dtype=torch.bool),
            image_size=(64, 64),
        )
        for label in (0, 1)
    ]
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = step(images, targets)["loss_total"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("toy")
def test_a_new_family_predicts() -> None:
    network = toy_network().eval()
    image = torch.randint(0, 256, (3, 48, 80), dtype=torch.uint8)
    [found] = Predictor(network).predict_images([image], score_threshold=0)
    assert len(found) == 1
    assert found.masks.shape == (1, 48, 80)
    assert found.class_names == ("nut", "bolt")


def test_a_record_for_every_preset() -> None:
    assert {family_of(entry.preset()).name for entry in ZOO.values()} == {"yolact", "rcnn"}
    assert (family("yolact"), family("rcnn")) == (YOLACT, RCNN)
    for name, entry in ZOO.items():
        assert entry.scores_masks == (name.startswith(("yolact_plus", "ms_rcnn"))), name


def test_the_parts_and_fields_of_a_record_exist() -> None:
    for entry in ZOO.values():
        record = family_of(entry.preset())
        options = {name: value for part in record.parts.values() for name, value in part.options.items()}
        with torch.device("meta"):
            network = build_network(entry.preset().override(**options))
        assert all(getattr(network, part.attribute) is not None for part in record.parts.values())
        assert all(isinstance(getattr(network, name), nn.Module) for name in record.compiled_parts)
        assert network.geometry == record.geometry(network.config)


@pytest.mark.parametrize("changes", [{"name": "yolact"}, {"config": YOLACT.config}])
def test_a_name_or_config_is_taken_once(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"family: expected a new name and config class, got .*; yolact has"):
        register(replace(TOY, **changes))
    assert "toy" not in FAMILIES


def test_unknown_families_are_refused() -> None:
    with pytest.raises(ConfigError, match="family: expected one of yolact, rcnn, got 'fcis'"):
        family("fcis")
    with pytest.raises(ConfigError, match="config: expected one of YolactConfig, RCNNConfig, got ToyConfig"):
        family_of(ToyConfig(name="toy", num_classes=1))
