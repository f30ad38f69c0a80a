"""What a search may change."""

from __future__ import annotations

from typing import Any

import pytest

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError
from protomask.tuning.config import TuneConfig
from protomask.tuning.space import DEFAULT_SPACE, Choice, Range, Space, with_values


def space(**values: Any) -> Space:
    return Space.of(TuneConfig(data="x", space=values))


def test_the_default_space_fits_the_settings() -> None:
    config = TuneConfig(data="x")
    found = Space.of(config)
    assert set(found.axes) == set(DEFAULT_SPACE)
    assert set(found.defaults(config.base())) == set(DEFAULT_SPACE)  # so that the first trial is the default


def test_choices_and_ranges() -> None:
    rate = {"low": "1e-4", "high": 0.01, "log": True}
    found = space(optimizer=["sgd", "adamw"], learning_rate=rate, batch_size={"low": 2, "high": 8})
    assert found.axes["optimizer"] == Choice(("sgd", "adamw"))
    assert found.axes["learning_rate"] == Range(1e-4, 0.01, True)
    whole = found.axes["batch_size"]
    assert isinstance(whole, Range)
    assert isinstance(whole.low, int)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"learning_rat": [1]}, "learning_rat"),
        ({"learning_rate": [-1.0]}, "learning_rate: expected a positive number"),
        ({"augmentation.mosaic": [2]}, "mosaic"),
        ({"augmentation.nothing": [2]}, "nothing"),
        ({"optimizer.beta": [2]}, "space: optimizer has no settings inside it"),
        ({"epochs": [2, 3]}, "space: expected a setting that may differ between trials, got epochs"),
        ({"momentum": {"low": 0.9, "high": 0.1}}, "space: expected a list of choices, or a range .* for momentum"),
        ({"momentum": {"low": 0.0, "high": 0.5, "log": True}}, "for momentum"),
        ({"momentum": {"low": "x", "high": 0.5}}, "for momentum"),
        ({"momentum": []}, "for momentum"),
        ({"momentum": 0.9}, "for momentum"),
    ],
)
def test_what_is_refused(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        space(**values)


def test_values_reach_inner_settings() -> None:
    config = TrainConfig(data="x", model_options={"fpn_channels": 8})
    inner = {"augmentation.mosaic": 0.5, "augmentation.crop": 0.0, "model_options.num_prototypes": 4}
    changed = with_values(config, {**inner, "momentum": 0.5})
    assert (changed.augmentation.mosaic, changed.augmentation.crop, changed.momentum) == (0.5, 0.0, 0.5)
    assert changed.model_options == {"fpn_channels": 8, "num_prototypes": 4}
    assert config.augmentation.mosaic == 0.0


def test_given_values_outside_the_space_are_left_to_the_search() -> None:
    config = TuneConfig(data="x", space={"momentum": {"low": 0.1, "high": 0.5}, "optimizer": ["sgd"]})
    assert Space.of(config).defaults(config.base()) == {"optimizer": "sgd"}


def test_a_search_has_no_prolonged_trials() -> None:
    with pytest.raises(ConfigError, match="epochs: expected the whole length of a trial"):
        TuneConfig(data="x", epochs="+3", resume=True)
