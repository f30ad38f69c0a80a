"""The HTML page that compares runs, from plain data: one file, no script, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from protomask.charts.drawing import Chart
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.reports.compared_run import KINDS, ComparedRun, Kind
from protomask.reports.markup import Difference, columns, document, figure, html_table, measure_name, tiles
from protomask.reports.settings_table import settings_table

_SAME_SHARE = 0.01  # steps of runs stand for as many images if they differ by less

Record = Mapping[str, Any]


def render_comparison(runs: Sequence[ComparedRun]) -> str:
    """The whole document about two or more runs; the first is what the others are compared with."""
    names = " / ".join(run.name for run in runs)
    sections = {
        "runs": ("Runs", _runs(runs)),
        "curves": ("Training curves", _curves(runs)),
        "ap": ("Average precision", _average_precision(runs)),
        "settings": ("Settings", settings_table(runs)),
    }
    lead = '<p class="muted">Comparison of training runs.</p>' + tiles(
        [(f"mask AP {run.name}", figure(run.measures("mask").get("AP"))) for run in runs]
    )
    return document(f"{names}: comparison of runs", names, lead, sections)


def _runs(runs: Sequence[ComparedRun]) -> str:
    heads = ["run", "model", "iterations", "epochs", "time", "best mask AP", "at iteration"]
    rows = []
    for run in runs:
        best, share = run.best or {}, run.epochs_per_iteration
        rows.append(
            [
                run.name,
                run.settings.get("model") or run.settings.get("weights") or "–",
                run.iterations,
                "–" if share is None else f"{share * run.iterations:.1f}",
                "–" if run.seconds is None else f"{run.seconds / 60:.1f} min",
                best.get("mask_AP"),
                best.get("iteration"),
            ]
        )
    return html_table(heads, rows, "what was trained, and its best validation")


def _curves(runs: Sequence[ComparedRun]) -> str:
    shares = [run.epochs_per_iteration for run in runs]
    known = [share for share in shares if share]
    by_epoch = bool(known) and max(known) > min(known) * (1 + _SAME_SHARE)
    label = "epoch" if by_epoch else "iteration"

    def place(run: ComparedRun, line: Record) -> float:
        return float(line["iteration"]) * ((run.epochs_per_iteration or 0.0) if by_epoch else 1.0)

    def chart(title: str, y: Axis, key: str, lines: Callable[[ComparedRun], Sequence[Record]], marks: bool) -> Chart:
        series = [
            Series(
                name=run.name,
                points=[(place(run, line), line[key]) for line in lines(run) if line.get(key) is not None],
                marks=marks,
                number=number,
            )
            for number, run in enumerate(runs)
        ]
        return line_chart(series, title=title, x=Axis(label=label), y=y)

    ap = Axis(label="average precision")
    charts = [
        chart("Mask AP", ap, "mask_AP", lambda run: run.validations, True),
        chart("Box AP", ap, "box_AP", lambda run: run.validations, True),
        chart("Loss", Axis(label="loss", log=True), "loss_total", lambda run: run.steps, False),
        chart("Learning rate", Axis(label="learning rate"), "learning_rate", lambda run: run.steps, False),
    ]
    if all(run.seconds for run in runs):
        charts.insert(2, _by_time(runs))
    note = "<p>A step of these runs stands for different shares of their images, so the curves go by epoch.</p>"
    losses = "<p>Losses compare only where model and losses are the same.</p>"
    return (note if by_epoch else "") + losses + columns(charts)


def _by_time(runs: Sequence[ComparedRun]) -> Chart:
    series = [
        Series(
            name=run.name,
            points=[
                (line["elapsed_seconds"] / 60, line["mask_AP"])
                for line in run.validations
                if line.get("elapsed_seconds") is not None and line.get("mask_AP") is not None
            ],
            marks=True,
            number=number,
        )
        for number, run in enumerate(runs)
    ]
    return line_chart(series, title="Mask AP by time", x=Axis(label="minutes"), y=Axis(label="average precision"))


def _average_precision(runs: Sequence[ComparedRun]) -> str:
    notes = [f"{run.name} {run.missing}; protomask report {run.path} makes a new one." for run in runs if run.missing]
    if notes:
        notes.append("Until then only AP, AP50 and AP75 of its best validation are known, and no classes.")
    if len({repr(run.truth) for run in runs if run.report is not None}) > 1:
        notes.append("The reports count different images or objects, which alone can make a difference.")
    notes.append(f"Differences are from {runs[0].name}.")
    text = "".join(f"<p>{escape(note)}</p>" for note in notes)
    measures = "".join(_measures(kind, runs) for kind in KINDS)
    classes = "".join(_classes(kind, runs) for kind in KINDS if any(run.classes(kind) for run in runs))
    return f'{text}<div class="tables">{measures}</div><div class="tables">{classes}</div>'


def _measures(kind: Kind, runs: Sequence[ComparedRun]) -> str:
    values = [run.measures(kind) for run in runs]
    names = dict.fromkeys(name for one in values for name in one)
    rows = [[measure_name(name), *_beside([one.get(name) for one in values])] for name in names]
    return html_table(["measure", *_heads(runs)], rows, f"{kind}, all classes")


def _classes(kind: Kind, runs: Sequence[ComparedRun]) -> str:
    values = [run.classes(kind) for run in runs]
    rows = []
    for name in dict.fromkeys(name for one in values for name in one):
        known = [one.get(name, {}) for one in values]
        objects = next(one["num_objects"] for one in known if one)
        rows.append([name, objects, *_beside([one.get("AP") for one in known])])
    return html_table(["class", "objects", *_heads(runs)], rows, f"{kind} AP, each class")


def _heads(runs: Sequence[ComparedRun]) -> list[str]:
    first, *others = [run.name for run in runs]
    return [first, *(head for name in others for head in (name, "difference"))]


def _beside(values: Sequence[float | None]) -> list[float | None]:
    """The value of the first run, then that of each other run and its difference from the first."""
    first, *others = values
    cells = [first]
    for value in others:
        cells += [value, None if value is None or first is None else Difference(value - first)]
    return cells
