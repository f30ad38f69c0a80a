from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from protomask.bench.chart import bench_chart
from protomask.bench.compare import save_comparison
from protomask.bench.latency import STAGES, Summary
from protomask.bench.memory import MemoryUse
from protomask.bench.models import ModelSpec
from protomask.bench.report import BenchReport, BenchSettings, ModelResult
from svg_elements import check_readable, count, words_of


def result(source: str, slowness: float = 1.0, *, ap: float | None = None) -> ModelResult:
    stages = {stage: Summary(median_ms=slowness, p95_ms=2 * slowness) for stage in STAGES}
    return ModelResult(
        spec=ModelSpec(source=source),
        instances_per_image=13.5,
        stages={**stages, "nms": None, "total": Summary(median_ms=6 * slowness, p95_ms=12 * slowness)},
        throughput={1: 100 / slowness, 4: 120 / slowness},
        memory=MemoryUse(loaded_mib=100.0, peak_mib=200.0, gpu_peak_mib=None),
        ap=None if ap is None else {"mask_AP": ap},
    )


def report(*models: ModelResult) -> BenchReport:
    settings = BenchSettings(
        images=("a.jpg",), data=None, data_split=None, data_images=None, rounds=5, warmup=1, score_threshold=0.3,
        device="auto",
    )  # fmt: skip
    machine = {"cpu": "a processor", "threads": 2, "date": "2026-11-29"}
    return BenchReport(machine=machine, settings=settings, models=models)


@pytest.mark.parametrize("number", [1, 2, 12])
@pytest.mark.parametrize("ap", [None, 0.5])
def test_the_chart_is_readable(number: int, ap: float | None) -> None:
    models = [result(f"runs/a_model_with_a_long_name_{k}.safetensors", 1.7**k, ap=ap) for k in range(number)]
    chart = bench_chart(report(*models))
    check_readable(chart)
    words = [word.text for word in words_of(chart)]
    assert {"a_model_with_a_long_name_0.safetensors", "6.0 ms (p95 12.0)", "rest", "Throughput"} <= set(words)
    assert ("mask AP" in chart.body) == (ap is not None)
    assert "a processor, 2 threads, 2026-11-29; 5 rounds over 1 image" in words
    assert count(chart, "reach") == number


def test_files_of_one_name_keep_their_folders() -> None:
    words = [word.text for word in words_of(bench_chart(report(result("a/best.onnx"), result("b/best.onnx"))))]
    assert {"a/best.onnx", "b/best.onnx"} <= set(words)


def test_an_ap_that_cannot_be_measured_is_not_drawn_as_zero() -> None:
    model = replace(result("a"), ap={"mask_AP": None})
    assert "no data" in [word.text for word in words_of(bench_chart(report(model)))]


def test_both_files_are_written(tmp_path: Path) -> None:
    compared = report(result("a", ap=0.5), result("b", 2.0, ap=0.6))
    written = save_comparison(compared, tmp_path / "new")
    assert written == [tmp_path / "new" / "bench.json", tmp_path / "new" / "bench.svg"]
    content = json.loads(written[0].read_text())
    assert content == compared.to_dict()
    assert content["models"][1]["throughput"] == [
        {"batch_size": 1, "images_per_second": 50.0}, {"batch_size": 4, "images_per_second": 60.0}
    ]  # fmt: skip
    assert written[1].read_text() == bench_chart(compared).document()
