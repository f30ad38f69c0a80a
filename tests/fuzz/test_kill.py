"""A training that is killed at any moment continues to the same end.

PROTOMASK_KILLS says how many moments are drawn, 3 by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from protomask.checkpoints.io import read_header
from protomask.files import LOCK_NAME

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs signals")]
KILLS = int(os.environ.get("PROTOMASK_KILLS", "3"))
OPTIONS = [
    "--model", "yolact_nano", "--no-pretrained-backbone", "--image-size", "64", "--batch-size", "1", "--no-report",
    "--device", "cpu", "--no-check-data", "--log-every", "2", "--iterations", "9", "--validate-every", "1",
    "--checkpoint-minutes", "0.0001", "--warmup-iterations", "2", "--ema-decay", "0.9",
]  # fmt: skip
TIMES = ("seconds", "images_per_second", "data_wait", "elapsed_seconds", "remaining_seconds")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "annotations").mkdir(exist_ok=True)
        content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
        for number in range(1, 4):
            Image.new("RGB", (32, 24), (40 * number, 90, 200)).save(folder / "images" / split / f"{number}.png")
            content["images"].append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 24})
            content["annotations"].append(
                {
                    "id": number, "image_id": number, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100,
                    "iscrowd": 0, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
                }
            )  # fmt: skip
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


# Forks a process for every training: it has imported everything, which takes longer than the trainings do.
FORKS = """
import json, os, sys
import torch
import accelerate, torch.utils.tensorboard
import protomask.cli.train, protomask.engine.run, protomask.evaluation.coco
from protomask.cli.main import main
torch.set_num_threads(1)
for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        _, status = os.waitpid(order["wait"], 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    elif "poll" in order:
        done, status = os.waitpid(order["poll"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if done else "none", flush=True)
    elif (child := os.fork()) == 0:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT, 0o644)
        os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)
        exec(order["code"], {})
        code = main(order["argv"])
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    else:
        print(child, flush=True)
"""


class Nursery:
    """A process that starts trainings."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, **order: Any) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


class Training:
    """A training in a process group of its own."""

    def __init__(self, nursery: Nursery, argv: list[str], code: str, log: Path) -> None:
        self.nursery, self.log = nursery, log
        self.pid = int(nursery.ask(argv=argv, code=code, log=str(log)))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            found = self.nursery.ask(poll=self.pid)
            self.returncode = None if found == "none" else int(found)
        return self.returncode

    def wait(self) -> str:
        """What it said, once it has ended."""
        if self.returncode is None:
            self.returncode = int(self.nursery.ask(wait=self.pid))
        return self.log.read_text()


NURSERY: list[Nursery] = []


def training(data: Path, output: Path, *more: str, code: str = "") -> Training:
    """Start a training; ``code`` runs before it in its process."""
    if not NURSERY:
        NURSERY.append(Nursery())
    argv = ["train", "--data", str(data), *OPTIONS, "--output", str(output), *more]
    output.parent.mkdir(exist_ok=True)
    log = output.parent / f"log{len(list(output.parent.glob('log*')))}.txt"
    return Training(NURSERY[0], argv, code, log)


def finished(process: Training) -> str:
    said = process.wait()
    assert process.returncode == 0, said
    return said


def end_of(output: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Everything that must be the same: metrics without times, weights, and what they say of themselves."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    files = sorted(output.glob("*.safetensors"))
    told = {path.name: read_header(path)["provenance"] for path in files}
    for provenance in told.values():
        provenance["settings"].pop("output")
        provenance["settings"].pop("num_workers")
    return metrics, {path.name: load_file(path) for path in files}, told


def assert_same(first: Any, second: Any) -> None:
    assert first[0] == second[0]
    assert first[2] == second[2]
    assert first[1].keys() == second[1].keys()
    for name, tensors in first[1].items():
        assert all(torch.equal(value, second[1][name][key]) for key, value in tensors.items()), name


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, float, float]:
    """The end of a run that nothing disturbs; when it began to write, and how long it took from there."""
    output = tmp_path_factory.mktemp("runs") / "straight"
    started = time.monotonic()
    process = training(data, output, "--num-workers", "0")
    while process.poll() is None and not (output / "config.yaml").exists():
        time.sleep(0.01)
    began = time.monotonic() - started
    finished(process)
    return end_of(output), began, time.monotonic() - started - began


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_training_continues_to_the_same_end(
    data: Path, straight: tuple[Any, float, float], tmp_path: Path, seed: int
) -> None:
    expected, _, length = straight
    rng, output = random.Random(seed), tmp_path / "run"
    workers = ["--num-workers", str(rng.choice([0, 0, 2]))]
    for _ in range(rng.choice([1, 2])):
        process = training(data, output, *workers, "--resume")
        while process.poll() is None and not (output / LOCK_NAME).exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, length))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished(training(data, output, *workers, "--resume"))
    assert_same(end_of(output), expected)
    assert not [path for path in output.rglob(".*") if path.is_file()]


DIES_IN = """
import os, signal
import {module} as module
former, calls = module.{name}, []
def dies(*arguments, **options):
    calls.append(1)
    if len(calls) == {number}:
        {before}os.kill(os.getpid(), signal.SIGKILL)
    result = former(*arguments, **options)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
module.{name} = dies
"""
WRITES = [
    ("protomask.engine.session", "save_weights", 1, True),
    ("protomask.engine.session", "save_weights", 1, False),
    ("protomask.engine.session", "save_weights", 4, True),
    ("protomask.engine.session", "save_weights", 5, True),
    ("protomask.engine.folder", "_save", 1, True),
    ("protomask.engine.folder", "_save", 5, False),
    ("protomask.engine.log", "MetricsLog.write", 1, True),
    ("protomask.engine.log", "MetricsLog.write", 2, True),
    ("protomask.engine.log", "MetricsLog.write", 2, False),
    ("protomask.engine.log", "MetricsLog.write", 6, True),
    ("protomask.engine.config", "TrainConfig.save", 1, False),
]


@pytest.mark.parametrize(("module", "name", "number", "before"), WRITES)
def test_killed_between_any_two_writes(
    data: Path, straight: tuple[Any, float, float], tmp_path: Path, module: str, name: str, number: int, before: bool
) -> None:
    output = tmp_path / "run"
    code = DIES_IN.format(module=module, name=name, number=number, before="" if before else "0 and ")
    killed = training(data, output, "--num-workers", "0", code=code)
    killed.wait()
    assert killed.returncode == -signal.SIGKILL
    finished(training(data, output, "--num-workers", "0", "--resume"))
    assert_same(end_of(output), straight[0])


def wait_for(condition: Callable[[], bool], process: Training) -> None:
    stop = time.monotonic() + 200
    while not condition() and process.poll() is None and time.monotonic() < stop:
        time.sleep(0.01)


def test_a_signal_to_the_group_of_a_training_with_workers_saves(
    data: Path, straight: tuple[Any, float, float], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    process = training(data, output, "--num-workers", "2")
    wait_for(lambda: "iteration" in _text(output / "metrics.jsonl"), process)
    second = training(data, output, "--num-workers", "0", "--resume")
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    said, refused = process.wait(), second.wait()
    assert process.returncode == 1, said
    assert "saved; resume continues" in said
    assert "Traceback" not in said
    assert second.returncode == 2 or "continuing" in refused
    finished(training(data, output, "--num-workers", "2", "--resume"))
    assert_same(end_of(output), straight[0])


def test_a_second_training_in_one_folder_is_refused_and_a_finished_one_says_how_to_train_longer(
    data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    first = training(data, output, "--num-workers", "0")
    wait_for(lambda: (output / LOCK_NAME).exists(), first)
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        said = training(data, output, "--num-workers", "0", "--resume").wait()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert "output: expected a folder that nothing else is writing" in said
    finished(first)
    said = finished(training(data, output, "--num-workers", "0", "--resume"))
    assert (
        f"to train longer: protomask train --config {output}/config.yaml --resume --no-report --iterations +2" in said
    )
    longer = training(data, output, "--num-workers", "0", "--resume", "--iterations", "12")
    said = longer.wait()
    assert "iterations was 9, got 12; +N prolongs a run at its end by N" in said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_error_of_a_loader_reads_like_any_other(data: Path, tmp_path: Path, workers: str) -> None:
    import shutil

    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    image = broken / "images" / "train" / "1.png"
    image.write_bytes(image.read_bytes()[:60])
    process = training(broken, tmp_path / "run", "--num-workers", workers)
    said = process.wait()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if "1.png" in line]) == 1


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
