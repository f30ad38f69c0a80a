from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protomask.bench.latency import (
    STAGES,
    Summary,
    Turn,
    in_turns,
    measure_latency,
    measure_throughput,
    summarize,
    time_prediction,
)
from protomask.detection.options import Limits, PredictOptions
from protomask.errors import DataError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Predictor
from protomask.structures.instances import Instances


class Pretender(Predictor):
    """Finds one pixel, slowly; does all in one stage as an exported graph may."""

    source = "nowhere"
    class_names = ("thing",)
    model_name = "pretender"
    device = "cpu"

    def __init__(self, name: str, calls: list[str], seconds: float = 0.0) -> None:
        self.name = name
        self.calls = calls
        self.seconds = seconds

    def limits(self, options: PredictOptions) -> Limits:
        return Limits("fast", 100)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        self.calls.append(self.name)
        time.sleep(self.seconds)
        if timings is not None:
            timings["network"] = self.seconds
        return [
            Instances(
                boxes=np.array([[0, 0, 1, 1]], dtype=np.float32),
                labels=np.zeros(1, dtype=np.int64),
                class_scores=np.ones(1, dtype=np.float32),
                masks=np.ones((1, *image.shape[:2]), dtype=np.bool_),
                image_size=(image.shape[0], image.shape[1]),
                class_names=self.class_names,
            )
            for image in images
        ]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        Image.new("RGB", (6, 4)).save(path)
    return paths


@pytest.mark.parametrize(
    ("seconds", "median_ms", "p95_ms"),
    [
        ([0.002], 2.0, 2.0),
        ([0.001, 0.003], 2.0, 2.9),
        ([0.005, 0.001, 0.003], 3.0, 4.8),
        ([index / 1000 for index in range(101)], 50.0, 95.0),
    ],
)
def test_summary(seconds: list[float], median_ms: float, p95_ms: float) -> None:
    summary = Summary.of(seconds)
    assert summary.median_ms == pytest.approx(median_ms)
    assert summary.p95_ms == pytest.approx(p95_ms)


def test_stages_that_are_not_measured_are_none() -> None:
    turns = [Turn(seconds={"network": 0.1, "total": 0.2}, instances=1)] * 3
    summary = summarize(turns)
    assert list(summary) == [*STAGES, "total"]
    assert {name for name, one in summary.items() if one is not None} == {"network", "total"}


def test_every_candidate_begins_in_its_turn() -> None:
    order = list(in_turns(["a", "b"], [1, 2, 3], rounds=1))
    assert order == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]


def test_time_of_a_prediction(images: list[Path]) -> None:
    turn = time_prediction(Pretender("slow", [], seconds=0.01), images[0], score_threshold=0.3)
    assert turn.instances == 1
    assert set(turn.seconds) == {"decode", "network", "masks", "total"}
    assert turn.seconds["total"] >= sum(turn.seconds.values()) - turn.seconds["total"]


def test_candidates_take_turns(images: list[Path]) -> None:
    calls: list[str] = []
    predictors = {"a": Pretender("a", calls, 0.005), "b": Pretender("b", calls)}
    turns = measure_latency(predictors, images, rounds=3, warmup=1)
    assert [len(one) for one in turns.values()] == [6, 6]
    assert calls == ["a", "b", "b", "a"] * 4
    assert min(turn.seconds["total"] for turn in turns["a"]) >= 0.005


def test_throughput_by_batch_size(images: list[Path]) -> None:
    calls: list[str] = []
    rates = measure_throughput({"a": Pretender("a", calls, 0.01)}, images, [1, 5], rounds=2)
    assert len(calls) == 6
    assert 0 < rates["a"][1] <= 100
    assert rates["a"][1] < rates["a"][5] <= 500


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        measure_latency({"a": Pretender("a", [])}, [tmp_path / "broken.jpg"], rounds=1)
