"""Pieces of HTML that the pages share: the document, tables, charts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from protomask.charts.drawing import Chart, style_sheet
from protomask.images.captions import shortened

LONGEST_NAME = 32
"""Letters of a name in a table; what is longer loses its middle, and is shown whole to the pointer."""


def document(
    title: str, heading: str, lead: str, sections: Mapping[str, tuple[str, str]], *, more_style: str = ""
) -> str:
    """A whole page that needs no script and no network.

    Args:
        title: of the window, plain text.
        heading: at the top, plain text.
        lead: HTML below the heading.
        sections: (title as plain text, HTML) by id, in order; links below the lead lead to them.
        more_style: CSS of this kind of page.

    """
    links = "".join(f'<li><a href="#{name}">{escape(head)}</a></li>' for name, (head, _) in sections.items())
    body = "".join(
        f'<section id="{name}"><h2>{escape(head)}</h2>{inner}</section>' for name, (head, inner) in sections.items()
    )
    style = style_sheet() + files("protomask.reports").joinpath("page.css").read_text(encoding="utf-8") + more_style
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f'<link rel="icon" href="data:,"><style>\n{style}</style></head>\n'
        f"<body><header><h1>{escape(heading)}</h1>{lead}<nav><ul>{links}</ul></nav></header>\n"
        f"<main>{body}</main></body></html>\n"
    )


def columns(charts: Sequence[Chart]) -> str:
    """Charts side by side, below each other where there is no room for that."""
    return f'<div class="columns">{"".join(f"<figure>{chart.inline()}</figure>" for chart in charts)}</div>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """The numbers that matter most: (name, value)."""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return f'<dl class="tiles">{shown}</dl>'


def html_table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """Rows of values below their heads; numbers and differences to the right; the first column heads the rows."""
    is_right = [
        all(row[index] is None or isinstance(row[index], int | float | Difference) for row in rows)
        for index in range(len(heads))
    ]
    head = "".join(_cell(name, right, "th", ' scope="col"') for name, right in zip(heads, is_right, strict=True))
    body = "".join(
        "<tr>"
        + _cell(row[0], False, "th", ' scope="row"')
        + "".join(_cell(value, right, "td") for value, right in zip(row[1:], is_right[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    caption = escape(caption)
    return scrolled(
        caption, f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


class Difference(float):
    """A number that is shown with its sign, and as better or worse."""


def _cell(value: Any, right: bool, tag: str, attributes: str = "") -> str:
    kinds = ["number"] if right else []
    if isinstance(value, Difference) and figure(value)[1:] != "0.000":
        kinds.append("better" if value > 0 else "worse")
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    shown, whole = short_name(value) if isinstance(value, str) else (escape(figure(value)), "")
    return f"<{tag}{attributes}{kind}{whole}>{shown}</{tag}>"


def measure_name(name: str) -> str:
    """A name of `protomask.evaluation.tables.CocoTable.rows` for readers."""
    sizes = {"AP_small": "AP small, up to 32² px", "AP_large": "AP large, above 96² px"}
    return sizes.get(name, name.replace("_", " "))


def short_name(name: str, most: int = LONGEST_NAME) -> tuple[str, str]:
    """A name as HTML, without its middle if it is long, and then the attribute that shows it whole to the pointer."""
    short = shortened(name, most, len)
    return escape(short), "" if short == name else f' title="{escape(name)}"'


def scrolled(label: str, inner: str) -> str:
    """What may be wider than a telephone; it can be scrolled by keyboard too. The label is HTML."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{inner}</div>'


def figure(value: Any) -> str:
    """A value as plain text; three decimals for a float, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, Difference):
        return f"{value:+.3f}".replace("-", "−")  # as wide as the plus
    return f"{value:.3f}" if isinstance(value, float) else str(value)
