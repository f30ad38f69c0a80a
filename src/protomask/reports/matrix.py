"""The confusion matrix as a table of a page."""

from __future__ import annotations

from html import escape

from protomask.evaluation.confusion import Confusion
from protomask.reports.markup import scrolled, short_name

MOST_CLASSES = 40
_SHORT = 8  # letters up to which names stand upright above their columns
_UPRIGHT_CLASSES = 12
_LONGEST = 24  # letters of a name beside a row or above a column


def confusion_table(confusion: Confusion) -> str:
    """The matrix, and a text that explains it. Of many classes it shows those with the most errors."""
    classes = _shown(confusion)
    left_out = ""
    if len(classes) < len(confusion.class_names):
        left_out = f" Of {len(confusion.class_names)} classes it shows the {len(classes)} with the most errors."
    explained = (
        "<p>Rows are the truth, columns what was found among detections that score above "
        f"{confusion.score_threshold:g}. Best scores first, each detection takes the free object that its mask "
        f"overlaps most, of any class, with an IoU of {confusion.iou_threshold:g} or more. The column “missed” counts "
        "objects that no detection took, the row “false” detections that found no object. Colours show the share of "
        f"the row.{left_out}</p>"
    )
    names = confusion.class_names
    background = len(names)
    heads = "".join(_head(names[index]) for index in classes)
    rows = [_row(confusion, row, classes, *short_name(names[row], _LONGEST)) for row in classes]
    rows.append(_row(confusion, background, classes, "false", ' title="detections where there is no object"'))
    longest = max((len(names[index]) for index in classes), default=0)
    upright = "" if longest <= _SHORT and len(classes) <= _UPRIGHT_CLASSES else " turned"
    head = (
        f'<thead><tr><td></td><th scope="colgroup" colspan="{len(classes) + 1}">found as</th></tr>'
        f'<tr class="names"><th scope="col">truth</th>{heads}'
        '<th scope="col" class="missed" title="objects that were not found"><span>missed</span></th></tr></thead>'
    )
    whole = f'<table class="matrix{upright}" style="--columns:{len(classes) + 1}">{head}<tbody>{"".join(rows)}</tbody>'
    return explained + scrolled("confusion matrix", f"{whole}</table>")


def _shown(confusion: Confusion) -> list[int]:
    """Numbers of the classes that have a place, in their order."""
    counts = confusion.counts
    everything = range(len(confusion.class_names))
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return sorted(sorted(everything, key=lambda index: -int(errors[index]))[:MOST_CLASSES])


def _head(name: str) -> str:
    short, whole = short_name(name, _LONGEST)
    return f'<th scope="col"{whole}><span>{short}</span></th>'


def _row(confusion: Confusion, row: int, classes: list[int], name: str, whole: str) -> str:
    counts, names = confusion.counts, confusion.class_names
    background, total = len(names), int(counts[row].sum())
    cells = [f'<th scope="row"{whole}>{name}</th>']
    for column in [*classes, background]:
        count = int(counts[row, column])
        kinds = ["missed"] if column == background else []
        rest = ""
        if count:
            kinds.append("right" if row == column else "wrong")
            place = f"{names[row] if row < background else 'no object'}, "
            place += "missed" if column == background else f"found as {names[column]}"
            words = escape(f"{place}: {count} of {total}")
            rest = f' style="--share:{count / total:.3f}" title="{words}"'
        kind = f' class="{" ".join(kinds)}"' if kinds else ""
        cells.append(f"<td{kind}{rest}>{count or ''}</td>")
    start = '<tr class="false">' if row == background else "<tr>"
    return f"{start}{''.join(cells)}</tr>"
