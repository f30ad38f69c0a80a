"""Sections of a page about errors, as HTML."""

from __future__ import annotations

from html import escape

from protomask.charts.bars import Bar, stacked_bars
from protomask.charts.drawing import Chart
from protomask.charts.scales import Axis
from protomask.evaluation.errors.report import GROUPINGS, ErrorReport, MaskFaults
from protomask.reports.markup import columns, figure, html_table
from protomask.reports.remedies import MEANINGS, remedy_rows

_WIDTH = 640.0


def types_section(report: ErrorReport) -> str:
    """Errors by type: what each costs, and how many there are."""
    charts = [
        _bars({name: tally.AP_cost for name, tally in errors.types.items()}, f"AP50 of {words} that each type costs")
        for kind, words in (("mask", "masks"), ("box", "boxes"))
        if (errors := report.types.get(kind)) is not None
    ]
    heads = ["type", *(f"{kind} {name}" for kind in report.types for name in ("errors", "AP50 cost"))]
    rows = [[name, *values] for name, values in report.type_rows()]
    return (
        "<p>Every wrong detection and every object that is not found has one type (TIDE, Bolya et al. 2020). The cost "
        "is how much AP at an IoU of 0.5 would gain if this type, and nothing else, were repaired; costs do not add "
        "up.</p>"
        f'{columns(charts)}<div class="tables">{html_table(heads, rows, "errors by type")}'
        f"{_meanings(report, 'types')}</div>"
    )


def faults_section(faults: MaskFaults, report: ErrorReport) -> str:
    """Faults of masks, and boundary AP."""
    rows = [[name, tally.count, tally.AP_cost] for name, tally in faults.faults.items()]
    chart = _bars({name: tally.AP_cost for name, tally in faults.faults.items()}, "Mask AP that each fault costs")
    outside = "" if faults.mean_outside_box is None else f", {faults.mean_outside_box:.1%} outside of its box"
    leakage = "" if faults.mean_leakage is None else (
        f" On average {faults.mean_leakage:.1%} of a mask lies off its object, not just along the outline{outside}."
    )  # fmt: skip
    return (
        "<p>Every mask with an object has one fault or none. The cost is how much mask AP would gain if the masks with "
        "this fault were their objects. Boundary AP compares only the pixels near the outlines (Cheng et al. 2021): it "
        f"is far below mask AP where large masks are right in the middle and wrong along the edge.{leakage}</p>"
        f'{columns([chart])}<div class="tables">'
        f"{html_table(['fault', 'masks', 'mask AP cost'], rows, 'faults of masks')}"
        f"{html_table(['measure', 'mask', 'boundary'], report.boundary_rows(), 'AP by mask IoU and by boundary IoU')}"
        f"{_meanings(report, 'faults')}</div>"
    )


def _bars(costs: dict[str, float], title: str) -> Chart:
    bars = [Bar(name=name, parts=[cost], words=figure(cost)) for name, cost in costs.items()]
    return stacked_bars(bars, ["cost"], title=title, x=Axis(label="AP"), width=_WIDTH)


def _meanings(report: ErrorReport, of: str) -> str:
    words = "".join(f"<dt>{escape(name)}</dt><dd>{escape(MEANINGS[name])}</dd>" for name in report.tallies()[of])
    return f'<dl class="facts">{words}</dl>'


def where_section(report: ErrorReport) -> str:
    """Errors by size, crowding and class."""
    tables = []
    for by, title in GROUPINGS.items():
        for kind in report.tallies() if len(report.objects[by]) > 1 else ():
            heads, rows = report.breakdown(by, kind)
            caption = f"{'errors' if kind == 'types' else 'faults of masks'} by {title}"
            tables.append(html_table([title, *heads], [[name, *values] for name, values in rows], caption))
    return (
        "<p>An error belongs to the object that it is about; background counts by its own size and class. "
        "Sizes are those of COCO: up to 32², up to 96² px², and above. Objects are crowded if their box and that of "
        "another object have an IoU of 0.2 or more, and touching if the boxes share less than that.</p>"
        f'<div class="tables">{"".join(tables)}</div>'
    )


def remedies_section(report: ErrorReport) -> str:
    """What to try against the errors that cost most."""
    rows = remedy_rows(report)
    if not rows:
        return "<p>Nothing costs anything.</p>"
    words = "".join(f"<dt>{escape(name)}, {figure(cost)}</dt><dd>{escape(remedy)}</dd>" for name, cost, remedy in rows)
    return (
        "<p>The errors that cost most AP, and what to try against them. Measure again after each change.</p>"
        f'<dl class="facts">{words}</dl>'
    )
