"""Training in processes of its own: killed for real, and two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from protomask.checkpoints.io import load_weights
from protomask.data.synthetic.write import write_dataset
from protomask.engine.config import TrainConfig
from protomask.engine.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"backbone": "shufflenet_v2_x1_0", "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "shapes"
    write_dataset(folder, images=8, val_images=3, seed=0, image_size=(64, 64))
    return folder


def settings(data: Path, output: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "data": str(data), "output": str(output), "model": "yolact_nano", "image_size": 64, "model_options": TINY,
        "pretrained_backbone": False, "batch_size": 2, "freeze_bn": True, "log_every": 1, "num_workers": 0,
        "device": "cpu", "learning_rate": 1e-3, "warmup_iterations": 2,
    }  # fmt: skip
    return TrainConfig(**{**values, **changes})


def command(config: TrainConfig, folder: Path, *, launcher: tuple[str, ...] = ()) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.yaml"
    config.save(file)
    return [sys.executable, *launcher, "-m", "protomask", "train", "--config", str(file), "--no-report"]


def train_lines(output: Path) -> list[dict[str, Any]]:
    content = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, content) if line["kind"] == "train"]


def losses(output: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key.startswith("loss_")} for line in train_lines(output)]


@pytest.mark.slow
def test_killed_at_any_moment_a_run_continues_bit_equal(scenes: Path, tmp_path: Path) -> None:
    config = settings(scenes, tmp_path / "killed", iterations=30, checkpoint_minutes=1e-4)
    process = subprocess.Popen(
        command(config, tmp_path / "one"), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 7):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(train_lines(tmp_path / "killed")) < 30
    resumed = train(replace(config, resume=True))
    straight = train(settings(scenes, tmp_path / "straight", iterations=30))
    assert losses(resumed.output) == losses(straight.output)
    killed, whole = (load_weights(result.last_weights).state_dict() for result in (resumed, straight))
    assert [key for key in whole if not torch.equal(killed[key], whole[key])] == []


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_doubled_batch(scenes: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    config = settings(scenes, tmp_path / "two", epochs=2, clip_gradient=5.0)
    done = subprocess.run(
        command(config, tmp_path / "one", launcher=launcher),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("iteration 4/4") == 1  # one process speaks
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert warnings  # of the data check
    assert len(set(warnings)) == len(warnings)
    alone = train(settings(scenes, tmp_path / "alone", epochs=2, clip_gradient=5.0, batch_size=4))
    two, one = losses(tmp_path / "two"), losses(alone.output)
    assert len(two) == len(one) == 4
    for step, expected in zip(two, one, strict=True):
        assert step == pytest.approx(expected, rel=1e-4, abs=1e-6)
    weights = load_weights(tmp_path / "two" / "last.safetensors").state_dict()
    expected_weights = load_weights(alone.last_weights).state_dict()
    for key, value in expected_weights.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.slow
def test_a_stop_of_one_of_two_processes_stops_both(scenes: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    config = settings(scenes, tmp_path / "two", iterations=100_000)
    process = subprocess.Popen(
        command(config, tmp_path / "one", launcher=launcher), env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "two" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        process.kill()
        pytest.skip("the processes of the launcher cannot be found on this system")
    os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert "saved; resume continues" in output, errors
    assert (tmp_path / "two" / "checkpoints" / "last" / "state.pt").is_file()
