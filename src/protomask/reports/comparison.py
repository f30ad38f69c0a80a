"""The comparison of training runs: what they reached, and which of their settings differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protomask.files import check_writable, replacing
from protomask.reports.compared_run import KINDS, ComparedRun, read_runs
from protomask.reports.comparison_page import render_comparison
from protomask.reports.settings_table import differing_settings


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare_runs` wrote.

    Attributes:
        page: the HTML file.
        runs: the runs in the given order; the first is what the others are compared with.

    """

    page: Path
    runs: tuple[ComparedRun, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "comparison": str(self.page),
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.path),
                    "iterations": run.iterations,
                    "seconds": run.seconds,
                    "measured": "validation" if run.report is None else "report",
                    **{kind: {**run.measures(kind), "per_class": run.classes(kind)} for kind in KINDS},
                }
                for run in self.runs
            ],
            "settings": {
                name: {run.name: value for run, value in zip(self.runs, values, strict=True)}
                for name, values in differing_settings(self.runs).items()
            },
        }


def compare_runs(run_folders: Sequence[str | Path], *, output: str | Path | None = None) -> Comparison:
    """Write a page that compares training runs: curves, AP, and the settings that differ.

    The AP of each class comes from the reports of the runs; nothing is predicted. Of a run without a report of its best
    weights only AP, AP50 and AP75 of its best validation are known, and the page says so.

    Args:
        run_folders: two or more; the others are compared with the first.
        output: the HTML file; by default comparison.html beside the first run folder.

    Raises:
        ConfigError: there are fewer than two folders, a folder is given twice, or holds no run.
        ProtomaskError: the page cannot be written.

    """
    runs = tuple(read_runs(run_folders))
    page = runs[0].path.resolve().parent / "comparison.html" if output is None else Path(output)
    check_writable(page, "output")
    with replacing(page) as file:
        file.write(render_comparison(runs).encode("utf-8", "replace"))
    return Comparison(page=page, runs=runs)
