"""The page of the padding experiment: the toy, the table, and what prototypes make of a plain image."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from protomask.charts.bars import Bar, stacked_bars
from protomask.charts.drawing import Chart, arrange
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.errors import ProtomaskError
from protomask.explaining.overlays import SMALL, grid_image
from protomask.explaining.padding import POSITION_SHARE, SHIFT, PaddingResult
from protomask.explaining.padding_measures import PADDINGS, toy_layers
from protomask.explaining.shots import Shots, rows_of_shots
from protomask.files import check_writable, replacing
from protomask.reports.markup import columns, document, html_table

_SHOWN = 6
HEADS = (
    "padding", "position prototypes", "variation on plain gray", "variance by place", "stay when moved",
    "mask AP", "box AP", "mask AP moved", "box AP moved",
)  # fmt: skip
"""Columns of the table."""


def write_padding_page(result: PaddingResult, folder: Path) -> Path:
    """Write ``index.html``, its images as PNG, ``padding.svg`` and ``padding.json`` into a folder.

    Returns:
        The page.

    Raises:
        ProtomaskError: a file cannot be written.

    """
    page = folder / "index.html"
    check_writable(page, "output")
    shots = Shots(folder)
    content = _render(result, shots)
    shots.save()
    charts = [[toy_chart(), precision_chart(result)]]
    arrange(charts, title="What padding tells a network", heading=False).save(folder / "padding.svg")
    for name, text in (("padding.json", json.dumps(result.to_dict(), indent=2)), ("index.html", content)):
        with replacing(folder / name, error=ProtomaskError) as file:
            file.write(text.encode())
    return page


def table_rows(result: PaddingResult) -> list[list[object]]:
    """A row for each padding, in the order of the heads of the table."""
    return [
        [
            row.padding, row.position_prototypes, row.plain_deviation, row.place_share, row.staying_prototypes,
            row.mask_ap, row.box_ap, row.shifted_mask_ap, row.shifted_box_ap,
        ]
        for row in result.rows
    ]  # fmt: skip


def toy_chart() -> Chart:
    """The sum of the layers of the toy at each column: with zeros, and with the others, which all give the same."""
    others = [padding for padding in PADDINGS if padding != "zeros"]
    totals = {"zeros": toy_layers("zeros").sum(axis=0)}
    totals[", ".join(others)] = np.mean([toy_layers(padding).sum(axis=0) for padding in others], axis=0)
    series = [
        Series(name=name, points=[(float(column), float(value)) for column, value in enumerate(total)], marks=True)
        for name, total in totals.items()
    ]
    return line_chart(
        series,
        title="Twelve layers of kernel [1, 0] on a row of ones",
        x=Axis(label="column"),
        y=Axis(label="sum of the layers"),
    )


def precision_chart(result: PaddingResult) -> Chart:
    """Mask AP with each padding."""
    bars = [
        Bar(
            name=row.padding,
            parts=[row.mask_ap or 0.0],
            words=f"{row.mask_ap or 0:.3f}; {row.shifted_mask_ap or 0:.3f}",
        )
        for row in result.rows
    ]
    return stacked_bars(
        bars, ["mask AP; beside it, that of the moved images"], title=f"Mask AP of {result.model}",
        x=Axis(label="mask AP"), width=440,
    )  # fmt: skip


def _render(result: PaddingResult, shots: Shots) -> str:
    sections = {
        "toy": ("The toy", _toy()),
        "model": ("The model", _table(result)),
        "plain": ("A plain gray image", _plain(result, shots)),
    }
    lead = (
        f'<p class="muted">{escape(result.model)}, trained with zeros around every map, run with other paddings on '
        f"{result.num_images} images.</p>"
    )
    style = files("protomask.explaining").joinpath("page.css").read_text(encoding="utf-8")
    title = "What padding tells a network"
    return document(f"{result.model}: {title}", title, lead, sections, more_style=style)


def _toy() -> str:
    return (
        "<p>A convolution cannot know where it is, but it can see the zeros that are put around its input. The kernel "
        "[1, 0] with a padding of 1 moves its input by one column, so that after n layers the first n columns are "
        "zero. The sum of the layers is a ramp: the column itself, out of an image in which all pixels are alike. With "
        f"any other padding nothing is there to be seen.</p>{columns([toy_chart()])}"
    )


def _table(result: PaddingResult) -> str:
    return (
        f"{html_table(HEADS, table_rows(result), f'{result.num_prototypes} prototypes, {result.num_images} images')}"
        f"<p>A position prototype varies over a plain gray image by {POSITION_SHARE:g} or more of how it varies over "
        "the images; the next column is the mean of this share. Variance by place: how much of the variance over all "
        "images the place explains. The images were also moved by "
        f"{SHIFT:.1%} of their sides to the right and down: a prototype stays if it resembles itself at the same place "
        "more than at the place that its content moved to.</p>"
        f"<p>The weights are those of zeros: a loss of AP says that the network uses what the zeros tell it, or that "
        f"it cannot cope with what comes in instead.</p>{columns([precision_chart(result)])}"
    )


def _plain(result: PaddingResult, shots: Shots) -> str:
    zeros = result.plain_maps[0]
    chosen = np.argsort(-zeros.std(axis=(0, 1)), kind="stable")[:_SHOWN].tolist()
    parts = [
        "<p>There is nothing in the image, so all that differs from cell to cell is knowledge of the place. The "
        f"{len(chosen)} prototypes that differ most with zeros, with the same colours for every padding.</p>"
    ]
    for padding, maps in zip(PADDINGS, result.plain_maps, strict=True):
        figures = []
        for k in chosen:
            low, high = float(zeros[:, :, k].min()), float(zeros[:, :, k].max())
            shown = grid_image((maps[:, :, k] - low).clip(0), most=max(high - low, 1e-9), side=SMALL)
            figures.append(
                shots.figure(f"plain_{padding}_{k:03d}", shown, f"<b>#{k}</b>", alt=f"Prototype {k}, {padding}")
            )
        parts.append(f"<h3>{padding}</h3>{rows_of_shots(figures, 'steps')}")
    return "".join(parts)
