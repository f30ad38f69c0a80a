"""Bulk prediction from the inputs to the counts: plan, engine, summary."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from protomask.bulk.local import available_processors, run_local
from protomask.bulk.options import BulkModel, BulkOptions
from protomask.bulk.plan import Plan, make_plan, resume_plan
from protomask.bulk.schema import Counts
from protomask.detection.options import PredictOptions
from protomask.errors import ProtomaskError
from protomask.files import locked_folder
from protomask.storage import place_of, require_pyarrow

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True, kw_only=True)
class BulkResult:
    """What a bulk run has done.

    Attributes:
        output: its folder or address.
        images: rows of all files.
        failed: rows with an error.
        instances: number of instances in all other rows.
        shards: files.
        images_here: images that this run predicted; an interrupted one before it predicted the others.
        seconds: duration of this run.

    """

    output: str
    images: int
    failed: int
    instances: int
    shards: int
    images_here: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images per second of this run."""
        return self.images_here / max(self.seconds, 1e-9)


class BulkReporter(Protocol):
    """Is told how a bulk run goes."""

    def planned(self, images: int, finished: int) -> None:
        """All images are known; some of them were finished by an earlier run."""

    def advanced(self, images: int) -> None:
        """More images are done."""


class Silent:
    """A reporter that says nothing."""

    def planned(self, images: int, finished: int) -> None:
        """See `BulkReporter.planned`."""

    def advanced(self, images: int) -> None:
        """See `BulkReporter.advanced`."""


def predict_bulk(
    inputs: Sequence[str],
    bulk: BulkOptions,
    *,
    model: BulkModel | None = None,
    options: PredictOptions | None = None,
    reporter: BulkReporter | None = None,
) -> BulkResult:
    """Predict very many images into Parquet files.

    Args:
        inputs: see `protomask.bulk.listing.image_rows`.
        bulk: where rows go, and what works on it.
        model: what finds the instances; the shipped default when not given.
        options: what is found.
        reporter: is told how the run goes.

    Returns:
        Exact counts, taken from the files.

    Raises:
        ConfigError: settings that do not go together, or another run's output.
        DataError: an input cannot be read, or stands for no image.
        MissingExtraError: pyarrow, Ray, or what runs the model is not installed.
        ProtomaskError: a file is missing at the end, or cannot be written.

    """
    require_pyarrow()
    began, reporter = monotonic(), reporter or Silent()
    model, options = model or BulkModel(), options or PredictOptions()
    with _alone(bulk.output):
        plan = (resume_plan if bulk.resume else make_plan)(inputs, model, options, bulk)
        finished = plan.finished() if bulk.resume else []
        kept = {one.shard: one.counts for one in finished if not (bulk.retry_errors and one.counts.failed)}
        images_kept = sum(counts.images for counts in kept.values())
        reporter.planned(plan.images, images_kept)
        missing = [shard for shard in range(plan.shards) if shard not in kept]
        if missing:
            with closing(_engine(plan, missing, bulk)) as news:
                for images in news:
                    reporter.advanced(images)
        result = _counted(plan, plan.images - images_kept, monotonic() - began)
        plan.output.child(SUMMARY_NAME).write((json.dumps(asdict(result), indent=2) + "\n").encode())
    return result


def _alone(output: str) -> AbstractContextManager[None]:
    place = place_of(output)
    return locked_folder(Path(place.path), "output") if place.is_local else nullcontext()


def _engine(plan: Plan, shards: Sequence[int], bulk: BulkOptions) -> Generator[int, None, None]:
    """Predict shards; yields numbers of images as they are done."""
    if bulk.engine == "ray":
        from protomask.bulk.on_ray import run_on_ray

        return run_on_ray(str(plan.output), shards, bulk)
    workers = bulk.workers or max(1, available_processors() // bulk.threads)
    return run_local(str(plan.output), shards, workers=workers, threads=bulk.threads)


def _counted(plan: Plan, images_here: int, seconds: float) -> BulkResult:
    """Count what the files hold.

    Raises:
        ProtomaskError: one is missing, or is not whole.

    """
    finished = plan.finished()
    missing = sorted(set(range(plan.shards)) - {one.shard for one in finished})
    if missing:
        raise ProtomaskError(f"{plan.place_of(missing[0])}: expected a whole file at the end of the run, got none")
    counts = Counts()
    for one in finished:
        counts = counts.plus(one.counts)
    return BulkResult(
        output=str(plan.output), **counts._asdict(), shards=plan.shards, images_here=images_here,
        seconds=round(seconds, 3),
    )  # fmt: skip
