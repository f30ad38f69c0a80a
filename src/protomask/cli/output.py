"""What the command line shows: a progress bar on a terminal, plain lines in a log, JSON, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def dump_json(content: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(content, indent=2))


class Bar:
    """Progress of some work; messages scroll above the bar, or are plain lines where there is no terminal."""

    def __init__(self, progress: Any = None, task: Any = None, *, quiet: bool = False) -> None:
        self._progress = progress
        self._task = task
        self._quiet = quiet

    def advance(self, steps: int = 1) -> None:
        """More work is done."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)

    def update(self, done: int, total: int, text: str | None = None) -> None:
        """So much work is done in all."""
        if self._progress is not None:
            changes = {} if text is None else {"description": text}
            self._progress.update(self._task, completed=done, total=total, **changes)

    def message(self, text: str, *, to_stderr: bool = False) -> None:
        """Show a line."""
        if to_stderr:
            print(text, file=sys.stderr)
        elif not self._quiet:
            print(text, flush=True)


@contextmanager
def progress(text: str, total: int | None, *, quiet: bool = False) -> Iterator[Bar]:
    """A `Bar`: with rich on a terminal, without it elsewhere; ``quiet`` shows nothing but errors."""
    if quiet or not sys.stdout.isatty():
        yield Bar(quiet=quiet)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, redirect_stdout=True, redirect_stderr=True) as shown:
        yield Bar(shown, shown.add_task(text, total=total))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """A table; numbers to the right, None as a dash, floats with three digits."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    numeric = [
        all(isinstance(row[index], int | float) or row[index] is None for row in rows) for index in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    # A log has no width of its own: rich would squeeze the table into 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
