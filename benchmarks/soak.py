"""Does a long training use more and more memory? Runs `protomask train` and samples the memory of all its processes.

Everything after `--` are options of `protomask train`. Prints the memory in each tenth of the run after the first
minutes, and how it grows over an hour by a straight line through the samples of the last two thirds. Shared pages are
counted once (proportional set size); Linux only.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil  # type: ignore[import-untyped]

from measuring import positive, report

TENTHS = 10


def memory_mib(process: psutil.Process) -> float:
    """Of a process and all that it started."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="example: python benchmarks/soak.py --minutes 30 -- --data shapes --epochs 1000 --output runs/soak",
    )
    parser.add_argument("--minutes", type=float, default=30, help="the training is stopped after so long")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--skip", type=positive, default=3, help="minutes at the start that do not count")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rows, samples and environment here")
    parser.add_argument("training", nargs="+", help="options of protomask train")
    options = parser.parse_args()
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "protomask", "train", *options.training])
    process = psutil.Process(child.pid)
    samples: list[tuple[float, float]] = []
    while child.poll() is None and time.monotonic() - started < 60 * options.minutes:
        samples.append((time.monotonic() - started, memory_mib(process)))
        time.sleep(options.every)
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)  # it saves its state and ends
    child.wait()
    counted = [(at, used) for at, used in samples if at > 60 * options.skip]
    if len(counted) < TENTHS:
        raise SystemExit(f"the training ended (code {child.returncode}) before there were {TENTHS} samples")
    parts = np.array_split(np.array(counted), TENTHS)
    rows = [
        {
            "minutes": f"{part[0, 0] / 60:.1f} .. {part[-1, 0] / 60:.1f}",
            "median MiB": median(part[:, 1]),
            "largest MiB": float(part[:, 1].max()),
        }
        for part in parts
    ]
    late = np.array(counted[len(counted) // 3 :])
    slope = float(np.polyfit(late[:, 0] / 3600, late[:, 1], 1)[0])
    report(f"memory of protomask train, {slope:+.0f} MiB an hour", rows, json_file=options.json)
    if options.json is not None:
        content = json.loads(options.json.read_text(encoding="utf-8"))
        options.json.write_text(json.dumps({**content, "mib_per_hour": slope, "samples": samples}), encoding="utf-8")


if __name__ == "__main__":
    main()
