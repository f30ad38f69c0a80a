"""Training on two machines, one of which is lost and comes back: two agents of torchrun on this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.test_processes import ENVIRONMENT, losses, settings
from protomask.checkpoints.io import load_weights
from protomask.data.synthetic.write import write_dataset
from protomask.engine import sharing
from protomask.engine.config import TrainConfig
from protomask.engine.folder import RunFolder
from protomask.engine.run import train
from protomask.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")

# Otherwise PyTorch 2.15 does not tell the machine that comes back where the others meet.
ELASTIC_ENVIRONMENT = {**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
STEPS = 24


def elastic(data: Path, output: Path, **changes: Any) -> TrainConfig:
    values = {"iterations": STEPS, "clip_gradient": 5.0, "trackers": (), "validate_every": 100, **changes}
    return settings(data, output, **values)


class Machine:
    """An agent of torchrun with one process."""

    def __init__(self, config: TrainConfig, port: int, folder: Path, *, first: bool) -> None:
        folder.mkdir(exist_ok=True)
        config.save(folder / "settings.yaml")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts",
            "5", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "test",
            "--rdzv-conf", f"is_host={int(first)},keep_alive_interval=2,keep_alive_max_attempt=4",
            "--monitor-interval", "0.5", "-m", "protomask", "train", "--config", str(folder / "settings.yaml"),
            "--resume", "--no-report",
        ]  # fmt: skip
        self.log = folder / f"{time.monotonic()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=ELASTIC_ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def lose(self) -> None:
        """Everything on it ends at once, as when a machine loses its power."""
        children = self.children  # have process groups of their own, and no longer this parent once it is gone
        os.killpg(self.process.pid, signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.wait()

    @property
    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return list(map(int, text.split()))

    def said(self) -> str:
        return self.log.read_text()


def wait_until(holds: Callable[[], bool], *machines: Machine, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "\n".join(machine.said()[-3000:] for machine in machines)
        assert all(machine.process.poll() in (None, 0) for machine in machines), machines[0].said()[-3000:]
        time.sleep(0.05)


def steps_in(*folders: Path) -> int:
    files = [folder / "metrics.jsonl" for folder in folders]
    lines = [file.read_text().splitlines() if file.is_file() else [] for file in files]
    return max(sum('"train"' in line for line in own) for own in lines)


@pytest.mark.slow
@pytest.mark.parametrize("folders", ["shared", "separate"])
def test_a_machine_that_is_lost_and_comes_back_changes_nothing(tmp_path: Path, folders: str) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("the processes of an agent cannot be found on this system")
    write_dataset(tmp_path / "set", images=8, val_images=2, seed=0, image_size=(64, 64))
    outputs = [tmp_path / "run", tmp_path / ("run" if folders == "shared" else "other")]
    configs = [elastic(tmp_path / "set", output, checkpoint_minutes=1e-4) for output in outputs]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    first = Machine(configs[0], port, tmp_path / "first", first=True)
    second = Machine(configs[1], port, tmp_path / "second", first=False)
    again: Machine | None = None
    try:
        wait_until(lambda: steps_in(*outputs) >= 5, first, second)
        second.lose()
        done = steps_in(*outputs)
        assert done < STEPS
        again = Machine(configs[1], port, tmp_path / "second", first=False)
        wait_until(lambda: first.process.poll() == 0 and again.process.poll() == 0, first, again)
    finally:
        for machine in (first, second, again):
            if machine is not None and machine.process.poll() is None:
                machine.lose()
    assert "continuing " in first.said() + again.said()
    two = next(output for output in outputs if steps_in(output) == STEPS)
    alone = train(elastic(tmp_path / "set", tmp_path / "alone", batch_size=4))
    for step, expected in zip(losses(two), losses(alone.output), strict=True):
        assert step == pytest.approx(expected, rel=1e-3, abs=1e-5)
    weights = load_weights(two / "last.safetensors").state_dict()
    for key, value in load_weights(alone.last_weights).state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_the_newest_state_is_sent_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("a", "b")]
    for folder, iteration in zip(folders, (3, 7), strict=True):
        folder.state_file.parent.mkdir(parents=True)
        torch.save({"progress": {"iteration": iteration}}, folder.state_file)
    (folders[1].path / "metrics.jsonl").write_text("lines")
    iterations = [sharing._saved_iteration(folder) for folder in folders]
    assert iterations == [3, 7]
    assert sharing._saved_iteration(RunFolder(tmp_path / "none")) == -1
    sent: list[Any] = []

    def broadcast(values: list[Any], from_process: int) -> list[Any]:
        assert from_process == 1
        sent.extend(value for value in values if value is not None)
        return [sharing._read(folders[1])]

    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: iterations)
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", broadcast)
    processes: Any = [SimpleNamespace(num_processes=2, process_index=index) for index in (0, 1)]
    for process, folder in zip(processes, folders, strict=True):
        sharing.share_run(process, folder)
    assert len(sent) == 1  # by the one that has it
    assert sharing._saved_iteration(folders[0]) == 7
    assert (folders[0].path / "metrics.jsonl").read_text() == "lines"
    folders[0].state_file.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"state\.pt: expected the state of this run"):
        sharing.share_run(processes[0], folders[0])
