from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.conftest import Run


def test_an_image_becomes_a_page(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    image = sorted((scenes / "images" / "val").iterdir())[0]
    outcome = run(
        "explain", image, "--model", weights, "--device", "cpu", "--score-threshold", "0", "--most-instances", "2",
        "--annotations", scenes / "annotations" / "val.json", "--output", tmp_path / "page",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert f"page: {tmp_path / 'page' / 'index.html'}" in outcome.out
    assert "instance 1: " in outcome.out
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "annotated objects" in page
    assert (tmp_path / "page" / "prototype_003.png").is_file()


def test_json_has_the_numbers(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    image = sorted((scenes / "images" / "val").iterdir())[0]
    outcome = run(
        "explain", image, "--model", weights, "--device", "cpu", "--score-threshold", "0", "--instance", "1",
        "--output", tmp_path, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    [instance] = outcome.json["instances"]
    assert instance["number"] == 1
    assert len(instance["prototype_sum"]["coefficients"]) == len(outcome.json["prototypes"]) == 4


def test_wrong_arguments_are_answered_in_a_line(run: Run, tmp_path: Path) -> None:
    assert "gone.jpg: no such file" in run("explain", "gone.jpg").err
    (tmp_path / "a.onnx").touch()
    (tmp_path / "a.jpg").touch()
    outcome = run("explain", tmp_path / "a.jpg", "--model", tmp_path / "a.onnx")
    assert outcome.code == 2
    assert "expected a name or weights to explain" in outcome.err
