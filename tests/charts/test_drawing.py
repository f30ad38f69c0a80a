from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from protomask.charts.drawing import Chart, arrange, escaped, style_sheet, text, text_width, wrapped
from protomask.charts.keys import Entry, key_chart
from protomask.charts.plots import Series, line_chart
from protomask.charts.scales import Axis
from protomask.errors import DataError
from svg_elements import SVG, check_readable, root_of, words_of


def small(title: str = "small", width: float = 200.0, height: float = 120.0) -> Chart:
    series = [Series(name="a", points=[(0, 1), (1, 2)])]
    return line_chart(series, title=title, x=Axis(label="x"), y=Axis(label="y"), width=width, height=height)


def test_the_file_needs_nothing_else(tmp_path: Path) -> None:
    path = small().save(tmp_path / "new" / "chart.svg")
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.get("viewBox"), root.get("role")) == ("200", "0 0 200 120", "img")
    assert [child.tag for child in root][:3] == [f"{SVG}title", f"{SVG}desc", f"{SVG}style"]
    content = path.read_text()
    assert content.count("http") == 1  # the name space
    assert "prefers-color-scheme: dark" in content
    assert "var(" not in content  # which programs other than browsers do not know
    assert "url(" not in content


def test_every_class_has_a_style() -> None:
    chart = arrange([[small()]], title="all")
    for element in root_of(chart).iter():
        for name in element.get("class", "").split():
            assert f".{name}" in style_sheet() or name in ("chart", "label"), name


def test_inside_a_page_nothing_is_fetched_and_the_style_is_not_repeated() -> None:
    content = small().inline()
    assert "http" not in content
    assert "<style" not in content


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        small().save(tmp_path / "file" / "chart.svg", error=DataError)

    def fail(_: Chart) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(Chart, "document", fail)
    with pytest.raises(DataError, match="disk full"):
        small().save(tmp_path / "other" / "chart.svg", error=DataError)
    assert list((tmp_path / "other").iterdir()) == []


def test_charts_are_arranged_without_overlap() -> None:
    rows = [[small("one", 300), small("two", 200)], [small("three", 500)]]
    chart = arrange(rows, title="three charts", notes=["where it was measured, at some length " * 3])
    check_readable(chart)
    assert chart.width == 500
    assert chart.height >= 240
    words = {word.text: word for word in words_of(chart)}
    assert words["two"].left >= 300
    assert words["three"].top > words["one"].bottom + 100
    assert [name for name in ("one: y over x", "two: y over x", "three: y over x") if name in chart.description]


def test_keys_wrap_and_shorten() -> None:
    entries = [Entry(name="a name", number=0, look="marked"), Entry(name="x" * 200, number=1, look="box")]
    entries += [Entry(name=f"model {k}", number=k, look="line") for k in range(9)]
    chart = key_chart([*entries, Entry(name="honest", look="reference"), Entry(name="a note")], width=300)
    check_readable(chart)
    assert chart.description == ""
    assert key_chart([], width=300).height == 0


@pytest.mark.parametrize("name", ["a<b>&\"c'", "tab\there", "\x00\x1b[0m", "\udc80.jpg", "漢字", "x" * 300])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    chart = line_chart(
        [Series(name=name, points=[(0, 1)], marks=True), Series(name="b", points=[(0, 1)])],
        title=name, x=Axis(label=name), y=Axis(label=name),
    )  # fmt: skip
    root_of(chart)
    ElementTree.fromstring(chart.save(tmp_path / "a.svg").read_bytes())
    check_readable(chart)


def test_escaped() -> None:
    assert escaped("a<b & c") == "a&lt;b &amp; c"
    assert escaped("a\nb\x00") == "a\ufffdb\ufffd"


def test_wrapped_words() -> None:
    lines = wrapped("one two three four five six", 60)
    assert " ".join(lines) == "one two three four five six"
    assert len(lines) > 1
    assert all(text_width(line) <= 60 for line in lines)
    assert wrapped("", 60) == []
    assert wrapped("a" * 50, 60) == ["a" * 50]


def test_upright_text_is_turned() -> None:
    assert "rotate(-90)" in text(1, 2, "loss", upright=True)


def test_charts_need_no_other_package() -> None:
    code = (
        "import sys; before = set(sys.modules); import protomask.charts.bars, protomask.charts.plots; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["protomask"]
