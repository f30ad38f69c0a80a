"""Which settings of runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from protomask.reports.compared_run import ComparedRun
from protomask.reports.markup import html_table

ABSENT = "absent"
"""Stands for the value of a setting that a run does not know."""
_OF_THE_FOLDER = frozenset({"output", "resume"})  # differ between any two runs


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """The value of each run, by name of the setting; output and resume are left out."""
    names = dict.fromkeys(name for run in runs for name in run.settings if name not in _OF_THE_FOLDER)
    values = {name: [run.settings.get(name, ABSENT) for run in runs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def settings_table(runs: Sequence[ComparedRun]) -> str:
    """HTML of the settings that differ, and a list of those that do not."""
    differing = differing_settings(runs)
    same = {
        name: value for name, value in runs[0].settings.items() if name not in differing and name not in _OF_THE_FOLDER
    }
    parts = ["<p>No setting differs.</p>"]
    if differing:
        rows = [[name, *map(_words, values)] for name, values in differing.items()]
        parts = [html_table(["setting", *(run.name for run in runs)], rows, "settings that differ")]
    if same:
        lines = "\n".join(f"{name}: {_words(value)}" for name, value in same.items())
        summary = f"{len(same)} settings are the same"
        parts.append(f"<details><summary>{summary}</summary><pre>{escape(lines)}</pre></details>")
    return "".join(parts)


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return "none" if value == {} else str(value)
