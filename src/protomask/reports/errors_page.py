"""The page about the errors on a data set: what goes wrong, what it costs, where, what helps, the worst images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from protomask.data.coco.dataset import CocoDataset
from protomask.evaluation.errors.report import ErrorReport
from protomask.files import replacing
from protomask.reports.error_examples import ErrorExample, draw_error_examples
from protomask.reports.errors_sections import faults_section, remedies_section, types_section, where_section
from protomask.reports.markup import document, figure, short_name, tiles

NUMBERS = "errors.json"
"""File beside the page that holds its numbers."""
_LONGEST_FILE_NAME = 40


def write_errors_page(report: ErrorReport, dataset: CocoDataset, page: Path) -> None:
    """Write the page, its images and errors.json beside it.

    Args:
        report: of the images of the data set.
        dataset: holds the worst images.
        page: HTML file.

    Raises:
        ProtomaskError: an image cannot be read, or a file cannot be written.

    """
    examples = draw_error_examples(report.worst, dataset, page.parent)
    with replacing(page) as file:
        file.write(render_errors_page(report, examples, dataset.annotation_file.name).encode("utf-8", "replace"))
    with replacing(page.with_name(NUMBERS)) as file:
        file.write(json.dumps(report.to_dict(), indent=2).encode())


def render_errors_page(report: ErrorReport, examples: Sequence[ErrorExample], name: str) -> str:
    """The whole document.

    Args:
        report: what it shows.
        examples: the worst images.
        name: of the annotations.

    """
    masks = (
        {} if report.faults is None else {"masks": ("What is wrong with masks", faults_section(report.faults, report))}
    )
    sections = {
        "types": ("What goes wrong, and what it costs", types_section(report)),
        **masks,
        "where": ("Where", where_section(report)),
        "remedies": ("What helps", remedies_section(report)),
        "worst": ("Worst images", _examples(examples)),
    }
    return document(f"{name}: errors", f"Errors on {name}", _headline(report), sections)


def _headline(report: ErrorReport) -> str:
    values = [(f"{kind} AP50", figure(errors.AP50)) for kind, errors in report.types.items()]
    if report.faults is not None and report.boundary is not None:
        good = f"{report.faults.good} of {report.faults.examined}"
        values += [("mask AP", figure(report.faults.AP)), ("boundary AP", figure(report.boundary.AP))]
        values += [("masks without a fault", good)]
    objects = sum(report.objects["by_size"].values())
    lead = (
        f"{report.num_images} images with {objects} objects. Detections that score above {report.score_threshold:g} "
        "are counted; costs take all of them."
    )
    return f'<p class="muted">{lead}</p>{tiles(values)}'


def _examples(examples: Sequence[ErrorExample]) -> str:
    if not examples:
        return "<p>No image has an error.</p>"
    figures = []
    for example in examples:
        name = escape(example.name)
        short, whole = short_name(example.name, _LONGEST_FILE_NAME)
        words = ", ".join(f"{count} {error}" for error, count in example.counts.items())
        size = f'width="{example.size[0]}" height="{example.size[1]}"'
        images = "".join(
            f'<div><a href="{escape(file)}"><img src="{escape(file)}" {size} alt="{name}: {label}"></a>'
            f"<span>{label}</span></div>"
            for file, label in ((example.truth, "truth"), (example.found, "errors"))
        )
        figures.append(
            f'<figure><figcaption{whole}>{short}: {escape(words)}</figcaption><div class="pair">{images}</div></figure>'
        )
    return (
        "<p>The images with the most errors and faults. On the right each detection has the name of what is wrong with "
        "it, and missed objects are drawn too; what is right has no name.</p>"
        f'<div class="examples">{"".join(figures)}</div>'
    )
