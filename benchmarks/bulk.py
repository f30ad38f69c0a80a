"""Bulk prediction against `predict` in one run: images/s, memory, and what kills cost.

    uv run --extra dev --extra ray python benchmarks/bulk.py --images 2000               some minutes
    uv run --extra dev --extra ray python benchmarks/bulk.py --images 50000 --shard-size 500 --model small.onnx

where small.onnx is yolact_nano for images of 128 px: `protomask convert yolact_nano small.safetensors --model-options
'{"image_size": 128}'`, then `protomask export small.safetensors --form candidates --output small.onnx`.

Parts, in turn, each the command line in processes of its own: `predict` (JSON lines with run-length codes, no drawings)
over a folder of small images, before and after all else, since machines drift; `bulk` with the local engine and with
Ray; then both again, killed (SIGKILL to all their processes) at random moments, and continued. Rates are over the whole
run, start-up included; "steady" leaves out the time until the first images are done. Memory is the sum of the
proportional set sizes of all processes of a run, which is flat if its second half is no higher than its first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from PIL import Image

from measuring import positive, report
from protomask.runtimes.shipped import SAMPLES

ROOT = Path(__file__).resolve().parents[1]
SCENES = sorted(SAMPLES.glob("*.jpg"))
SIDE = 128
BROKEN_EVERY = 1000
ENGINES = ("local", "ray")


class Run(NamedTuple):
    """A command that ended.

    Attributes:
        seconds: from its start to its end.
        steady: images/s from the first sign of finished images to the end; None where they were too few.
        mib: memory of all of its processes, looked at once a second.
        printed: on standard output.

    """

    seconds: float
    steady: float | None
    mib: list[float]
    printed: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=2000)
    parser.add_argument("--shard-size", type=positive, default=100)
    parser.add_argument("--model", default="yolact_nano", help="name or exported file")
    parser.add_argument("--workers", type=positive, default=os.cpu_count())
    parser.add_argument("--kills", type=int, default=3, help="of each engine; 0 leaves that part out")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--folder", type=Path, help="where images and results go; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = measure(Path(folder), arguments)
    report(f"bulk prediction of {arguments.images} images of {SIDE}x{SIDE}", rows, json_file=arguments.json)


def measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    images = write_images(folder / "images", arguments.images, arguments.seed)
    rows = [predicted(folder, images, arguments)]
    rows += [bulk(folder, images, engine, arguments) for engine in arguments.engines]
    rows.append(predicted(folder, images, arguments))
    reference = median([rows[0]["images/s"], rows[-1]["images/s"]])
    for row in rows:
        row["of predict"] = row["images/s"] / reference
    if arguments.kills:
        seconds = {row["run"]: row["seconds"] for row in rows}
        rows += [killed(folder, images, engine, seconds[f"bulk {engine}"], arguments) for engine in arguments.engines]
    return rows


def write_images(folder: Path, count: int, seed: int) -> Path:
    """Parts of the shipped scenes; one in a thousand is broken."""
    draw, scenes = random.Random(seed), [Image.open(path).convert("RGB") for path in SCENES]
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            path.write_bytes(b"no image")
            continue
        scene = scenes[number % len(scenes)]
        left, top = draw.randrange(scene.width - SIDE), draw.randrange(scene.height - SIDE)
        scene.crop((left, top, left + SIDE, top + SIDE)).save(path, quality=90)
    return folder


def predicted(folder: Path, images: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    output = folder / "predicted"
    shutil.rmtree(output, ignore_errors=True)
    # A broken image is failed work of `predict`: its exit code is 1.
    command = ["predict", str(images), "--recursive", "--save-dir", str(output), "--save-jsonl", "--no-save-overlay"]
    command += ["--model", arguments.model]
    done = run(command, output / "predictions.jsonl", arguments.images, codes=(0, 1))
    return row_of("predict", done, arguments.images, exact=True)


def bulk(folder: Path, images: Path, engine: str, arguments: argparse.Namespace) -> dict[str, Any]:
    output = folder / f"bulk_{engine}"
    done = run(bulk_command(images, output, engine, arguments), output / "shards", arguments.images)
    return row_of(f"bulk {engine}", done, arguments.images, exact=is_exact(output, done.printed, arguments.images))


def killed(folder: Path, images: Path, engine: str, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same run, killed at random moments; every file must be made once."""
    draw, output = random.Random(arguments.seed + 1), folder / f"killed_{engine}"
    command, kept, repeated = bulk_command(images, output, engine, arguments), dict[str, int](), 0
    started = time.perf_counter()
    for _ in range(arguments.kills):
        process = start(command)
        wait_until = time.monotonic() + draw.uniform(0.3, 0.9) * seconds / arguments.kills
        while time.monotonic() < wait_until and process.poll() is None:
            time.sleep(0.05)
        if not (output / "plan.json").is_file():  # it had not begun
            wait_for(output / "plan.json", process)
        kill_all(process)
        made = times_of(output)
        repeated += sum(made.get(name) != stamp for name, stamp in kept.items())
        kept = made
        command = [*bulk_command(images, output, engine, arguments), "--resume"]
    done = run(command, output / "shards", arguments.images)
    made = times_of(output)
    repeated += sum(made.get(name) != stamp for name, stamp in kept.items())
    lost = -(-arguments.images // arguments.shard_size) - len(made)
    row = row_of(
        f"bulk {engine}, killed", done, arguments.images, exact=is_exact(output, done.printed, arguments.images)
    )
    total = time.perf_counter() - started
    row |= {"seconds": total, "images/s": arguments.images / total, "steady": None, "of predict": None}
    print(f"{engine}: {arguments.kills} kills, {len(kept)} files kept, {repeated} repeated, {lost} lost", flush=True)
    assert repeated == lost == 0, "files were repeated or lost"
    return row


def bulk_command(images: Path, output: Path, engine: str, arguments: argparse.Namespace) -> list[str]:
    return [
        "bulk", str(images), "--recursive", "--output", str(output), "--engine", engine, "--workers",
        str(arguments.workers), "--shard-size", str(arguments.shard_size), "--model", arguments.model, "--json",
    ]  # fmt: skip


def row_of(name: str, done: Run, count: int, *, exact: bool) -> dict[str, Any]:
    half = len(done.mib) // 2
    return {
        "run": name, "seconds": done.seconds, "images/s": count / done.seconds, "steady": done.steady,
        "of predict": None, "MiB first half": max(done.mib[:half], default=0.0),
        "MiB second half": max(done.mib[half:], default=0.0), "exact": exact,
    }  # fmt: skip


def is_exact(output: Path, printed: str, count: int) -> bool:
    """Whether every image is in the files once, and broken ones are rows with an error."""
    from pyarrow import parquet

    told, broken = json.loads(printed), len(range(BROKEN_EVERY // 2, count, BROKEN_EVERY))
    table = parquet.read_table(output / "shards", columns=["id", "error"])
    ids = table["id"].to_pylist()
    counts = (told["images"], told["failed"], len(ids), len(set(ids)), len(ids) - table["error"].null_count)
    return counts == (count, broken, count, count, broken)


def run(arguments: Sequence[str], grows: Path, count: int, *, codes: tuple[int, ...] = (0,)) -> Run:
    """A command from start to end."""
    started, mib, first = time.perf_counter(), list[float](), None
    with tempfile.TemporaryFile("w+") as said:  # not a pipe, which nobody would empty
        process = start(arguments, said)
        while process.poll() is None:
            time.sleep(0.2)
            if first is None and (finished := images_in(grows)):
                first = (time.perf_counter(), finished)
            if len(mib) < time.perf_counter() - started:
                mib.append(sum(pss_mib(pid) for pid in family(process.pid)))
        seconds = time.perf_counter() - started
        assert process.returncode in codes, f"{arguments}: exit code {process.returncode}"
        said.seek(0)
        printed = said.read()
    ahead = 0.0 if first is None else started + seconds - first[0]
    return Run(seconds, (count - first[1]) / ahead if first and ahead > 5 else None, mib, printed)


def start(arguments: Sequence[str], said: Any = subprocess.DEVNULL) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "protomask", *arguments], env=environment, text=True, start_new_session=True,
        stdout=said, stderr=subprocess.DEVNULL if "ray" in arguments else None,
    )  # fmt: skip


def images_in(path: Path) -> int:
    """Images that are finished: lines of a file, or rows of the files of a folder."""
    from pyarrow import parquet

    if path.is_dir():
        return sum(parquet.read_metadata(file).num_rows for file in path.glob("0*.parquet"))
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.is_file():
        assert process.poll() is None
        time.sleep(0.05)


def family(pid: int) -> list[int]:
    """A process and all that it started, and they started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def kill_all(process: subprocess.Popen[str]) -> None:
    for pid in family(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    time.sleep(1)


def pss_mib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def times_of(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (output / "shards").glob("0*.parquet")}


if __name__ == "__main__":
    main()
