"""The HTML page of a training report, from plain data: no script, no network, image files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.evaluation.confusion import Confusion, ImageScore
from protomask.evaluation.errors.report import ErrorReport
from protomask.evaluation.quality_report import Population, QualityReport
from protomask.evaluation.tables import CocoMetrics
from protomask.reports.errors_sections import faults_section, remedies_section, types_section
from protomask.reports.markup import columns, document, figure, html_table, measure_name, short_name, tiles
from protomask.reports.matrix import confusion_table
from protomask.reports.reliability import reliability_panels

_AP_NAMES = ("AP", "AP50", "AP75")
_LONGEST_FILE_NAME = 40  # letters above an image


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
        errors: what goes wrong, and what it costs.
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
    errors: ErrorReport
    best: Sequence[Example]
    worst: Sequence[Example]


def render_page(content: ReportContent) -> str:
    """The whole document."""
    sections = {
        "curves": ("Training curves", _curves(content.records)),
        "ap": ("Average precision", _average_precision(content.metrics)),
        "precision-recall": ("Precision and recall", _precision_recall(content.metrics)),
        "confusion": ("Confusion matrix", confusion_table(content.confusion)),
        "errors": ("What goes wrong, and what it costs", _errors(content.errors)),
        "quality": ("How honest the scores are", _quality(content.quality)),
        "best": ("Best images", _examples(content.best, content.confusion, "highest")),
        "worst": ("Worst images", _examples(content.worst, content.confusion, "lowest")),
        "settings": ("Settings and provenance", _settings(content)),
    }
    return document(f"{content.title}: training report", content.title, _headline(content), sections)


def _headline(content: ReportContent) -> str:
    values = [
        (f"{kind} {name}", figure(getattr(table, name)))
        for kind, table in reversed(content.metrics.tables.items())
        for name in _AP_NAMES
    ]
    count, limit = content.metrics.num_images, content.metrics.max_detections[-1]
    measured = f"Training report. Measured on {count} validation images, up to {limit} detections in each."
    return f'<p class="muted">{measured}</p>{tiles(values)}'


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
    return note + columns(charts)


def _average_precision(metrics: CocoMetrics) -> str:
    rows = [[measure_name(name), *values] for name, values in metrics.rows()]
    heads = ["class", "objects", *(f"{kind} {name}" for kind in metrics.tables for name in ("AP", "AP50"))]
    classes = [[name, count, *values] for name, count, values in metrics.class_rows()]
    return (
        "<p>COCO average precision: mean over classes and over IoU 0.50 to 0.95, unless the name says otherwise. "
        "AR is average recall with this many detections.</p>"
        f'<div class="tables">{html_table(["measure", *metrics.tables], rows, "all classes")}'
        f"{html_table(heads, classes, 'each class')}</div>"
    )


def _precision_recall(metrics: CocoMetrics) -> str:
    unit = (0.0, 1.0)
    charts = [
        line_chart(
            [
                Series(
                    name=f"IoU {iou:g}, AP {figure(value)}",
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
        f"found; mean over the classes.</p>{columns(charts)}"
    )


def _errors(errors: ErrorReport) -> str:
    masks = "" if errors.faults is None else f"<h3>Masks</h3>{faults_section(errors.faults, errors)}"
    return f"{types_section(errors)}{masks}<h3>What helps</h3>{remedies_section(errors)}"


def _quality(quality: QualityReport) -> str:
    titles: dict[Population, str] = {"all": "all detections", "matched": "those with an IoU of 0.5 or more"}
    heads = ["measure", *quality.score_names]
    tables = "".join(
        html_table(heads, [[name, *values] for name, values in quality.rows(population)], title)
        for population, title in titles.items()
    )
    return (
        "<p>Does a score say how good the mask is? The diagram compares the score with the measured IoU of the masks, "
        f"for detections with a class score above {quality.min_class_score:g}; an honest score lies on the diagonal. "
        "Squares are the class score; circles, where the model rates its masks, the class score times the mask "
        "score.</p>"
        f'{columns(reliability_panels(quality))}<div class="tables">{tables}</div>'
    )


def _examples(examples: Sequence[Example], confusion: Confusion, which: str) -> str:
    if not examples:
        return "<p>No validation image has an object or a detection.</p>"
    figures = []
    for example in examples:
        score, name = example.score, escape(example.name)
        short, whole = short_name(example.name, _LONGEST_FILE_NAME)
        wrong, missed = score.detections - score.matches, score.objects - score.matches
        verdict = f"quality {figure(score.quality)}: {score.matches} of {score.objects} objects right"
        iou = f" (mean IoU {score.iou_sum / score.matches:.3f})" if score.matches else ""
        size = f'width="{example.size[0]}" height="{example.size[1]}"'
        images = "".join(
            f'<div><a href="{escape(file)}"><img src="{escape(file)}" {size} alt="{name}: {words}"></a>'
            f"<span>{label}</span></div>"
            for file, label, words in (
                (example.truth, "truth", f"{score.objects} annotated objects"),
                (example.found, "found", f"{score.detections} detections"),
            )
        )
        figures.append(
            f"<figure><figcaption{whole}>{short}: {verdict}{iou}, {missed} missed, {wrong} wrong</figcaption>"
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
