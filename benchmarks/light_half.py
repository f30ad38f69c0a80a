"""What the light half costs: its installation, its start, its first image, its memory; beside another environment.

    uv run --extra dev python benchmarks/light_half.py --image src/protomask/samples/scene_1.jpg
    ... --against OTHER/bin/python "predict scene.jpg --model OTHER.onnx"   another environment, another command line

A fresh environment is made and this checkout installed into it. Commands of both environments take turns; medians are
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from measuring import positive

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=ROOT / "src/protomask/samples/scene_1.jpg")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--against", nargs=2, metavar=("PYTHON", "ARGUMENTS"), help="another environment")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        environment = Path(folder) / "light"
        subprocess.run(["uv", "venv", "--quiet", environment], check=True)
        light = environment / "bin" / "python"
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(light), str(ROOT)], check=True)
        candidates = {"light": (light, f"predict {arguments.image}")}
        if arguments.against:
            candidates["other"] = (Path(arguments.against[0]), arguments.against[1])
        rows: dict[str, Any] = {name: {"times": {}, "peaks": {}} for name in candidates}
        for _ in range(1 + arguments.rounds):  # the first round fills the caches of the file system
            for name, (python, line) in candidates.items():
                save = ["--save-dir", str(Path(folder) / "found")]
                commands = {
                    "import protomask": ["-c", "import protomask"],
                    "protomask --help": ["-m", "protomask", "--help"],
                    "protomask predict": ["-m", "protomask", *line.split(), *save],
                }
                for what, command in commands.items():
                    seconds, peak = measure([str(python), *command])
                    rows[name]["times"].setdefault(what, []).append(seconds)
                    rows[name]["peaks"].setdefault(what, []).append(peak)
        for name, (python, _) in candidates.items():
            rows[name]["installed_mb"] = installed(python)
    told = {
        name: {
            "installed_mb": round(row["installed_mb"]),
            **{f"{what}, s": round(median(values[1:]), 2) for what, values in row["times"].items()},
            **{f"{what}, peak MB": round(median(values[1:])) for what, values in row["peaks"].items()},
        }
        for name, row in rows.items()
    }
    if arguments.json:
        print(json.dumps(told, indent=2))
        return
    for what in told["light"]:
        print(f"{what:<32}" + "".join(f"{name} {values[what]:>8}   " for name, values in told.items()))


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds from start to exit, and the largest resident set in MB (10^6 bytes)."""
    started = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        assert process.stderr is not None
        sys.exit(f"{command}: {process.stderr.read().decode()}")
    return seconds, usage.ru_maxrss * 1024 / 1e6


def installed(python: Path) -> float:
    """Size of an environment in MB (10^6 bytes), files that several names share counted once."""
    seen: dict[int, int] = {}
    for path in python.parents[1].rglob("*"):
        if path.is_file() and not path.is_symlink():
            seen[path.stat().st_ino] = path.stat().st_size
    return sum(seen.values()) / 1e6


if __name__ == "__main__":
    main()
