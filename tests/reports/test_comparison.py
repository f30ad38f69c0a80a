from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from browser import find_browser, show_in_browser
from protomask.errors import ProtomaskError
from protomask.reports.comparison import compare_runs
from protomask.reports.markup import figure
from run_folders import LONG_NAMES, report_of, write_run


def page_of(path: Path) -> ElementTree.Element:
    """The body of a page, which is XML apart from its head."""
    text = path.read_text(encoding="utf-8")
    return ElementTree.fromstring(text[text.index("<body>") : -len("</html>\n")])


def words_of(element: ElementTree.Element) -> str:
    return "".join(element.itertext())


def tables_of(path: Path) -> dict[str, list[list[str]]]:
    """Rows of each table, the heads first, by caption."""
    return {
        words_of(table[0]): [[words_of(cell) for cell in row] for row in table.iter("tr")]
        for table in page_of(path).iter("table")
    }


def compared(tmp_path: Path, *runs: dict[str, Any]) -> Path:
    folders = [write_run(tmp_path / f"run {number}", **run) for number, run in enumerate(runs)]
    return compare_runs(folders).page


A: dict[str, Any] = {"settings": {"model": "nano", "lr_steps": [0.5], "seed": 1}, "report": report_of(0.3)}
B: dict[str, Any] = {
    "settings": {"model": "large", "lr_steps": [0.5], "new": True, "weights": None},
    "report": report_of(0.25, names=["disk", "star"]),
}


def test_ap_stands_side_by_side_with_differences(tmp_path: Path) -> None:
    page = compared(tmp_path, A, B, {**A, "report": report_of(0.3004)})
    assert page == tmp_path / "comparison.html"
    tables = tables_of(page)
    heads, first, *_ = tables["mask, all classes"]
    assert heads == ["measure", "run 0", "run 1", "difference", "run 2", "difference"]
    assert first == ["AP", "0.300", "0.250", "−0.050", "0.300", "+0.000"]
    assert tables["box AP, each class"][1:] == [
        ["disk", "7", "0.300", "0.250", "−0.050", "0.300", "+0.000"],
        ["ring", "7", "0.300", "–", "–", "0.300", "+0.000"],
        ["star", "7", "–", "0.250", "–", "–", "–"],
    ]
    kinds = [cell.get("class") for cell in page_of(page).iter("td") if words_of(cell)[0] in "−+"]
    assert set(kinds) == {"number worse", "number"}


def test_settings_that_differ(tmp_path: Path) -> None:
    page = compared(tmp_path, A, B)
    assert tables_of(page)["settings that differ"] == [
        ["setting", "run 0", "run 1"],
        ["model", "nano", "large"],
        ["seed", "1", "absent"],
        ["new", "absent", "true"],
        ["weights", "absent", "–"],
    ]
    [same] = [words_of(one) for one in page_of(page).iter("details")]
    assert same == "1 settings are the samelr_steps: 0.5"


def test_runs_without_a_report_of_their_best_weights_are_named(tmp_path: Path) -> None:
    page = compared(tmp_path, A, {"settings": {}, "aps": (0.2, 0.4)})
    words = words_of(page_of(page))
    assert f"run 1 has no report; protomask report {tmp_path / 'run 1'} makes a new one." in words
    rows = tables_of(page)["mask, all classes"]
    assert rows[1] == ["AP", "0.300", "0.400", "+0.100"]
    assert rows[4][1:] == ["0.300", "–", "–"]


@pytest.mark.parametrize(
    ("second", "differs"),
    [({}, False), ({"images": 6}, True), ({"names": ["disk"]}, True)],
)
def test_reports_of_different_images_are_said_to_be(tmp_path: Path, second: dict[str, Any], differs: bool) -> None:
    page = compared(tmp_path, A, {**A, "report": report_of(0.3, **second)})
    assert ("count different images or objects" in words_of(page_of(page))) == differs


@pytest.mark.parametrize(("per_epoch", "label"), [(10, "iteration"), (20, "epoch")])
def test_curves_go_by_epoch_where_steps_differ(tmp_path: Path, per_epoch: int, label: str) -> None:
    page = compared(tmp_path, {"settings": {}}, {"settings": {}, "per_epoch": per_epoch})
    charts = [words_of(chart) for chart in page_of(page).iter("svg")]
    assert len(charts) == 4
    assert all(label in chart and "run 0" in chart and "run 1" in chart for chart in charts)
    assert ("so the curves go by epoch" in words_of(page_of(page))) == (label == "epoch")


def test_where_the_log_has_times_there_is_a_curve_by_time(tmp_path: Path) -> None:
    page = compared(tmp_path, {"settings": {}, "seconds": 600}, {"settings": {}, "seconds": 90})
    assert len(list(page_of(page).iter("svg"))) == 5
    rows = tables_of(page)["what was trained, and its best validation"]
    assert [row[4] for row in rows] == ["time", "10.0 min", "1.5 min"]


def test_runs_that_have_not_begun(tmp_path: Path) -> None:
    page = compared(tmp_path, {"settings": {}, "aps": ()}, {"settings": {}, "aps": ()})
    assert words_of(page_of(page)).count("no data") >= 4


def test_names_are_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, {"data": "<b>"}) for name in ("a <run>", "b & c")]
    text = compare_runs(folders, output=tmp_path / "new" / "page.html").page.read_text()
    assert "<run>" not in text
    assert "<b>" not in text
    assert "http" not in text


def test_json(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a", **A), write_run(tmp_path / "b", **B)]
    content = compare_runs(folders).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["settings"]["model"] == {"a": "nano", "b": "large"}
    assert [one["mask"]["AP"] for one in content["runs"]] == [0.3, 0.25]


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, {}) for name in "ab"]
    (tmp_path / "file").touch()
    with pytest.raises(ProtomaskError, match=r"output: .*file"):
        compare_runs(folders, output=tmp_path / "file" / "page.html")


def test_runs_are_compared_without_pytorch(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / name, {})) for name in "ab"]
    code = (
        "import sys; from protomask.cli.main import main; "
        f"code = main(['report', *{folders}]); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(("value", "words"), [(None, "–"), (0.12345, "0.123"), (7, "7"), ("a", "a")])
def test_figure(value: Any, words: str) -> None:
    assert figure(value) == words


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_shows_the_comparison(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"facades-with-a-long-name-{k}", {"seed": k}, report=report_of(0.3, names=LONG_NAMES))
        for k in range(2)
    ]
    told = show_in_browser(compare_runs(runs).page, (390, 1280))
    for width, one in told.items():
        assert one["needed"] <= width
        assert (one["errors"], one["drawings"]) == ([], 4)
        assert one["sections"] == ["runs", "curves", "ap", "settings"]
    assert told[1280]["scrolling"] == []
    assert "box AP, each class" in told[390]["scrolling"]
