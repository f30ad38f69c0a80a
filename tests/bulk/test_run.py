"""Bulk runs as a whole: counts, what is kept when one goes on, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from pyarrow import parquet

from image_folders import write_images
from protomask.bulk import run as bulk_run
from protomask.bulk.local import _Job, _learn_from_death
from protomask.bulk.on_ray import _plain
from protomask.bulk.options import BulkModel, BulkOptions
from protomask.bulk.run import BulkResult, predict_bulk
from protomask.bulk.worker import ShardWorker
from protomask.detection.options import PredictOptions
from protomask.errors import CheckpointError, ConfigError, MissingExtraError, ProtomaskError

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("in"), [f"{number:02}.jpg" for number in range(9)], broken=["05.jpg"])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Engines that work in this process; the shards that they are given."""
    given: list[int] = []

    def engine(plan: Any, shards: list[int], bulk: Any) -> Any:
        worker = ShardWorker(str(plan.output))
        for shard in shards:
            given.append(shard)
            yield worker.write_shard(shard).images

    monkeypatch.setattr(bulk_run, "_engine", engine)
    return given


def ids(output: Path) -> list[str]:
    return [Path(name).name for name in parquet.read_table(output / "shards")["id"].to_pylist()]


def run(folder: Path, output: Path, *, options: PredictOptions | None = None, **changes: Any) -> BulkResult:
    bulk = BulkOptions(output=str(output), **{"shard_size": 2, **changes})
    return predict_bulk([str(folder)], bulk, options=options)


def test_counts_are_those_of_the_files(folder: Path, tmp_path: Path, here: list[int]) -> None:
    result = run(folder, tmp_path / "out")
    assert (result.images, result.failed, result.shards, result.images_here) == (9, 1, 5, 9)
    assert ids(tmp_path / "out") == [f"{number:02}.jpg" for number in range(9)]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["instances"] == result.instances


def test_finished_files_are_kept_and_others_made_again(folder: Path, tmp_path: Path, here: list[int]) -> None:
    first = run(folder, tmp_path / "out")
    shards = tmp_path / "out" / "shards"
    (shards / "000001.parquet").unlink()
    content = (shards / "000003.parquet").read_bytes()
    (shards / "000003.parquet").write_bytes(content[: len(content) // 2])
    before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    here.clear()
    again = run(folder, tmp_path / "out", resume=True)
    assert here == [1, 3]
    assert (again.images, again.failed, again.instances, again.images_here) == (9, 1, first.instances, 4)
    for name in ("000000.parquet", "000002.parquet", "000004.parquet"):
        assert (shards / name).stat().st_mtime_ns == before[name]
    here.clear()
    assert run(folder, tmp_path / "out", resume=True).images_here == 0
    assert here == []
    run(folder, tmp_path / "out", resume=True, retry_errors=True)
    assert here == [2]


def test_files_of_another_run_do_not_count(folder: Path, tmp_path: Path, here: list[int]) -> None:
    run(folder, tmp_path / "one")
    run(folder, tmp_path / "two")
    foreign = (tmp_path / "one" / "shards" / "000000.parquet").read_bytes()
    (tmp_path / "two" / "shards" / "000000.parquet").write_bytes(foreign)
    here.clear()
    run(folder, tmp_path / "two", resume=True)
    assert here == [0]


def test_what_is_refused(folder: Path, tmp_path: Path, here: list[int]) -> None:
    run(folder, tmp_path / "out", resume=True)  # where none has begun, one begins
    with pytest.raises(ConfigError, match=r"output: expected a new folder, or resume to go on"):
        run(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"shard_size: expected 2, as when the run in .*out began, got 3"):
        run(folder, tmp_path / "out", resume=True, shard_size=3)
    with pytest.raises(ConfigError, match=r"score_threshold: expected 0\.3"):
        run(folder, tmp_path / "out", resume=True, options=PredictOptions(score_threshold=0.9))
    with pytest.raises(ConfigError, match="inputs: expected"):
        run(folder / "00.jpg", tmp_path / "out", resume=True)
    with pytest.raises(ConfigError, match="retry_errors: expected False without resume"):
        BulkOptions(output="out", retry_errors=True)
    with pytest.raises(ConfigError, match="gpus: expected 0 with the local engine"):
        BulkOptions(output="out", gpus=1)
    (tmp_path / "out" / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"output: expected a plan of version 1 in .*plan\.json"):
        run(folder, tmp_path / "out", resume=True)


def test_a_run_without_any_file_has_not_begun(folder: Path, tmp_path: Path, here: list[int]) -> None:
    with pytest.raises(ConfigError, match="classes"):
        run(folder, tmp_path / "out", options=PredictOptions(classes=("horse",)))
    assert (tmp_path / "out" / "plan.json").is_file()
    assert run(folder, tmp_path / "out", options=PredictOptions(classes=("person",))).images == 9


def test_another_file_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"one")
    before = BulkModel(model=str(tmp_path / "a.onnx")).fingerprint()
    (tmp_path / "a.onnx").write_bytes(b"two")
    assert BulkModel(model=str(tmp_path / "a.onnx")).fingerprint() != before


def test_the_image_that_ends_a_process_twice_is_named() -> None:
    job = _Job(3, at=7)
    _learn_from_death(job, -11)
    assert job.deadly == {}  # images were read ahead: it may have been another one
    job.at = 8
    _learn_from_death(job, -11)
    assert job.deadly == {8: "the process that predicted this image was ended by signal 11"}
    lost = _Job(3, at=None, deaths=2)
    with pytest.raises(ProtomaskError, match="3 processes in a row were ended by signal 9 in shard 3"):
        _learn_from_death(lost, -9)


def test_progress_is_never_told_twice() -> None:
    job = _Job(0)
    assert [job.done(number) for number in (1, 2, 1, 2, 3, 5)] == [1, 1, 0, 0, 1, 2]


def test_an_engine_that_is_not_installed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'protomask\[ray\]'"):
        run(folder, tmp_path / "out", engine="ray")


def test_errors_of_ray_workers_read_like_any_other() -> None:
    text = "ray::Map\n  File x\nprotomask.errors.CheckpointError: /nowhere.onnx: no such file\n"
    plain = _plain(RuntimeError(text))
    assert (type(plain), str(plain)) == (CheckpointError, "/nowhere.onnx: no such file")
    other = RuntimeError("out of memory")
    assert _plain(other) is other


def command(folder: Path, output: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "protomask", "bulk", str(folder), "--output", str(output), "--shard-size", "3",
        "--workers", "2", "--json", *more,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_runs_lose_and_repeat_nothing(tmp_path: Path, engine: str) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    folder = write_images(tmp_path / "in", [f"{number:03}.jpg" for number in range(90)], broken=["017.jpg"])
    output = tmp_path / "out"
    more = ["--engine", engine]
    kept: dict[str, int] = {}
    for kills in (3, 9):
        process = subprocess.Popen(
            command(folder, output, *more), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while len(list((output / "shards").glob("0*.parquet"))) < kills:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(1)  # what its workers had begun may still be finished
        for name, made in kept.items():
            assert (output / "shards" / name).stat().st_mtime_ns == made
        kept = {path.name: path.stat().st_mtime_ns for path in (output / "shards").glob("0*.parquet")}
        assert kills <= len(kept) < 30
        more = ["--engine", engine, "--resume"]
    done = subprocess.run(command(folder, output, *more), env=ENVIRONMENT, capture_output=True, check=True, timeout=240)
    told = json.loads(done.stdout)
    assert (told["images"], told["failed"], told["shards"]) == (90, 1, 30)
    assert told["images_here"] == 90 - 3 * len(kept)
    assert ids(output) == [f"{number:03}.jpg" for number in range(90)]
    for name, made in kept.items():
        assert (output / "shards" / name).stat().st_mtime_ns == made


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", [f"{number:03}.jpg" for number in range(60)])
    output = tmp_path / "out"
    process = subprocess.Popen(command(folder, output), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        process.kill()
        pytest.skip("the processes of a process cannot be found on this system")
    deadline = time.monotonic() + 120
    while not list((output / "shards").glob("0*.parquet")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(printed)["failed"] == 0
    assert ids(output) == [f"{number:03}.jpg" for number in range(60)]
