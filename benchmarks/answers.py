"""How long the command line takes to answer: right and wrong names, paths and options.

    uv run --extra dev python benchmarks/answers.py

Medians of several rounds, in which the commands take turns: wall time, and processor time, which other work on the
machine hardly changes. The exit code is 1 where the processor time of one is above its limit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from measuring import positive

# Arguments and limit in seconds. Folder `data` has annotations and images that nothing reads.
COMMANDS: tuple[tuple[str, float], ...] = (
    ("--help", 0.3),
    ("models", 0.3),
    ("predict --help", 0.5),
    ("train --help", 0.5),
    ("predict gone.jpg", 0.5),
    ("predict photo.jpg --model yolact_resnet5", 0.5),
    ("train --data gone", 0.5),
    ("train --data data --weights gone.pth", 0.5),
    ("train --data data --epochs 0", 0.5),
    ("eval --data gone", 0.5),
    ("eval --data data --model gone.onnx", 0.5),
    ("export gone.pth", 0.5),
    ("bench gone.onnx", 0.5),
    ("convert gone.pth a.safetensors", 0.5),
    ("data check gone", 0.5),
    ("data convert gone out", 0.5),
    ("data synth out --images -1", 0.5),
    ("report gone", 0.5),
    ("demo --images -1", 0.5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {line: [] for line, _ in COMMANDS}
    with TemporaryDirectory() as folder:
        make_place(Path(folder))
        for _ in range(1 + arguments.rounds):  # the first round fills the caches of the file system
            for line, _ in COMMANDS:
                times[line].append(measure(line.split(), folder))
    slow = 0
    for line, limit in COMMANDS:
        wall, processor = (median(values) for values in zip(*times[line][1:], strict=True))
        slow += processor > limit
        remark = "   too slow" if processor > limit else ""
        print(f"protomask {line:<46}{wall:>6.2f} s   processor {processor:.2f} s   limit {limit} s{remark}")
    sys.exit(1 if slow else 0)


def measure(arguments: list[str], folder: str) -> tuple[float, float]:
    """Wall and processor time of a command, in seconds."""
    started = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "protomask", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    return perf_counter() - started, usage.ru_utime + usage.ru_stime


def make_place(folder: Path) -> None:
    """What the commands need to be wrong in one place only."""
    (folder / "photo.jpg").write_bytes((Path(__file__).parents[1] / "src/protomask/samples/scene_1.jpg").read_bytes())
    for split in ("train", "val"):
        (folder / "data" / "images" / split).mkdir(parents=True)
        (folder / "data" / "annotations").mkdir(exist_ok=True)
        (folder / "data" / "annotations" / f"{split}.json").touch()


if __name__ == "__main__":
    main()
