"""The HTML page of a training report, from plain data: no script, no network, image files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from protomask.charts.drawing import Chart, style_sheet
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.evaluation.confusion import Confusion, ImageScore
from protomask.evaluation.quality_report import Population, QualityReport
from protomask.evaluation.tables import CocoMetrics
from protomask.reports.reliability import reliability_diagram

_AP_NAMES = ("AP", "AP50", "AP75")
_CELLS_AT_MOST = 41  # of a confusion matrix to a side, the background included


@dataclass(frozen=True, kw_only=True)
class Example:
    """One validation image, drawn twice: files beside the page, both of one size (width, height)."""

    name: str
    score: ImageScore
    truth: str
    found: str
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What the page shows.

    Attributes:
        title: name of the run.
        facts: where the numbers come from: (name, value).
        settings: of the run, as YAML.
        records: lines of metrics.jsonl.
        metrics: AP of boxes and masks.
        confusion: matrix and score of each image.
        quality: how well scores predict the IoU of masks.
        best: images with the highest quality.
        worst: images with the lowest quality, the lowest first.

    """

    title: str
    facts: Sequence[tuple[str, str]]
    settings: str
    records: Sequence[Mapping[str, Any]]
    metrics: CocoMetrics
    confusion: Confusion
    quality: QualityReport
    best: Sequence[Example]
    worst: Sequence[Example]


def render_page(content: ReportContent) -> str:
    """The whole document."""
    sections = {
        "curves": ("Training curves", _curves(content.records)),
        "ap": ("Average precision", _average_precision(content.metrics)),
        "precision-recall": ("Precision and recall", _precision_recall(content.metrics)),
        "confusion": ("Confusion matrix", _confusion(content.confusion)),
        "quality": ("How honest the scores are", _quality(content.quality)),
        "best": ("Best images", _examples(content.best, content.confusion, "highest")),
        "worst": ("Worst images", _examples(content.worst, content.confusion, "lowest")),
        "settings": ("Settings and provenance", _settings(content)),
    }
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, (title, _) in sections.items())
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{inner}</section>' for name, (title, inner) in sections.items()
    )
    style = style_sheet() + Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    title = escape(content.title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: training report</title>"
        f'<link rel="icon" href="data:,"><style>\n{style}</style></head>\n'
        f"<body><header><h1>{title}</h1>{_headline(content)}<nav><ul>{links}</ul></nav></header>\n"
        f"<main>{body}</main></body></html>\n"
    )


def _headline(content: ReportContent) -> str:
    tiles = [
        (f"{kind} {name}", _figure(getattr(table, name)))
        for kind, table in reversed(content.metrics.tables.items())
        for name in _AP_NAMES
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    count, limit = content.metrics.num_images, content.metrics.max_detections[-1]
    measured = f"Training report. Measured on {count} validation images, up to {limit} detections in each."
    return f'<p class="muted">{measured}</p><dl class="tiles">{shown}</dl>'


def _curves(records: Sequence[Mapping[str, Any]]) -> str:
    steps = [record for record in records if record["kind"] == "train"]
    checks = [record for record in records if record["kind"] == "validation"]

    def points(lines: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
        return [(line["iteration"], line[key]) for line in lines if line.get(key) is not None]

    span = (0.0, max((record["iteration"] for record in records), default=1))
    terms = [key for key in (steps[-1] if steps else {}) if key.startswith("loss_") and key != "loss_total"]
    chart = partial(line_chart, x=Axis(label="iteration", span=span))
    loss = Axis(label="loss", log=True)
    charts = [
        chart([Series(name="total", points=points(steps, "loss_total"))], title="Loss", y=loss),
        chart(
            [Series(name=key.removeprefix("loss_").replace("_", " "), points=points(steps, key)) for key in terms],
            title="Terms of the loss",
            y=loss,
        ),
        chart(
            [
                Series(name=f"{kind} {name} {shown[-1][1]:.3f}", points=shown, marks=True)
                for kind in ("mask", "box")
                for name in _AP_NAMES
                if (shown := points(checks, f"{kind}_{name}"))
            ],
            title="Validation",
            y=Axis(label="average precision"),
        ),
        chart(
            [Series(name="learning rate", points=points(steps, "learning_rate"))],
            title="Learning rate",
            y=Axis(label="learning rate"),
        ),
    ]
    skipped = sum(line["skipped_steps"] for line in steps)
    note = f"<p>{skipped} steps were left out: their loss or gradient was not finite.</p>" if skipped else ""
    return note + _columns(charts)


def _columns(charts: Sequence[Chart]) -> str:
    return f'<div class="columns">{"".join(f"<figure>{chart.inline()}</figure>" for chart in charts)}</div>'


def _average_precision(metrics: CocoMetrics) -> str:
    names = {"AP_small": "AP small, up to 32² px", "AP_medium": "AP medium", "AP_large": "AP large, above 96² px"}
    rows = [[names.get(name, name.replace("_", " ")), *values] for name, values in metrics.rows()]
    columns = ["class", "objects", *(f"{kind} {name}" for kind in metrics.tables for name in ("AP", "AP50"))]
    classes = [[name, count, *values] for name, count, values in metrics.class_rows()]
    return (
        "<p>COCO average precision: mean over classes and over IoU 0.50 to 0.95, unless the name says otherwise. "
        "AR is average recall with so many detections.</p>"
        f'<div class="tables">{_table(["measure", *metrics.tables], rows, "all classes")}'
        f"{_table(columns, classes, 'each class')}</div>"
    )


def _precision_recall(metrics: CocoMetrics) -> str:
    unit = (0.0, 1.0)
    charts = [
        line_chart(
            [
                Series(
                    name=f"IoU {iou:g}, AP {_figure(value)}",
                    points=[(k / 100, y) for k, y in enumerate(table.precision_curve(iou))],
                )
                for iou, value in {0.5: table.AP50, 0.75: table.AP75}.items()
            ],
            title={"mask": "Masks", "box": "Boxes"}[kind],
            x=Axis(label="recall", span=unit),
            y=Axis(label="precision", span=unit),
        )
        for kind, table in reversed(metrics.tables.items())
    ]
    return (
        "<p>Precision of the detections ranked by their scores, down to the score at which so many of the objects are "
        f"found; mean over the classes.</p>{_columns(charts)}"
    )


def _confusion(confusion: Confusion) -> str:
    counts, names = confusion.counts, [*confusion.class_names, "background"]
    shown = list(range(len(names)))
    left_out = ""
    if len(names) > _CELLS_AT_MOST:
        errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        worst = sorted(range(len(names) - 1), key=lambda index: -int(errors[index]))
        shown = [*sorted(worst[: _CELLS_AT_MOST - 1]), len(names) - 1]
        left_out = f" Of {len(names) - 1} classes it shows the {len(shown) - 1} with the most errors."
    rows = []
    for row in shown:
        total = max(1, int(counts[row].sum()))
        cells = [f'<th scope="row">{escape(names[row])}</th>']
        for column in shown:
            count = int(counts[row, column])
            kind = "right" if row == column else "wrong"
            look = f' class="number {kind}" style="--share:{count / total:.3f}"' if count else ""
            cells.append(f"<td{look}>{count or ''}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col" class="number">{escape(names[index])}</th>' for index in shown)
    table = f'<table class="matrix"><thead><tr><th scope="col">truth</th>{head}</tr></thead>'
    return (
        "<p>Rows are the truth, columns what was found among detections that score above "
        f"{confusion.score_threshold:g}. Best scores first, each detection takes the free object that its mask "
        f"overlaps most, of any class, with an IoU of {confusion.iou_threshold:g} or more. The last column counts "
        "missed objects, the last row detections where there is no object. Colours show the share of the row."
        f"{left_out}</p>" + _scrolled("confusion matrix", f"{table}<tbody>{''.join(rows)}</tbody></table>")
    )


def _quality(quality: QualityReport) -> str:
    titles: dict[Population, str] = {"all": "all detections", "matched": "those with an IoU of 0.5 or more"}
    tables = "".join(
        _table(["measure", *quality.score_names], [[name, *values] for name, values in quality.rows(population)], title)
        for population, title in titles.items()
    )
    return (
        "<p>Does a score say how good the mask is? The diagram compares the score with the measured IoU of the masks, "
        f"for detections with a class score above {quality.min_class_score:g}; an honest score lies on the diagonal. "
        "Squares are the class score; circles, where the model rates its masks, the class score times the mask "
        "score.</p>"
        f'{_scrolled("reliability diagram", reliability_diagram(quality).inline())}<div class="tables">{tables}</div>'
    )


def _examples(examples: Sequence[Example], confusion: Confusion, which: str) -> str:
    if not examples:
        return "<p>No validation image has an object or a detection.</p>"
    figures = []
    for example in examples:
        score, name = example.score, escape(example.name)
        wrong, missed = score.detections - score.matches, score.objects - score.matches
        verdict = f"quality {_figure(score.quality)}: {score.matches} of {score.objects} objects right"
        iou = f" (mean IoU {score.iou_sum / score.matches:.3f})" if score.matches else ""
        size = f'width="{example.size[0]}" height="{example.size[1]}"'
        images = "".join(
            f'<div><img src="{escape(file)}" {size} alt="{name}: {words}"><span>{label}</span></div>'
            for file, label, words in (
                (example.truth, "truth", f"{score.objects} annotated objects"),
                (example.found, "found", f"{score.detections} detections"),
            )
        )
        figures.append(
            f"<figure><figcaption>{name}: {verdict}{iou}, {missed} missed, {wrong} wrong</figcaption>"
            f'<div class="pair">{images}</div></figure>'
        )
    return (
        f"<p>The {len(examples)} validation images with the {which} quality. The quality of an image is its F1 score "
        "times the mean IoU of its right masks (panoptic quality of one image): 1 where everything is found exactly "
        "and nothing else, 0 where nothing is right. Matched as in the confusion matrix, scores above "
        f"{confusion.score_threshold:g}.</p>"
        f'<div class="examples">{"".join(figures)}</div>'
    )


def _settings(content: ReportContent) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in content.facts)
    return (
        f'<dl class="facts">{facts}</dl><details><summary>config.yaml, every setting of the run</summary>'
        f"<pre>{escape(content.settings)}</pre></details>"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """Numbers to the right; the first column heads the rows."""
    numeric = [
        all(row[index] is None or isinstance(row[index], int | float) for row in rows) for index in range(len(columns))
    ]

    def cell(value: Any, right: bool, tag: str) -> str:
        kind = ' class="number"' if right else ""
        return f"<{tag}{kind}>{escape(_figure(value))}</{tag.split()[0]}>"

    head = "".join(cell(name, right, 'th scope="col"') for name, right in zip(columns, numeric, strict=True))
    body = "".join(
        "<tr>"
        + cell(row[0], False, 'th scope="row"')
        + "".join(cell(value, right, "td") for value, right in zip(row[1:], numeric[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    caption = escape(caption)
    return _scrolled(
        caption, f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _scrolled(label: str, inner: str) -> str:
    """What may be wider than a telephone; it can be scrolled by keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{inner}</div>'


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
