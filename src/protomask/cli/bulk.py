"""`protomask bulk`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from protomask.bulk.options import BulkModel, BulkOptions
from protomask.detection.options import PredictOptions

if TYPE_CHECKING:
    from protomask.bulk.run import BulkResult
    from protomask.cli.output import Bar

EXAMPLE = "protomask bulk photos/ --recursive --output found"
POSITIONAL = ("inputs",)
GROUPS = {
    "what matters most": ("output", "model", "weights", "engine", "resume", "score_threshold", "classes"),
    "where images are": ("recursive", "image_column", "id_column", "image_root"),
    "how the work is divided": ("workers", "threads", "gpus", "ray_address", "shard_size", "retry_errors"),
    "what is found": (
        "iou_threshold", "max_detections", "nms", "candidate_threshold", "batch_size", "tile", "tile_overlap",
        "image_size",
    ),
    "what runs the network": ("runtime", "device", "precision"),
}  # fmt: skip


def run(inputs: list[str], bulk: BulkOptions, model: BulkModel, options: PredictOptions, *, json: bool = False) -> int:
    """Find the instances in very many images, on this machine or on a Ray cluster, and write them as Parquet files.

    Args:
        inputs: images, folders, quoted globs, listings (.txt, a path or address per line), Parquet files with paths or
            bytes, or addresses of any of these such as s3://bucket/photos.
        bulk: where images come from, where rows go, and what works on it.
        model: what finds the instances.
        options: what is found.
        json: print one JSON summary instead of text.
    """
    from dataclasses import asdict

    from protomask.bulk.run import predict_bulk
    from protomask.cli.codes import DONE, FAILED
    from protomask.cli.default_model import DefaultModelNotes
    from protomask.cli.output import dump_json, progress

    if model.model is None and model.weights is None:
        DefaultModelNotes(model.load(threads=1), options).begin()
    with progress("bulk", None, quiet=json, lines=True) as bar:
        result = predict_bulk(inputs, bulk, model=model, options=options, reporter=_Shown(bar))
    if json:
        dump_json({**asdict(result), "images_per_second": round(result.images_per_second, 2)})
    else:
        _print(result)
    if result.failed == result.images:
        print("no image could be read; the column error says why", file=sys.stderr)
        return FAILED
    return DONE


class _Shown:
    """Shows how a run goes."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._done = self._total = 0

    def planned(self, images: int, finished: int) -> None:
        """See `protomask.bulk.run.BulkReporter.planned`."""
        self._done, self._total = finished, images
        before = f", {finished} of them finished before" if finished else ""
        self._bar.message(f"{images} images{before}")
        self.advanced(0)

    def advanced(self, images: int) -> None:
        """See `protomask.bulk.run.BulkReporter.advanced`."""
        self._done += images
        self._bar.update(self._done, self._total)


def _print(result: BulkResult) -> None:
    print(
        f"{result.images - result.failed} of {result.images} images predicted, {result.failed} failed, "
        f"{result.instances} instances in {result.shards} files; {result.images_here} images in this run, "
        f"{result.images_per_second:.1f} images/s; results in {result.output}"
    )
