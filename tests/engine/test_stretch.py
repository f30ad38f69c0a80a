from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from protomask.engine.config import TrainConfig
from protomask.engine.folder import Progress
from protomask.engine.stretch import Addition, Stretch
from protomask.errors import ConfigError

DONE = Stretch(end=40, learning_rate=0.001)
WHERE: dict[str, Any] = {"seconds": 90.0, "per_epoch": 4}


@pytest.mark.parametrize(
    ("settings", "end", "minutes"),
    [({"epochs": 3}, 12, None), ({"iterations": 7}, 7, None), ({"minutes": 1.5}, None, 1.5)],
    ids=["epochs", "iterations", "minutes"],
)
def test_first(settings: dict[str, Any], end: int | None, minutes: float | None) -> None:
    config = TrainConfig(data="x", learning_rate=0.02, **settings)
    assert Stretch.first(config, per_epoch=4) == Stretch(end=end, minutes=minutes, learning_rate=0.02)


@pytest.mark.parametrize(
    ("settings", "end", "minutes"),
    [({"epochs": "+3"}, 52, None), ({"iterations": "+7"}, 47, None), ({"minutes": "+0.5"}, None, 0.5)],
    ids=["epochs", "iterations", "minutes"],
)
def test_a_run_at_its_end_is_prolonged(settings: dict[str, Any], end: int | None, minutes: float | None) -> None:
    addition = Addition.of(TrainConfig(data="x", resume=True, learning_rate=0.02, **settings))
    assert addition is not None
    new = DONE.prolonged(addition, iteration=40, ended=True, **WHERE)
    [(unit, amount)] = settings.items()
    assert new == Stretch(
        start=40, end=end, minutes=minutes, learning_rate=0.02, seconds_before=90.0, added=f"{amount} {unit}"
    )


def test_the_same_again_adds_once_the_first_is_done() -> None:
    addition = Addition("epochs", 3.0, 0.02)
    new = DONE.prolonged(addition, iteration=40, ended=True, **WHERE)
    assert new.prolonged(addition, iteration=50, ended=False, **WHERE) is new
    again = new.prolonged(addition, iteration=52, ended=True, **WHERE)
    assert (again.start, again.end) == (52, 64)


@pytest.mark.parametrize(
    ("stretch", "message"),
    [
        (DONE, r"epochs: expected a run at its end to prolong by \+3 epochs, got one at iteration 10 of 40; resume it"),
        (replace(DONE, added="+9 epochs"), "at iteration 10 of 40"),
        (replace(DONE, end=None, minutes=3.0), "at iteration 10; resume"),
    ],
    ids=["planned", "prolonged otherwise", "unmeasured"],
)
def test_a_run_that_is_not_at_its_end_is_finished_first(stretch: Stretch, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stretch.prolonged(Addition("epochs", 3.0, 0.02), iteration=10, ended=False, **WHERE)


def test_a_run_that_ended_early_is_prolonged_from_there() -> None:
    new = DONE.prolonged(Addition("iterations", 5.0, 0.02), iteration=20, ended=True, **WHERE)
    assert (new.start, new.end) == (20, 25)


def test_seconds_left() -> None:
    assert Stretch(end=None, minutes=2.0, learning_rate=1, seconds_before=30).seconds_left(50) == 100


@pytest.mark.parametrize("stretch", [None, DONE, replace(DONE, end=None, minutes=2.0, added="+2 minutes")])
def test_progress_is_saved_and_restored(stretch: Stretch | None) -> None:
    progress = Progress(iteration=3, stretch=stretch, seconds=4.5, pace={"step": 0.1, "validation": None})
    assert Progress.from_plain(asdict(progress)) == progress


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "+10"}, r"epochs: \+10 prolongs a run at its end, expected resume with it"),
        ({"epochs": "+2.5", "resume": True}, r"epochs: expected a whole number after the plus, got '\+2\.5'"),
        ({"iterations": "+2.5", "resume": True}, "iterations: expected a whole number after the plus"),
        ({"epochs": "+1", "minutes": "+1", "resume": True}, "minutes: expected one number to prolong the run by"),
        ({"epochs": "10"}, r"epochs: expected a whole number of at least 1 or \+N for N more, got '10'"),
        ({"minutes": "+0"}, r"minutes: expected a positive number or \+N for N more or none, got '\+0'"),
        ({"minutes": 0}, "minutes: expected a positive number"),
        ({"minutes": 3, "iterations": 5}, r"minutes: expected none where iterations are given \(5\), got 3"),
    ],
)
def test_lengths_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(data="x", **settings)


def test_an_addition_goes_with_the_length_of_the_run() -> None:
    config = TrainConfig(data="x", iterations=5, minutes="+2", resume=True)
    assert config.added == ("minutes",)
    assert str(Addition.of(config)) == "+2 minutes"
    assert Addition.of(TrainConfig(data="x")) is None
