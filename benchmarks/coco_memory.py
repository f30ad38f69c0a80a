"""Memory and time of a large COCO annotation file: read as a data set, and as the same data set in Parquet.

    uv run --extra dev python benchmarks/coco_memory.py                        1,000,000 annotations, some minutes
    uv run --extra dev python benchmarks/coco_memory.py --annotations 100000

The file has eight objects on each image, outlines of 12 to 40 points with one decimal, as COCO's have; image files are
empty, because only their names are looked at. Each measurement is a process of its own. "file" is the size of what is
read; "peak" is the largest resident set, "kept" the resident set when all is read, both less what the same process has
before it begins.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import positive, report

PER_IMAGE = 8
CLASSES = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=positive, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the data set goes; a temporary one by default")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        data = write_data(Path(folder), arguments.annotations)
        rows = [measured(name, read, data) for name, read in READERS.items()]
    report(f"a COCO file of {arguments.annotations} annotations", rows, json_file=arguments.json)


def write_data(folder: Path, annotations: int) -> Path:
    """A data set whose two splits are the same file."""
    draw, images = random.Random(0), -(-annotations // PER_IMAGE)
    (folder / "annotations").mkdir()
    (folder / "images" / "train").mkdir(parents=True)
    names = [f"{number:012}.jpg" for number in range(images)]
    for name in names:
        (folder / "images" / "train" / name).touch()
    with (folder / "annotations" / "train.json").open("w") as file:
        entries = [{"id": n + 1, "file_name": name, "height": 480, "width": 640} for n, name in enumerate(names)]
        categories = [{"id": n + 1, "name": f"class {n + 1}"} for n in range(CLASSES)]
        file.write(f'{{"images": {json.dumps(entries)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number in range(annotations):
            file.write((", " if number else "") + json.dumps(annotation(number, draw)))
        file.write("]}")
    return folder


def annotation(number: int, draw: random.Random) -> dict[str, Any]:
    left, top, points = draw.uniform(0, 540), draw.uniform(0, 380), draw.randint(12, 40)
    outline = [round(draw.uniform(0, 100) + (left, top)[axis % 2], 1) for axis in range(2 * points)]
    return {
        "id": number + 1, "image_id": number // PER_IMAGE + 1, "category_id": draw.randint(1, CLASSES), "iscrowd": 0,
        "area": 5000.5, "bbox": [left, top, 100.0, 100.0], "segmentation": [outline],
    }  # fmt: skip


def read_coco(folder: Path) -> tuple[int, Any]:
    from protomask.data.coco.dataset import CocoDataset

    dataset = CocoDataset(folder / "annotations" / "train.json", folder / "images" / "train")
    return (folder / "annotations" / "train.json").stat().st_size, dataset


def read_parquet(folder: Path) -> tuple[int, Any]:
    """The set that `in_parquet` wrote, with every annotation read once in the order of a pass."""
    import numpy as np

    from protomask.data.coco.layout import open_dataset
    from protomask.data.shards.opening import dataset_of_split

    dataset = dataset_of_split(open_dataset(folder / "parquet", ("train",)), "train")
    shown = np.arange(len(dataset))
    for index in dataset.order(np.random.default_rng(0), shown):
        dataset.load_annotations(int(index))
    size = sum(path.stat().st_size for path in (folder / "parquet" / "train").iterdir())
    return size, dataset


def in_parquet(folder: Path) -> tuple[int, Any]:
    from protomask.data.shards.write import write_shards

    (folder / "annotations" / "val.json").write_text('{"images": [], "annotations": [], "categories": []}')
    yaml = folder / "set.yaml"
    train = "train_annotations: annotations/train.json\ntrain_images: images/train\n"
    yaml.write_text(train + "val_annotations: annotations/train.json\nval_images: images/train\n")
    write_shards(yaml, str(folder / "parquet"))
    return (folder / "annotations" / "train.json").stat().st_size, None


READERS: dict[str, Callable[[Path], tuple[int, Any]]] = {
    "CocoDataset": read_coco, "data shard": in_parquet, "a pass over the Parquet files": read_parquet,
}  # fmt: skip


def measured(name: str, read: Callable[[Path], tuple[int, Any]], folder: Path) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(theirs, read, folder))
    process.start()
    size, before, peak, kept, seconds = ours.recv()
    process.join()
    return {
        "what": name, "file MiB": size / 2**20, "peak MiB": peak - before, "kept MiB": kept - before,
        "peak / file": (peak - before) / (size / 2**20), "seconds": seconds,
    }  # fmt: skip


def _measure(connection: Any, read: Callable[[Path], tuple[int, Any]], folder: Path) -> None:
    import pyarrow.parquet  # noqa: F401 - neither this nor PyTorch is what is measured

    import protomask.data.coco.dataset  # noqa: F401
    from protomask.memory import peak_mib

    before, started = resident_mib(), time.perf_counter()
    size, dataset = read(folder)
    seconds, kept = time.perf_counter() - started, resident_mib()
    connection.send((size, before, peak_mib(), kept, seconds))
    del dataset


def resident_mib() -> float:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
