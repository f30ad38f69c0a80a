from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from coco_folders import BLOB, RING, write_coco
from engine.test_run import press_ctrl_c
from protomask.engine import trackers
from protomask.engine.config import TrainConfig
from protomask.engine.log import SilentReporter
from protomask.engine.run import train
from protomask.engine.trackers import Trackers, external_trackers
from protomask.errors import ConfigError, MissingExtraError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    for split in ("train", "val"):
        write_coco(folder, {f"{n}.png": [("cell", RING), ("dog", BLOB)] for n in range(4)}, split=split)
    return folder


def settings(data: Path, output: Path, **changes: Any) -> TrainConfig:
    options = {"fpn_channels": 8, "protonet_channels": 8, "num_prototypes": 4}
    values: dict[str, Any] = {
        "data": str(data), "output": str(output), "model": "yolact_nano", "image_size": 64, "model_options": options,
        "pretrained_backbone": False, "iterations": 4, "batch_size": 2, "freeze_bn": False, "log_every": 1,
        "num_workers": 0, "device": "cpu", "check_data": False,
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


class StopAfterTwo(SilentReporter):
    """Asks the run to stop as Ctrl-C would."""

    def on_step(self, metrics: Any) -> None:
        if metrics["iteration"] == 2:
            press_ctrl_c()


def loss_steps_of_tensorboard(folder: Path) -> list[int]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars("train/loss_total")]


def test_tensorboard_is_the_default_and_goes_on_after_a_stop(shapes: Path, tmp_path: Path) -> None:
    assert train(settings(shapes, tmp_path / "run"), reporter=StopAfterTwo()).interrupted
    train(settings(shapes, tmp_path / "run", resume=True))
    assert loss_steps_of_tensorboard(tmp_path / "run") == [1, 2, 3, 4]
    assert not (tmp_path / "run" / "trackers.json").exists()


def test_a_run_may_have_no_tracker(shapes: Path, tmp_path: Path) -> None:
    train(settings(shapes, tmp_path / "run", trackers=(), iterations=1))
    assert (tmp_path / "run" / "metrics.jsonl").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def check_mlflow(folder: Path, run_id: str) -> None:
    mlflow = pytest.importorskip("mlflow")

    client = mlflow.MlflowClient()
    assert client.get_run(run_id).data.params["augmentation.horizontal_flip"] == "0.5"
    assert [metric.step for metric in client.get_metric_history(run_id, "train/loss_total")] == [1, 2, 3, 4]


def check_trackio(folder: Path, run_id: str) -> None:
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    config = storage.get_run_config("shapes", run_id)
    assert config is not None
    assert config["augmentation.horizontal_flip"] == 0.5
    logs = storage.get_logs("shapes", run_id)
    assert [entry["step"] for entry in logs if "train/loss_total" in entry] == [1, 2, 3, 4]


def check_wandb(folder: Path, run_id: str) -> None:
    first, second = sorted(folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))  # a file for each part of the run
    for file in (first, second):
        content = file.read_bytes()
        assert b"train/loss_total" in content
        assert b"augmentation.horizontal_flip" in content


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "check"), [("mlflow", check_mlflow), ("trackio", check_trackio), ("wandb", check_wandb)]
)
def test_a_tracker_gets_the_lines_and_goes_on_with_its_run_after_a_stop(
    name: str, check: Callable[[Path, str], None], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config = settings(shapes, tmp_path / "run", trackers=(name,), tracker_project="shapes")
    assert train(config, reporter=StopAfterTwo()).interrupted
    ids = json.loads((tmp_path / "run" / "trackers.json").read_text())
    train(settings(shapes, tmp_path / "run", trackers=(name,), tracker_project="shapes", resume=True))
    assert json.loads((tmp_path / "run" / "trackers.json").read_text()) == ids
    check(tmp_path / "run", ids[name])


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_missing_package_is_told_before_the_run_begins(
    name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"trackers: {name} is not installed.*protomask\[{name}\]"):
        train(settings(shapes, tmp_path / "run", trackers=("tensorboard", name)))
    assert not (tmp_path / "run").exists()
    assert external_trackers(settings(shapes, tmp_path / "run")) == []


@pytest.mark.parametrize("names", [("tensorflow",), ("mlflow", "mlflow")])
def test_unknown_trackers_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"trackers: expected (some of tensorboard, wandb, mlflow, trackio|each tracker once)"
    ):
        settings(tmp_path, tmp_path / "run", trackers=names)


class Tracker:
    """Stands for one of accelerate's."""

    name = "mlflow"
    tracker = SimpleNamespace(info=SimpleNamespace(run_id="the-run"))

    def __init__(self, fails_at: int | None) -> None:
        self.fails_at = fails_at
        self.logged: list[int] = []
        self.settings: dict[str, Any] = {}
        self.finished = False

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, Any], step: int) -> None:
        if step == self.fails_at:
            raise OSError("no network")
        self.logged.append(step)

    def finish(self) -> None:
        self.finished = True


def started(tracker: Tracker, config: TrainConfig, told: list[str]) -> Trackers:
    Path(config.output).mkdir(exist_ok=True)
    accelerator: Any = SimpleNamespace(init_trackers=lambda *_, **__: None, trackers=[tracker])
    listener: Any = SimpleNamespace(message=told.append)
    return Trackers(accelerator, config, listener)


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    told: list[str] = []
    good, bad = Tracker(fails_at=None), Tracker(fails_at=2)
    for tracker in (good, bad):
        open_trackers = started(tracker, settings(tmp_path, tmp_path / "run", trackers=("mlflow",)), told)
        for iteration in (1, 2, 3):
            open_trackers.log({"train/loss_total": 1.0}, iteration)
        open_trackers.close()
    assert (good.logged, good.finished, bad.logged, bad.finished) == ([1, 2, 3], True, [1], False)
    assert good.settings["augmentation.horizontal_flip"] == 0.5
    assert told == ["warning: mlflow failed and gets no more of this run: no network"]


def test_a_tracker_that_cannot_start_is_told(tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such run")

    accelerator: Any = SimpleNamespace(init_trackers=fail, trackers=[])
    with pytest.raises(ConfigError, match=r"trackers: mlflow cannot be started: no such run"):
        Trackers(accelerator, settings(tmp_path, tmp_path / "run", trackers=("mlflow",)), SilentReporter())
