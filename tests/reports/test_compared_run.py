from __future__ import annotations

from pathlib import Path

import pytest

from protomask.errors import ConfigError
from protomask.reports.compared_run import ComparedRun, read_runs
from run_folders import report_of, write_run


def two(tmp_path: Path, **options: object) -> tuple[ComparedRun, ComparedRun]:
    """A run with a report of its best weights, and the one that is asked for."""
    write_run(tmp_path / "a", {"model": "nano"}, report=report_of(0.3))
    write_run(tmp_path / "b", {"model": "nano"}, **options)  # type: ignore[arg-type]
    first, second = read_runs([tmp_path / "a", tmp_path / "b"])
    return first, second


def test_what_a_run_says(tmp_path: Path) -> None:
    run, _ = two(tmp_path)
    assert (run.name, run.path, run.missing) == ("a", tmp_path / "a", "")
    assert (run.iterations, run.epochs_per_iteration, run.seconds) == (30, 0.1, None)
    assert (len(run.steps), len(run.validations)) == (6, 3)
    assert run.best is not None
    assert run.best["iteration"] == 20
    assert run.measures("mask")["AP"] == 0.3
    assert list(run.measures("box"))[:3] == ["AP", "AP50", "AP75"]
    assert "AR_max" not in run.measures("box")
    assert list(run.classes("mask")) == ["disk", "ring"]


def test_without_a_report_the_best_validation_speaks(tmp_path: Path) -> None:
    _, run = two(tmp_path, aps=(0.2, None, 0.25, 0.25))
    assert run.missing == "has no report"
    assert run.measures("mask") == {"AP": 0.25, "AP50": 0.25, "AP75": 0.25}
    assert run.best is not None
    assert run.best["iteration"] == 30  # the first of equals, as training keeps it
    assert run.classes("mask") == {}


def test_a_report_of_older_weights_does_not_count(tmp_path: Path) -> None:
    _, run = two(tmp_path, report=report_of(0.9, iteration=10))
    assert run.missing == "has better weights, of iteration 20, than its report shows"
    assert run.measures("mask")["AP"] == 0.3


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_report_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    folder = write_run(tmp_path / "b", {})
    (folder / "report").mkdir()
    (folder / "report" / "metrics.json").write_text(content)
    _, run = read_runs([write_run(tmp_path / "a", {}), folder])
    assert run.missing == "has no report"


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    _, run = two(tmp_path, aps=())
    assert (run.iterations, run.best, run.epochs_per_iteration) == (0, None, None)
    assert run.measures("mask") == {}


def test_nested_settings_have_names_with_dots(tmp_path: Path) -> None:
    settings = {"augmentation": {"mosaic": 0.5, "more": {"x": [1]}}, "model_options": {}}
    run, _ = read_runs([write_run(tmp_path / name, settings) for name in "ab"])
    assert {name: value for name, value in run.settings.items() if name != "output"} == {
        "augmentation.mosaic": 0.5,
        "augmentation.more.x": [1],
        "model_options": {},
    }


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name / "run", {}) for name in ("a", "b")]
    assert [run.name for run in read_runs(paths)] == ["a/run", "b/run"]


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    good, empty = write_run(tmp_path / "a", {}), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="run_folders: expected two or more to compare, got 1"):
        read_runs([good])
    with pytest.raises(ConfigError, match=r"run_folders: expected each folder once, got .*a again"):
        read_runs([good, tmp_path / "empty" / ".." / "a"])
    with pytest.raises(ConfigError, match=f"expected the folder of a training run, got {empty}"):
        read_runs([good, empty])
    (empty / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"empty.config.yaml: cannot be read as YAML"):
        read_runs([good, empty])
    (empty / "config.yaml").write_text("- a list")
    with pytest.raises(ConfigError, match=r"empty.config.yaml: expected the settings of a run"):
        read_runs([good, empty])
