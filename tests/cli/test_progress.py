"""Progress where there is no terminal: plain lines now and then, on the error stream."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coco_folders import BLOB, write_coco
from protomask.cli.output import progress

if TYPE_CHECKING:
    from cli.conftest import Run


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is six seconds after the last."""
    ticks = itertools.count(step=6.0)
    monkeypatch.setattr("protomask.cli.output.time.monotonic", lambda: next(ticks))


@pytest.mark.usefixtures("slow_clock")
def test_lines_come_only_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", None, lines=True) as bar:
        for done in range(1, 7):
            bar.update(done, None if done < 4 else 6, "end" if done == 6 else None)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "work: 2\nwork: 4 of 6\nend: 6 of 6\n")


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("options", [{}, {"quiet": True, "lines": True}])
def test_other_bars_say_nothing(capsys: pytest.CaptureFixture[str], options: dict[str, bool]) -> None:
    with progress("work", None, **options) as bar:
        for done in range(9):
            bar.update(done, 9)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("slow_clock")
def test_conversion_and_check_say_what_they_do(run: Run, tmp_path: Path) -> None:
    images = {f"{index}.jpg": [("cell", BLOB), ("dog", BLOB)] for index in range(6)}
    source = write_coco(tmp_path / "coco", images)
    told = run("data", "convert", source, tmp_path / "out", "--split", "50,50").err
    assert "read: 2 of 6\n" in told
    assert "write: 6 of 6\n" in told
    told = run("data", "check", tmp_path / "out").err
    assert "check annotations of train: 2 of 12\n" in told
    assert "check images of val: 12 of 12\n" in told
    assert "read" not in run("data", "convert", source, tmp_path / "json", "--json").err
