"""The study: what is proposed, pruned, kept, and continued after a kill. No network is trained here."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna")
pytest.importorskip("torch")

from protomask.engine.config import TrainConfig
from protomask.errors import ConfigError, MissingExtraError, ProtomaskError
from protomask.tuning.config import TuneConfig
from protomask.tuning.study import tune

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "momentum": {"low": 0.0, "high": 0.9}}


class KilledError(BaseException):
    """As if the process had ended."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Trainings whose AP is highest at a learning rate of 3e-3; gets the settings of each."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr("protomask.engine.run.train", _training(seen))
    return seen


def _training(seen: list[TrainConfig], before: Callable[[int], None] = lambda number: None) -> Any:
    def train(config: TrainConfig, *, reporter: Any) -> Any:
        seen.append(config)
        before(len(seen))
        folder = Path(config.output)
        (folder / "checkpoints" / "last").mkdir(parents=True)
        for name in ("best", "last"):
            (folder / f"{name}.safetensors").touch()
        best = math.exp(-abs(math.log(config.learning_rate / 3e-3)))
        for epoch in (1, 2, 3):
            reporter.on_validation({"mask_AP": best * epoch / 3, "epoch": epoch})
        return SimpleNamespace(best_mask_ap=best, interrupted=False)

    return train


def settings(output: Path, **changes: Any) -> TuneConfig:
    return TuneConfig(**{"data": "x", "output": str(output), "trials": 8, "space": SPACE, **changes})


def test_a_search_finds_better_settings_than_the_given_ones(trained: list[TrainConfig], tmp_path: Path) -> None:
    result = tune(settings(tmp_path / "study"))
    assert [trial.number for trial in result.trials] == list(range(8))
    assert trained[0].learning_rate == TrainConfig(data="x").learning_rate
    assert result.best is not None
    assert (result.best.mask_ap or 0) > (result.trials[0].mask_ap or 1)
    written = yaml.safe_load(result.config_file.read_text())
    config = TrainConfig.from_dict(written)
    assert config.learning_rate == result.best.values["learning_rate"]
    assert {"output", "resume"}.isdisjoint(written)
    kept = sorted(path.parent.name for path in (tmp_path / "study").rglob("best.safetensors"))
    assert kept == [f"{result.best.number:04d}"]
    assert not list((tmp_path / "study").rglob("checkpoints"))
    assert [config.check_data for config in trained] == [True, *[False] * 7]


def test_hopeless_trials_are_ended_early(trained: list[TrainConfig], tmp_path: Path) -> None:
    result = tune(settings(tmp_path / "study"))
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(1 < trial.epochs <= 3 for trial in pruned)  # the first validation does not count
    all_of_them = tune(settings(tmp_path / "other", prune=False, trials=6))
    assert {trial.state for trial in all_of_them.trials} == {"complete"}


def test_a_killed_study_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill_fifth(number: int) -> None:
        if number == 5:
            raise KilledError

    straight: list[TrainConfig] = []
    monkeypatch.setattr("protomask.engine.run.train", _training(straight))
    expected = tune(settings(tmp_path / "straight"))
    seen: list[TrainConfig] = []
    monkeypatch.setattr("protomask.engine.run.train", _training(seen, kill_fifth))
    with pytest.raises(KilledError):
        tune(settings(tmp_path / "killed"))
    with pytest.raises(ConfigError, match="output: expected a new folder, or resume to continue"):
        tune(settings(tmp_path / "killed"))
    with pytest.raises(ConfigError, match="batch_size: expected 8, as when this study began, got 2"):
        tune(settings(tmp_path / "killed", resume=True, batch_size=2))
    again = tune(settings(tmp_path / "killed", resume=True))
    assert again.trials == expected.trials
    assert [config.learning_rate for config in seen[:4] + seen[5:]] == [config.learning_rate for config in straight]
    assert seen[4] == seen[5]  # the trial that was killed
    assert seen[5].resume
    assert len(tune(settings(tmp_path / "killed", resume=True, trials=9)).trials) == 9


def test_a_stop_leaves_the_trial_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = SimpleNamespace(best_mask_ap=0.1, interrupted=True)
    monkeypatch.setattr("protomask.engine.run.train", lambda config, reporter: stopped)
    result = tune(settings(tmp_path / "study"))
    assert result.interrupted
    assert [trial.state for trial in result.trials] == ["interrupted"]


def test_a_trial_that_fails_is_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_second(number: int) -> None:
        if number == 2:
            raise ProtomaskError("the loss is not finite")

    monkeypatch.setattr("protomask.engine.run.train", _training([], fail_second))
    assert [trial.state for trial in tune(settings(tmp_path / "study", trials=3)).trials][1] == "failed"

    def refuse(config: TrainConfig, reporter: Any) -> Any:
        raise ConfigError("image_size: expected another")

    monkeypatch.setattr("protomask.engine.run.train", refuse)
    with pytest.raises(ConfigError, match="image_size"):
        tune(settings(tmp_path / "other"))


def test_optuna_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'protomask\[tune\]'"):
        tune(settings(tmp_path / "study"))
