"""Runs with a length on the clock, and runs that are prolonged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.test_run import Recorder, assert_same, lines, settings, shapes, tensors
from protomask.engine.config import TrainConfig
from protomask.engine.dry_run import dry_run
from protomask.engine.folder import RunFolder
from protomask.engine.loop import evaluate
from protomask.engine.run import train
from protomask.engine.stretch import ExistingRunError
from protomask.errors import ConfigError
from protomask.models.build import build_criterion

__all__ = ["shapes"]
STEP, VALIDATION = 1.0, 3.0


class FakeTime:
    """Seconds in which a step and a validation take as long as they are told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = STEP

    def criterion(self, network: Any, **options: Any) -> Any:
        inner = build_criterion(network, **options)

        def score(output: Any, targets: Any) -> dict[str, torch.Tensor]:
            self.now += self.step
            losses: dict[str, torch.Tensor] = inner(output, targets)
            return losses

        return score

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        self.now += VALIDATION
        return evaluate(*arguments, **options)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("protomask.engine.pace.monotonic", lambda: fake.now)
    monkeypatch.setattr("protomask.engine.run.build_criterion", fake.criterion)
    monkeypatch.setattr("protomask.engine.session.evaluate", fake.evaluate)
    return fake


def timed(shapes: Path, output: Path, **changes: Any) -> TrainConfig:
    return settings(shapes, output, epochs=50, schedule="cosine", warmup_iterations=2, **changes)


def test_a_run_ends_on_time(time: FakeTime, shapes: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(timed(shapes, tmp_path / "run", minutes=0.5), reporter=recorder)
    # Five steps unplanned, a validation at step 6, then fewer of them: at 12 and at the end.
    assert [line["iteration"] for line in recorder.validations] == [6, 12, 21]
    assert (result.iteration, time.now) == (21, 30.0)
    plans = [message for message in recorder.messages if message.startswith("plan for 0.5 min: ")]
    assert plans[-1].startswith("plan for 0.5 min: 21 steps (7.0 epochs) at 2.0 images/s")
    assert plans[-1].endswith("2 more validations of about 0:03, one every 4 epochs")
    assert recorder.steps[0]["max_iterations"] is None
    assert recorder.steps[0]["remaining_seconds"] is None
    last = recorder.steps[-1]
    assert (last["max_iterations"], last["elapsed_seconds"], last["remaining_seconds"]) == (21, 27.0, 3.0)
    assert recorder.validations[-1]["remaining_seconds"] == 0
    rates = [step["learning_rate"] for step in recorder.steps]
    assert rates[-1] < 0.05 * max(rates)


def test_a_slower_machine_gets_fewer_steps(time: FakeTime, shapes: Path, tmp_path: Path) -> None:
    class Slower(Recorder):
        def on_step(self, metrics: Any) -> None:
            super().on_step(metrics)
            time.step = STEP if metrics["iteration"] < 8 else 2 * STEP

    result = train(timed(shapes, tmp_path / "run", minutes=1), reporter=Slower())
    assert result.iteration < 35
    assert 56 <= time.now <= 64


def test_a_resumed_run_has_the_rest_of_its_time(time: FakeTime, shapes: Path, tmp_path: Path) -> None:
    config = timed(shapes, tmp_path / "run", minutes=0.5)
    assert train(config, reporter=Recorder(stop_after=10)).interrupted
    assert time.now == 13.0
    time.now += 1000  # nobody trains
    time.step = STEP / 2
    recorder = Recorder()
    result = train(replace(config, resume=True), reporter=recorder)
    assert 1026 <= time.now <= 1031
    assert result.iteration > 25
    assert recorder.validations[-1]["elapsed_seconds"] == pytest.approx(time.now - 1000)
    with pytest.raises(ConfigError, match=r"minutes was 0\.5, got 2\.0; \+N prolongs"):
        train(replace(config, minutes=2, resume=True))


def test_minutes_are_added_on_the_clock(time: FakeTime, shapes: Path, tmp_path: Path) -> None:
    config = timed(shapes, tmp_path / "run", iterations=6)
    train(config)
    before = time.now
    recorder = Recorder()
    result = train(replace(config, resume=True, minutes="+0.25"), reporter=recorder)
    assert 12 <= time.now - before <= 15
    assert result.iteration > 12
    assert any(message.startswith("prolonged by +0.25 minutes from iteration 6; the") for message in recorder.messages)


def test_a_prolonged_run_continues_bit_equal(shapes: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"epochs": 1, "schedule": "cosine", "warmup_iterations": 1, "ema_decay": 0.9}
    whole, parts = (settings(shapes, tmp_path / name, **changes) for name in ("whole", "parts"))
    for config in (whole, parts):
        train(config)
    recorder = Recorder()
    straight = train(replace(whole, resume=True, epochs="+2", learning_rate=0.002), reporter=recorder)
    assert recorder.messages[-2:] == [
        f"continuing {whole.output} at iteration 3 of 3",
        "prolonged by +2 epochs from iteration 3 to 9; the schedule starts over, with a learning rate of 0.002",
    ]
    assert straight.iteration == 9
    # The settings of the run are those it began with.
    assert TrainConfig.load(tmp_path / "whole" / "config.yaml") == whole

    longer = replace(parts, resume=True, epochs="+2", learning_rate=0.002)
    assert train(longer, reporter=Recorder(stop_after=5)).interrupted
    with pytest.raises(ConfigError, match=r"prolong by \+1 iterations, got one at iteration 5 of 9"):
        train(replace(parts, resume=True, iterations="+1"))
    assert train(longer, reporter=Recorder(stop_after=7)).iteration == 7  # the same again adds nothing
    resumed = train(replace(parts, resume=True))
    assert resumed.iteration == 9
    assert_same(tensors(straight.last_weights), tensors(resumed.last_weights))
    rates = [[line["learning_rate"] for line in lines(run) if line["kind"] == "train"] for run in (straight, resumed)]
    assert rates[0] == rates[1]
    assert [rate for rate in rates[0][:4] if rate > 3e-4] == [pytest.approx(0.002 * 2 / 8)]  # the fourth
    assert rates[0][3] > rates[0][8]


def test_a_finished_run_says_so(shapes: Path, tmp_path: Path) -> None:
    config = settings(shapes, tmp_path / "run", iterations=1)
    train(config)
    recorder = Recorder()
    assert train(replace(config, resume=True), reporter=recorder).iteration == 1
    assert "this run is at its end; epochs, iterations or minutes of +N prolong it" in recorder.messages


def test_a_run_that_got_no_better_is_prolonged_from_there(shapes: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"learning_rate": 1e-9, "warmup_init": 1e-9, "patience": 1}
    config = settings(shapes, tmp_path / "run", epochs=9, **changes)
    ended = train(config)
    assert ended.iteration < 27
    recorder = Recorder()
    result = train(replace(config, resume=True, iterations="+1"), reporter=recorder)
    assert result.iteration == ended.iteration + 1
    prolonged = f"prolonged by +1 iterations from iteration {ended.iteration} to {result.iteration}; "
    assert any(message.startswith(prolonged) for message in recorder.messages)


def test_only_a_run_can_be_prolonged(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"epochs: expected a run in .*nothing to prolong by \+3"):
        train(settings(shapes, tmp_path / "nothing", resume=True, epochs="+3"))
    assert not (tmp_path / "nothing").exists()


# Tried


@pytest.mark.parametrize("length", [{"epochs": 4}, {"minutes": 3}], ids=["epochs", "minutes"])
def test_dry_run(shapes: Path, tmp_path: Path, length: dict[str, Any]) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = dry_run(settings(shapes, tmp_path / "run", **length), steps=4)
    assert sorted(tmp_path.rglob("*")) == before
    assert found.steps == 4
    assert found.images_per_second == pytest.approx(2 / found.step_seconds)
    assert found.losses["loss_total"] > 0
    if "minutes" in length:
        assert 100 < found.seconds <= 180
        assert found.iterations > 12
    else:
        assert (found.iterations, found.epochs, found.validations) == (12, 4, 4)
        assert found.seconds == pytest.approx(12 * found.step_seconds + 4 * found.validation_seconds)
    assert found.peak_mib is None or found.peak_mib > 100
    text = found.as_text()
    assert f"length: {found.iterations} steps" in text
    assert set(found.to_dict()) > {"images_per_second", "peak_mib", "seconds"}


def test_dry_run_complains_as_the_run_would(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resume: expected a new run"):
        dry_run(settings(shapes, tmp_path / "run", resume=True))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").touch()
    with pytest.raises(ExistingRunError, match="already holds a run"):
        dry_run(settings(shapes, tmp_path / "run"))
    assert not RunFolder(tmp_path / "run").settings_file.exists()
