from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protomask.data.training.augmentation import AugmentationConfig
from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data", "", "a non-empty text"),
        ("batch_size", 0, "at least 1"),
        ("batch_size", 2.5, "whole number"),
        ("epochs", True, "whole number"),
        ("iterations", 0, r"at least 1 or \+N for N more or none"),
        ("learning_rate", -1e-3, "positive number"),
        ("learning_rate", float("nan"), "positive number"),
        ("momentum", 1.0, r"\[0, 1\)"),
        ("weight_decay", -1, "at least 0"),
        ("lr_steps", (0.9, 0.3), "rising fractions"),
        ("lr_steps", (280_000.0,), "rising fractions"),
        ("freeze_bn", "yes", "one of auto, statistics, True, False"),
        ("device", "tpu", "one of auto, cpu, cuda, mps"),
        ("mixed_precision", "fp8", "one of no, auto, bf16, fp16"),
        ("num_workers", -1, "at least 0"),
    ],
)
def test_error_names_field_value_and_expectation(field: str, value: object, expected: str) -> None:
    values: dict[str, Any] = {"data": "shapes", field: value}
    with pytest.raises(ConfigError, match=f"{field}: expected .*{expected}") as error:
        TrainConfig(**values)
    assert repr(value) in str(error.value)


def test_image_size_is_given_once() -> None:
    with pytest.raises(ConfigError, match="model_options: image_size"):
        TrainConfig(data="shapes", image_size=64, model_options={"image_size": 32})


def test_settings_survive_the_file(tmp_path: Path) -> None:
    config = TrainConfig(
        data="shapes",
        lr_steps=(0.5,),
        freeze_bn=False,
        augmentation=AugmentationConfig.off(),
        model_options={"anchor_scales": [[8.0], [16.0]]},
    )
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": "shapes", "batchsize": 4}, "TrainConfig: unknown batchsize; expected some of accumulate, add"),
        ({"data": "shapes", "augmentation": {"flip": 1}}, "augmentation: unknown flip"),
        ({}, "missing data"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize("content", ["- 1\n", "a: [", ""])
def test_a_file_without_settings_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml: expected"):
        TrainConfig.load(path)


@pytest.mark.parametrize(
    ("freeze_bn", "batch_size", "frozen"),
    [("auto", 5, True), ("auto", 6, False), (True, 64, True), (False, 1, False)],
)
def test_batch_norm_follows_the_published_rule(freeze_bn: Any, batch_size: int, frozen: bool) -> None:
    assert TrainConfig(data="shapes", freeze_bn=freeze_bn, batch_size=batch_size).freezes_batch_norm is frozen


def test_every_field_is_described() -> None:
    for settings in (TrainConfig, AugmentationConfig):
        assert all(settings.help().values()), settings


@pytest.mark.parametrize("model", ["runs/a", "a/best.safetensors", "b.pth", "hf://o/r/a.pth", "yolact_r50_1x8_coco"])
def test_a_model_that_is_no_name_of_the_zoo_is_weights_to_start_from(model: str) -> None:
    config = TrainConfig(data="d", model=model, train_only="mask_iou")
    assert (config.model, config.weights) == (None, model)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_model_beside_weights_names_their_network() -> None:
    config = TrainConfig(data="d", model="yolact_resnet50", weights="b.pth")
    assert (config.model, config.weights) == ("yolact_resnet50", "b.pth")
    assert TrainConfig(data="d", model="yolact_nano").weights is None
