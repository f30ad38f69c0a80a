"""The charts of a comparison of models."""

from __future__ import annotations

from math import nan
from pathlib import PurePath

from protomask.bench.report import BenchReport, ModelResult
from protomask.charts.bars import Bar, stacked_bars
from protomask.charts.drawing import Chart, arrange
from protomask.charts.keys import Entry, key_chart
from protomask.charts.plots import Series, line_chart, scatter_chart
from protomask.charts.scales import Axis

_WIDTH = 880.0


def bench_chart(report: BenchReport) -> Chart:
    """Where the time of an image goes, the throughput by batch size and, where it is known, AP over time."""
    names = _short_names(report)
    machine = report.machine
    where = ", ".join(str(machine[name]) for name in ("cpu", "gpu") if machine.get(name))
    images = len(report.settings.images)
    with_ap = report.models[0].ap is not None
    key = key_chart([Entry(name=name, number=k, look="marked") for k, name in enumerate(names)], width=_WIDTH)
    panels = [_throughput(report, names, _WIDTH / 2 if with_ap else _WIDTH)]
    if with_ap:
        panels.append(_accuracy(report, names))
    return arrange(
        [[_stages(report, names)], [key], panels],
        title="Models compared",
        notes=[
            f"{where}, {machine['threads']} threads, {machine['date']}; "
            f"{report.settings.rounds} rounds over {images} image{'s' * (images != 1)}"
        ],
    )


def _short_names(report: BenchReport) -> list[str]:
    """Models without the folders they lie in, unless that makes two of them equal."""
    names = [PurePath(model.name).name for model in report.models]
    return names if len(set(names)) == len(names) else [model.name for model in report.models]


def _stages(report: BenchReport, names: list[str]) -> Chart:
    stages = [stage for stage in report.models[0].stages if stage != "total"]
    return stacked_bars(
        [_bar(model, name, stages) for model, name in zip(report.models, names, strict=True)],
        [*stages, "rest"],
        title="Time per image, from file to run-length masks",
        x=Axis(label="milliseconds: median of each stage; the thin line ends at the 95th percentile of the total"),
        width=_WIDTH,
    )


def _bar(model: ModelResult, name: str, stages: list[str]) -> Bar:
    medians = [0.0 if (one := model.stages[stage]) is None else one.median_ms for stage in stages]
    total = model.total
    return Bar(
        name=name,
        parts=[*medians, max(0.0, total.median_ms - sum(medians))],
        reach=total.p95_ms,
        words=f"{total.median_ms:.1f} ms (p95 {total.p95_ms:.1f})",
    )


def _throughput(report: BenchReport, names: list[str], width: float) -> Chart:
    sizes = list(report.models[0].throughput)
    margin = max(0.2, 0.1 * (len(sizes) - 1))
    return line_chart(
        [
            Series(name=name, points=list(enumerate(model.throughput.values())), marks=True)
            for name, model in zip(names, report.models, strict=True)
        ],
        title="Throughput",
        x=Axis(
            label="batch size",
            span=(-margin, len(sizes) - 1 + margin),
            ticks={float(k): str(size) for k, size in enumerate(sizes)},
        ),
        y=Axis(label="images per second"),
        width=width,
        key=False,
    )


def _accuracy(report: BenchReport, names: list[str]) -> Chart:
    return scatter_chart(
        {
            name: (model.total.median_ms, nan if (ap := (model.ap or {}).get("mask_AP")) is None else ap)
            for name, model in zip(names, report.models, strict=True)
        },
        title="Mask AP over time per image",
        x=Axis(label="milliseconds per image (median)"),
        y=Axis(label="mask AP"),
        width=_WIDTH / 2,
        key=False,
    )
