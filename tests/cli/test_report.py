from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from PIL import Image

from browser import find_browser, show_in_browser
from protomask.cli.main import main

if TYPE_CHECKING:
    from cli.conftest import Run

SECTIONS = ["curves", "ap", "precision-recall", "confusion", "errors", "quality", "best", "worst", "settings"]


@pytest.fixture(scope="module")
def finished(scenes: Path, tiny_options: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run, with its report."""
    folder = tmp_path_factory.mktemp("runs") / "A <run> & its report"
    settings = [
        "--data", scenes, "--output", folder, "--model", "yolact_nano", "--image-size", 64, "--model-options",
        tiny_options, "--no-pretrained-backbone", "--batch-size", 2, "--freeze-bn", "false", "--num-workers", 0,
        "--device", "cpu", "--log-every", 1, "--epochs", 2, "--no-check-data",
    ]  # fmt: skip
    assert main(["train", *map(str, settings)]) == 0
    return folder


class Page(HTMLParser):
    """What the document refers to, and the words of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.files: list[str] = []
        self.links: list[str] = []
        self.alts: list[str | None] = []
        self.ids: list[str] = []
        self.words: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        if given.get("src"):
            self.files.append(str(given["src"]))
        if tag == "img":
            self.alts.append(given.get("alt"))
        if tag == "a":
            self.links.append(str(given["href"]))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "section":
            self.words[self.ids[-1]] = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # inside of drawings

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self.open:
            self.words[self.ids[-1]] += data


def test_the_page_is_whole(finished: Path) -> None:
    path = finished / "report" / "index.html"
    page = Page(path)
    assert page.open == []
    assert page.ids == SECTIONS == list(page.words)
    assert [link for link in page.links if link.startswith("#")] == [f"#{name}" for name in SECTIONS]
    assert [link for link in page.links if not link.startswith("#")] == page.files  # in their full size
    assert [name for name, words in page.words.items() if len(words) < 200] == []
    assert "no data" not in page.words["curves"] + page.words["precision-recall"]
    assert page.files
    for name in page.files:
        with Image.open(path.parent / name) as picture:
            picture.load()
    assert all(page.alts)
    assert {file.name for file in path.parent.iterdir()} == {"index.html", "metrics.json", *page.files}
    text = path.read_text()
    assert "http" not in text  # nothing is fetched
    assert "A &lt;run&gt; &amp; its report" in text
    assert "<run>" not in text


def test_the_page_tells_what_was_measured(finished: Path, run: Run, tmp_path: Path) -> None:
    told = run("report", finished, "--output", tmp_path / "page", "--num-workers", 0, "--device", "cpu", "--json").json
    assert Path(told["report"]) == tmp_path / "page" / "index.html"
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    best = max(line["mask_AP"] for line in lines if line["kind"] == "validation")
    assert told["mask"]["AP"] == pytest.approx(best, abs=1e-6)
    counts = told["confusion"]["counts"]
    objects = sum(one["num_objects"] for one in told["mask"]["per_class"].values())
    assert sum(map(sum, counts[:-1])) == objects
    assert json.loads((tmp_path / "page" / "metrics.json").read_text()) == told
    assert told["iteration"] in {line["iteration"] for line in lines if line.get("mask_AP") == told["mask"]["AP"]}
    words = Page(tmp_path / "page" / "index.html").words
    assert format(told["mask"]["AP"], ".3f") in words["ap"]
    assert str(yaml.safe_load((finished / "config.yaml").read_text())["learning_rate"]) in words["settings"]
    assert "best.safetensors" in words["settings"]


def test_a_folder_without_a_run_is_refused(run: Run, tmp_path: Path) -> None:
    outcome = run("report", tmp_path)
    assert outcome.code == 2
    assert f"run_folder: expected the folder of a training run with weights, got {tmp_path}" in outcome.err
    assert not (tmp_path / "report").exists()


def test_two_runs_are_compared(finished: Path, run: Run, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    settings = (other / "config.yaml").read_text().replace("learning_rate: 0.001", "learning_rate: 0.002")
    (other / "config.yaml").write_text(settings)
    outcome = run("report", finished, other)
    assert outcome.code == 0
    page = finished.parent / "comparison.html"
    assert outcome.out.splitlines()[-1] == f"comparison: {page}"
    words = Page(page).words
    assert list(words) == ["runs", "curves", "ap", "settings"]
    assert "learning_rate0.0010.002" in words["settings"]
    told = run("report", finished, other, "--output", tmp_path / "new" / "page.html", "--json").json
    assert (tmp_path / "new" / "page.html").read_bytes() == page.read_bytes()
    assert told["settings"] == {"learning_rate": {finished.name: 0.001, "other": 0.002}}
    report = json.loads((finished / "report" / "metrics.json").read_text())
    for one in told["runs"]:
        assert one["measured"] == "report"
        assert one["mask"]["AP"] == report["mask"]["AP"]
        assert one["mask"]["per_class"] == report["mask"]["per_class"]


def test_a_comparison_takes_no_data(finished: Path, run: Run) -> None:
    outcome = run("report", finished, finished, "--data", "mydata")
    assert (outcome.code, outcome.err) == (2, "protomask report: data: expected one run folder beside it, got 2\n")


def test_a_report_that_fails_costs_nothing_else(
    finished: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("protomask.reports.run_report.write_report", fail)
    arguments = ["train", "--config", finished / "config.yaml", "--output", tmp_path / "run", "--iterations", 1]
    outcome = run(*arguments)
    assert outcome.code == 1
    assert "the run is complete, but not its report: OSError: disk full" in outcome.err
    assert "Traceback" not in outcome.err
    assert (tmp_path / "run" / "last.safetensors").is_file()
    assert run(*arguments, "--resume", "--no-report").code == 0


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_shows_the_page(finished: Path, tmp_path: Path) -> None:
    page = shutil.copytree(finished / "report", tmp_path / "report") / "index.html"
    for width, one in show_in_browser(page, (390, 768, 1600)).items():
        assert one["needed"] <= width, f"at {width} px the page is {one['needed']} px wide"
        assert (one["errors"], one["broken"]) == ([], [])
        assert one["sections"] == SECTIONS
        assert (one["pictures"], one["drawings"]) == (8, 11)


def test_images_of_another_split(run: Run, finished: Path, tmp_path: Path) -> None:
    arguments = ["--output", tmp_path, "--device", "cpu", "--num-workers", 0, "--json"]
    outcome = run("report", finished, "--split", "train", *arguments)
    assert outcome.code == 0
    assert outcome.json["num_images"] == 6
    assert ", split train" in (tmp_path / "index.html").read_text(encoding="utf-8")
    outcome = run("report", finished, "--split", "test", *arguments)
    assert outcome.code == 1
    assert "test_annotations is missing" in outcome.err
