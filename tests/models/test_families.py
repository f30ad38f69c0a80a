"""A family that the package has never heard of needs one record to be built, saved, loaded, trained and used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import protomask
from protomask.checkpoints.io import load_weights, read_header, save_weights
from protomask.detection import prototypes
from protomask.detection.calibration import Calibration
from protomask.detection.options import PredictOptions
from protomask.detection.prototypes import PrototypeRows
from protomask.engine.loop import TrainingStep
from protomask.engine.optim import build_optimizer
from protomask.errors import CheckpointError, ConfigError
from protomask.exporting.graphs import GRAPHS, ExportGraph
from protomask.exporting.resize import interpolate_as_torch
from protomask.images.decode import Pixels
from protomask.models.build import build_criterion, build_network
from protomask.models.class_layers import ClassLayer
from protomask.models.config import ModelConfig
from protomask.models.families import FAMILIES, RCNN, YOLACT, Family, family, family_of, register
from protomask.models.layers.backbone import build_backbone
from protomask.models.zoo import ZOO
from protomask.ops.geometry import ImageGeometry
from protomask.settings import Count
from protomask.structures.instances import Instances
from protomask.structures.target import Target
from protomask.torch_runtime.predictor import TorchPredictor, ready
from targets import target_of_boxes

NAMES = ("nut", "bolt")


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    image_size: int = 64
    backbone: str = "resnet18"
    width: Count = 4


def toy_geometry(config: ToyConfig) -> ImageGeometry:
    size = (config.image_size, config.image_size)
    return ImageGeometry(image_size=size, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


class Toy(nn.Module):
    """Says of every image which one class it shows, and where: one mask over the whole image."""

    def __init__(self, config: ToyConfig, class_names: Sequence[str], *, pretrained_backbone: bool = False) -> None:
        super().__init__()
        self.config, self.class_names, self.geometry = config, tuple(class_names), toy_geometry(config)
        self.calibration: Calibration | None = None
        self.backbone = build_backbone(config.backbone, ("C3",), pretrained=pretrained_backbone)
        self.narrow = nn.Conv2d(self.backbone.channels[0], config.width, 1)
        self.classify = nn.Conv2d(config.width, config.num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.narrow(self.backbone(images)[0]).relu())
        return logits


class ToyCriterion(nn.Module):
    def __init__(self, network: Toy, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)

    def forward(self, output: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        labels = torch.stack([target.labels[0] for target in targets])
        return {"loss_total": self.loss(output.mean(dim=(2, 3)), labels)}


def best_class(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) scores and labels, and (B, h, w) masks."""
    scores, labels = output.mean(dim=(2, 3)).softmax(dim=1).max(dim=1)
    return scores, labels, output.sigmoid()[torch.arange(len(labels)), labels]


def toy_settle(config: ToyConfig, options: PredictOptions) -> ToyConfig:
    return config.override_given(max_detections=options.max_detections)


def toy_detect(network: Toy, output: Tensor, options: PredictOptions) -> list[PrototypeRows]:
    whole: NDArray[np.float32] = np.array([[0, 0, 1, 1]], dtype=np.float32)
    scores, labels, masks = (part.cpu().numpy() for part in best_class(output.float()))
    return [PrototypeRows(whole, labels[[i]], scores[[i]], masks[[i]]) for i in range(len(labels))]


def toy_paint(network: Toy, rows: PrototypeRows, size: tuple[int, int], options: PredictOptions) -> Instances:
    return prototypes.paint(rows, size, network.class_names)


class ToyGraph(nn.Module):
    def __init__(self, network: Toy, config: ToyConfig) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        geometry = self.network.geometry
        resized = interpolate_as_torch(image.float(), geometry.image_size)
        scores, labels, masks = best_class(self.network(geometry.normalize(resized)))
        height, width = (torch.scalar_tensor(side, dtype=torch.float32) for side in image.shape[2:])
        return torch.stack((0 * width, 0 * height, width, height))[None], labels, scores, masks


TOY = Family(
    name="toy", config=ToyConfig, network=Toy, criterion=ToyCriterion, geometry=toy_geometry, settle=toy_settle,
    detect=toy_detect, paint=toy_paint, class_layers=lambda config: (ClassLayer(name="classify", background=False),),
)  # fmt: skip
TOY_GRAPH = ExportGraph(graph=ToyGraph)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    monkeypatch.setitem(GRAPHS, "toy", TOY_GRAPH)
    yield register(TOY)
    FAMILIES.pop("toy", None)


def toy_network(**changes: Any) -> Any:
    torch.manual_seed(0)
    return build_network(ToyConfig(name="toy_tiny", num_classes=2, **changes), class_names=NAMES)


def some_image(height: int = 48, width: int = 80) -> Pixels:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.usefixtures("toy")
def test_a_new_family_is_built_saved_and_loaded(tmp_path: Path) -> None:
    network = toy_network(width=3)
    path = save_weights(network, tmp_path / "toy.safetensors")
    assert read_header(path)["family"] == "toy"
    loaded = load_weights(path)
    assert isinstance(loaded, Toy)
    assert (loaded.config, loaded.class_names) == (network.config, NAMES)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    del FAMILIES["toy"]
    with pytest.raises(CheckpointError, match=f"of family {' or '.join(FAMILIES)}, got version 1 of family toy"):
        load_weights(path)


@pytest.mark.usefixtures("toy")
def test_a_new_family_learns() -> None:
    network = toy_network().train()
    step = TrainingStep(network, build_criterion(network, label_smoothing=0.1))
    optimizer = build_optimizer(network, learning_rate=0.01)
    images = network.geometry.normalize_batch(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), [(64, 64)] * 2)
    nut_and_bolt = target_of_boxes([(8, 8, 40, 40), (8, 8, 40, 40)], size=(64, 64))
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = step(images, [nut_and_bolt[0], nut_and_bolt[1]])["loss_total"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("toy")
def test_a_new_family_predicts() -> None:
    predictor = ready(TorchPredictor(toy_network()), "cpu")
    found, other = predictor.predict([some_image(), some_image(32, 32)], score_threshold=0, batch_size=2)
    assert found.masks.shape == (1, 48, 80)
    assert found.boxes.tolist() == [[0, 0, 80, 48]]
    assert found.class_names == NAMES
    assert other.masks.shape == (1, 32, 32)
    assert len(predictor.predict(some_image(), score_threshold=1)) == 0
    assert predictor.limits(PredictOptions(max_detections=7)).max_detections == 7


@pytest.mark.usefixtures("toy")
def test_a_new_family_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    predictor = ready(TorchPredictor(toy_network(), "toy_tiny"), "cpu")
    image = some_image()
    agreement = protomask.export(
        predictor, tmp_path / "toy.onnx", images=[image, some_image(64, 64)], score_threshold=0
    )
    assert agreement.unmatched == 0
    exported = protomask.load(tmp_path / "toy.onnx")
    assert (exported.model_name, exported.class_names) == ("toy_tiny", NAMES)
    found, wanted = (model.predict(image, score_threshold=0) for model in (exported, predictor))
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    assert (found.masks != wanted.masks).mean() < 0.01


@pytest.mark.usefixtures("toy")
def test_a_family_without_a_graph_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(GRAPHS, "toy")
    predictor = ready(TorchPredictor(toy_network()), "cpu")
    with pytest.raises(
        ConfigError, match=r"model: expected one of the family yolact or proto or rcnn .*, got toy_tiny \(toy\)"
    ):
        protomask.export(predictor, tmp_path / "toy.onnx", images=[some_image()])


def test_a_record_for_every_preset() -> None:
    assert {family_of(entry.preset()).name for entry in ZOO.values()} == set(FAMILIES)
    assert (family("yolact"), family("rcnn")) == (YOLACT, RCNN)
    for name, entry in ZOO.items():
        scores_masks = name.startswith(("yolact_plus", "ms_rcnn")) or family_of(entry.preset()).name == "proto"
        assert entry.scores_masks == scores_masks, name


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
    with pytest.raises(ConfigError, match=f"family: expected one of {', '.join(FAMILIES)}, got 'sam'"):
        family("sam")
    with pytest.raises(ConfigError, match=r"config: expected one of YolactConfig, RCNNConfig, .*, got ToyConfig"):
        family_of(ToyConfig(name="toy", num_classes=1))
