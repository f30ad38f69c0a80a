"""How long predictors take from an image file to run-length masks, measured in turns.

Candidates that are compared take turns on every image, and each turn begins with another of them, so that a change in
the machine's load meets all alike. Medians and 95th percentiles are told, no means: one interruption by the operating
system would shift a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, get_args

import numpy as np

from protomask.api import load
from protomask.errors import ConfigError
from protomask.images.decode import read_image
from protomask.inference.base import ImagePredictor
from protomask.inference.predictor import Precision

STAGES = ("decode", "preprocess", "network", "nms", "masks")
"""From file to result: what `time_prediction` tells apart, in order; ``total`` is all of it."""
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model as the command line names it: ``SOURCE``, ``SOURCE@bf16``, ``SOURCE@compile``, ``SOURCE@fp16@compile``.

    Attributes:
        source: what `protomask.load` takes.
        precision: float32, bf16 or fp16.
        compile: whether the network is compiled.

    """

    source: str
    precision: str = "float32"
    compile: bool = False

    @classmethod
    def parse(cls, text: str, *, precision: str = "float32") -> ModelSpec:
        """Read a name with its suffixes; a file whose own name contains ``@`` is taken as it is.

        Args:
            text: see the class.
            precision: where the text names none.

        Raises:
            ConfigError: no source, an unknown suffix, or two precisions.

        """
        if Path(text).is_file():
            return cls(source=text, precision=precision)
        folder, slash, name = text.rpartition("/")
        base, *suffixes = name.split("@")
        known = (*PRECISIONS, "compile")
        unknown = [suffix for suffix in suffixes if suffix not in known]
        if unknown or not base:
            raise ConfigError(f"model: expected NAME, or NAME@ and one of {', '.join(known)}, got {text!r}")
        chosen = [suffix for suffix in suffixes if suffix in PRECISIONS]
        if len(suffixes) != len(set(suffixes)) or len(chosen) > 1:
            raise ConfigError(f"model: expected each suffix and one precision at most once, got {text!r}")
        return cls(
            source=f"{folder}{slash}{base}",
            precision=chosen[0] if chosen else precision,
            compile="compile" in suffixes,
        )

    def __str__(self) -> str:
        precision = "" if self.precision == "float32" else f"@{self.precision}"
        return f"{self.source}{precision}{'@compile' if self.compile else ''}"

    def load(self, device: str = "auto") -> ImagePredictor:
        """The predictor; raises what `protomask.load` raises."""
        options: dict[str, Any] = {}
        if self.precision != "float32":
            options["precision"] = self.precision
        if self.compile:
            options["compile"] = True
        return load(self.source, device=device, **options)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of the times of one stage, milliseconds."""

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
        seconds: of the stages that the predictor tells apart, and ``total``, which also holds what is between them.
        instances: how many were found.

    """

    seconds: Mapping[str, float]
    instances: int


def summarize(turns: Sequence[Turn]) -> dict[str, Summary | None]:
    """One `Summary` for each of `STAGES` and for ``total``; None for a stage that the predictor does not tell apart."""
    return {
        stage: Summary.of([turn.seconds[stage] for turn in turns]) if stage in turns[0].seconds else None
        for stage in (*STAGES, "total")
    }


def time_prediction(predictor: ImagePredictor, path: Path, **options: Any) -> Turn:
    """Predict one file, from reading it to run-length masks; options as in `ImagePredictor.predict`."""
    seconds: dict[str, float] = {}
    started = perf_counter()
    image = read_image(path)
    seconds["decode"] = perf_counter() - started
    [found] = predictor.predict_images([image], timings=seconds, **options)
    predicted = perf_counter()
    found.rle()
    ended = perf_counter()
    if "postprocess" in seconds:
        seconds["nms"] = seconds.pop("postprocess")
    return Turn(seconds={**seconds, "masks": ended - predicted, "total": ended - started}, instances=len(found))


def in_turns(names: Sequence[str], items: Sequence[Any], *, rounds: int) -> Iterator[tuple[str, Any]]:
    """Every name with every item, ``rounds`` times: all names take an item before the next comes, each turn begins with
    the next name.
    """
    turn = 0
    for _ in range(rounds):
        for item in items:
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                yield name, item
            turn += 1


def measure_latency(
    predictors: Mapping[str, ImagePredictor],
    images: Sequence[Path],
    *,
    rounds: int,
    warmup: int = 1,
    on_turn: Callable[[], None] = lambda: None,
    **options: Any,
) -> dict[str, list[Turn]]:
    """Time single images in turns.

    Args:
        predictors: candidates by name.
        images: at least one file.
        rounds: timed predictions of each image by each candidate.
        warmup: untimed predictions of each image by each candidate, before all others.
        on_turn: called after each prediction.
        options: as in `ImagePredictor.predict`.

    Raises:
        DataError: an image cannot be read; the message names it.

    """
    turns: dict[str, list[Turn]] = {name: [] for name in predictors}
    for name, path in in_turns(list(predictors), images, rounds=warmup):
        time_prediction(predictors[name], path, **options)
        on_turn()
    for name, path in in_turns(list(predictors), images, rounds=rounds):
        turns[name].append(time_prediction(predictors[name], path, **options))
        on_turn()
    return turns


def measure_throughput(
    predictors: Mapping[str, ImagePredictor],
    images: Sequence[Path],
    batch_sizes: Sequence[int],
    *,
    rounds: int,
    on_turn: Callable[[], None] = lambda: None,
    **options: Any,
) -> dict[str, dict[int, float]]:
    """Images per second from files to run-length masks by batch size, of the median batch; one untimed batch first.

    Args:
        predictors: candidates by name.
        images: at least one file; they are repeated to fill a batch.
        batch_sizes: images that go through the network together.
        rounds: timed batches of each size by each candidate.
        on_turn: called after each batch.
        options: as in `ImagePredictor.predict`.

    """
    rates: dict[str, dict[int, float]] = {name: {} for name in predictors}
    for size in batch_sizes:
        files = list(islice(cycle(images), size))
        seconds: dict[str, list[float]] = {name: [] for name in predictors}
        for name, _ in in_turns(list(predictors), [None], rounds=1 + rounds):
            started = perf_counter()
            for found in predictors[name].predict_images([read_image(path) for path in files], **options):
                found.rle()
            seconds[name].append(perf_counter() - started)
            on_turn()
        for name, values in seconds.items():
            rates[name][size] = size / median(values[1:])
    return rates
