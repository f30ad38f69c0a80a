"""How long predictors take from an image file to run-length masks, measured in turns.

Candidates that are compared take turns on every image, and each turn begins with another of them, so that a change in
the machine's load meets all alike. Medians and 95th percentiles are reported, no means: one interruption by the
operating system would shift a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np

from protomask.detection.options import PredictOptions
from protomask.images.decode import read_image
from protomask.inference.predictor import Predictor

STAGES = ("decode", "preprocess", "network", "nms", "masks")
"""What `time_prediction` measures, in order; ``total`` is everything from file to result."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Times of one stage in milliseconds."""

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Summary:
        """Median and 95th percentile (interpolated between the two nearest) of at least one time."""
        return cls(median_ms=1000 * median(seconds), p95_ms=1000 * float(np.percentile(seconds, 95)))


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One prediction of one file.

    Attributes:
        seconds: by stage, of those that the predictor measures, and ``total``, which also holds what is between them.
        instances: number of instances found.

    """

    seconds: Mapping[str, float]
    instances: int


def summarize(turns: Sequence[Turn]) -> dict[str, Summary | None]:
    """One `Summary` for each of `STAGES` and for ``total``; None for a stage that the predictor does not measure."""
    return {
        stage: Summary.of([turn.seconds[stage] for turn in turns]) if stage in turns[0].seconds else None
        for stage in (*STAGES, "total")
    }


def time_prediction(predictor: Predictor, path: Path, *, score_threshold: float) -> Turn:
    """Predict one file, from reading it to run-length masks, and keep what scores above the threshold."""
    seconds: dict[str, float] = {}
    started = perf_counter()
    image = read_image(path)
    seconds["decode"] = perf_counter() - started
    [found] = predictor.predict_images([image], PredictOptions(score_threshold=score_threshold), timings=seconds)
    predicted = perf_counter()
    found.rle()
    ended = perf_counter()
    if "postprocess" in seconds:
        seconds["nms"] = seconds.pop("postprocess")
    return Turn(seconds={**seconds, "masks": ended - predicted, "total": ended - started}, instances=len(found))


def in_turns(names: Sequence[str], items: Sequence[Item], *, rounds: int) -> Iterator[tuple[str, Item]]:
    """Every name with every item, ``rounds`` times: all names take an item before the next item comes, and each turn
    begins with the next name.
    """
    turn = 0
    for _ in range(rounds):
        for item in items:
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                yield name, item
            turn += 1


def measure_latency(
    predictors: Mapping[str, Predictor],
    images: Sequence[Path],
    *,
    rounds: int,
    warmup: int = 1,
    score_threshold: float = 0.3,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, list[Turn]]:
    """Time single images in turns.

    Args:
        predictors: candidates by name.
        images: at least one file.
        rounds: timed predictions of each image by each candidate.
        warmup: untimed predictions of each image by each candidate, before all others.
        score_threshold: find only what scores above this.
        on_turn: called after each prediction.

    Raises:
        DataError: an image cannot be read; the message names it.

    """
    turns: dict[str, list[Turn]] = {name: [] for name in predictors}
    for name, path in in_turns(list(predictors), images, rounds=warmup):
        time_prediction(predictors[name], path, score_threshold=score_threshold)
        on_turn()
    for name, path in in_turns(list(predictors), images, rounds=rounds):
        turns[name].append(time_prediction(predictors[name], path, score_threshold=score_threshold))
        on_turn()
    return turns


def measure_throughput(
    predictors: Mapping[str, Predictor],
    images: Sequence[Path],
    batch_sizes: Sequence[int],
    *,
    rounds: int,
    score_threshold: float = 0.3,
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, dict[int, float]]:
    """Images per second by batch size, from files to run-length masks: those of the median batch.

    One untimed batch of each size goes first.

    Args:
        predictors: candidates by name.
        images: at least one file; they are repeated to fill a batch.
        batch_sizes: images that go through the network together.
        rounds: timed batches of each size by each candidate.
        score_threshold: find only what scores above this.
        on_turn: called after each batch.

    """
    options = PredictOptions(score_threshold=score_threshold)
    rates: dict[str, dict[int, float]] = {name: {} for name in predictors}
    for size in batch_sizes:
        files = list(islice(cycle(images), size))
        seconds: dict[str, list[float]] = {name: [] for name in predictors}
        for name, _ in in_turns(list(predictors), [None], rounds=1 + rounds):
            started = perf_counter()
            batch = [read_image(path) for path in files]
            for found in predictors[name].predict_images(batch, options):
                found.rle()
            seconds[name].append(perf_counter() - started)
            on_turn()
        for name, values in seconds.items():
            rates[name][size] = size / median(values[1:])
    return rates
