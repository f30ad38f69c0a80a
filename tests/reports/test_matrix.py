from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from protomask.evaluation.confusion import Confusion
from protomask.reports.matrix import confusion_table

LONG = ("window shutter (wooden, closed)", "balcony & iron railing", "facade")


def confusion(counts: list[list[int]], names: tuple[str, ...] = LONG) -> Confusion:
    return Confusion(
        class_names=names,
        counts=np.array(counts, dtype=np.int64),
        images=(),
        score_threshold=0.3,
        iou_threshold=0.5,
    )


SOME = confusion([[5, 1, 0, 4], [0, 2, 0, 0], [0, 0, 0, 3], [0, 7, 0, 0]])


def matrix_of(one: Confusion) -> ElementTree.Element:
    return ElementTree.fromstring(confusion_table(one)[confusion_table(one).index("<table") : -len("</div>")])


def words_of(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def test_missed_objects_have_a_column_and_false_detections_a_row() -> None:
    table = matrix_of(SOME)
    heads = [words_of(head) for head in table.findall("./thead/tr[@class='names']/th")]
    assert heads == ["truth", "window shutt…en, closed)", "balcony & iron railing", "facade", "missed"]
    rows = {words_of(row[0]): [words_of(cell) for cell in row[1:]] for row in table.findall("./tbody/tr")}
    assert rows == {
        heads[1]: ["5", "1", "", "4"],
        heads[2]: ["", "2", "", ""],
        heads[3]: ["", "", "", "3"],
        "false": ["", "7", "", ""],
    }


def test_what_a_cell_says_to_the_pointer() -> None:
    table = matrix_of(SOME)
    told = [cell.get("title") for cell in table.findall("./tbody/tr/td") if cell.get("title")]
    assert told == [
        f"{LONG[0]}, found as {LONG[0]}: 5 of 10",
        f"{LONG[0]}, found as {LONG[1]}: 1 of 10",
        f"{LONG[0]}, missed: 4 of 10",
        f"{LONG[1]}, found as {LONG[1]}: 2 of 2",
        "facade, missed: 3 of 3",
        f"no object, found as {LONG[1]}: 7 of 7",
    ]
    whole = [head.get("title") for head in table.iter("th") if words_of(head).startswith("window")]
    assert whole == [LONG[0], LONG[0]]


def test_colours_tell_right_from_wrong() -> None:
    cells = [cell.get("class") for cell in matrix_of(SOME).findall("./tbody/tr/td") if cell.get("style")]
    assert cells == ["right", "wrong", "missed wrong", "right", "missed wrong", "wrong"]


@pytest.mark.parametrize(
    ("names", "is_turned"),
    [(("disk", "ring"), False), (("disk", "half-timbered"), True), (tuple("abcdefghijklm"), True)],
)
def test_names_lie_on_their_side_only_where_they_have_to(names: tuple[str, ...], is_turned: bool) -> None:
    size = len(names) + 1
    assert ("turned" in str(matrix_of(confusion([[0] * size] * size, names)).get("class"))) == is_turned


def test_classes_that_show_are_those_with_the_most_errors() -> None:
    names = tuple(f"class {number}" for number in range(50))
    counts = np.zeros((51, 51), dtype=np.int64)
    counts[10:, 50] = 1
    counts[50, 50] = 0
    table = matrix_of(confusion(counts.tolist(), names))
    rows = [words_of(row[0]) for row in table.findall("./tbody/tr")]
    assert rows == [*names[10:], "false"]


def test_no_classes() -> None:
    assert [words_of(row[0]) for row in matrix_of(confusion([[0]], ())).findall("./tbody/tr")] == ["false"]
