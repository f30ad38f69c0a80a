"""Exported files of one model in all formats, side by side: how they differ from PyTorch, size, time and memory.

Write the files first, each as ``protomask export MODEL --format FORMAT --fixed-size``. Differences are those that
``protomask verify`` finds, in the unit of each output. The files take turns on the same images, in one process with the
same number of threads; times are medians of the rounds, and multiples of the first file's, since other work moves them
all alike. Peak memory is that of a process that only loads this file and predicts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import protomask
from measuring import argument_parser, milliseconds, report
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.inference.sources import open_source
from protomask.runtimes.shipped import SAMPLES

ONLY_PREDICT = """
import json, sys
import protomask
from protomask.memory import peak_mib
file, images, threads = sys.argv[1:]
for frame in protomask.load(file, threads=int(threads)).stream(images):
    pass
print(json.dumps(peak_mib()))
"""


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("files", nargs="+", help="exported files; times are multiples of the first one's")
    parser.add_argument("--images", default=str(SAMPLES), help="image, folder or glob")
    arguments = parser.parse_args()
    images = [frame.image for frame in open_source(arguments.images)]
    predictors = {file: opened(file, arguments.threads) for file in arguments.files}
    times = milliseconds(
        {file: partial(predict, one, images) for file, one in predictors.items()}, rounds=arguments.rounds
    )
    first = times[arguments.files[0]]
    rows: list[dict[str, Any]] = []
    for file in arguments.files:
        done = protomask.verify(file)
        rows.append(
            {
                "file": Path(file).name,
                **{name: f"{size:.1e}" for name, size in done.differences.items()},
                "same": done.passed,
                "MiB": sum(part.stat().st_size for part in parts_of(Path(file))) / 2**20,
                "ms per image": times[file] / len(images),
                "times the first": times[file] / first,
                "peak MiB": memory(file, arguments),
            }
        )
    report("Exported files of one model", rows, json_file=arguments.json)


def opened(file: str, threads: int) -> Predictor:
    if Path(file).suffix in (".pt2", ".pte"):
        import torch

        torch.set_num_threads(threads)
    return protomask.load(file, threads=threads)


def predict(predictor: Predictor, images: list[Pixels]) -> None:
    for image in images:
        [found] = predictor.predict_images([image])
        found.rle()


def parts_of(file: Path) -> list[Path]:
    return [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]


def memory(file: str, arguments: Any) -> float:
    """In a process that has imported nothing else."""
    given = [file, arguments.images, str(arguments.threads)]
    done = subprocess.run([sys.executable, "-c", ONLY_PREDICT, *given], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
