"""What the command line shows: a progress bar on a terminal, plain lines in a log, JSON, tables."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protomask.structures.instances import Instances

_SECONDS_BETWEEN_LINES = 10.0  # of progress in a log


def dump_json(content: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(content, indent=2))


def counts_by_class(instances: Instances) -> str:
    """How many of what: "2 dog, 1 cat", most certain class first, or "nothing"."""
    names = [instances.class_names[label] for label in instances.labels.tolist()]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "nothing"


class Bar:
    """Progress of some work: a bar with messages above it, or plain lines where there is no terminal."""

    def __init__(self, progress: Any = None, task: Any = None, *, lines_of: str = "", quiet: bool = False) -> None:
        self._progress = progress
        self._task = task
        self._lines_of = "" if quiet else lines_of
        self._quiet = quiet
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def advance(self, steps: int = 1) -> None:
        """More work is done."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)

    def update(self, done: int, total: int | None, text: str | None = None) -> None:
        """So much work is done in all; None where it is not known of how much."""
        if self._progress is not None:
            changes = {} if text is None else {"description": text}
            self._progress.update(self._task, completed=done, total=total, **changes)
        elif self._lines_of and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(
                f"{text or self._lines_of}: {done}{'' if total is None else f' of {total}'}",
                file=sys.stderr,
                flush=True,
            )

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar."""
        return self._progress is not None

    def describe(self, text: str) -> None:
        """Say beside the bar what is worked on."""
        if self._progress is not None:
            self._progress.update(self._task, description=text)

    def message(self, text: str, *, to_stderr: bool = False) -> None:
        """Show a line."""
        if self._progress is not None and (sys.stderr.isatty() or not to_stderr):
            # Not by print: rich would break long lines.
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif to_stderr:
            print(text, file=sys.stderr)
        elif not self._quiet:
            print(text, flush=True)


@contextmanager
def progress(text: str, total: int | None, *, quiet: bool = False, lines: bool = False) -> Iterator[Bar]:
    """A `Bar`: with rich on a terminal, without it elsewhere.

    Args:
        text: what is being done.
        total: steps, where they are known.
        quiet: show nothing but errors.
        lines: without a terminal show a line of progress now and then, on the error stream.

    """
    if quiet or not sys.stdout.isatty():
        yield Bar(lines_of=text if lines else "", quiet=quiet)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # An error stream that goes to a file must reach it.
    with Progress(*columns, redirect_stderr=sys.stderr.isatty()) as shown:
        yield Bar(shown, shown.add_task(text, total=total))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, digits: int = 3
) -> None:
    """A table; numbers to the right, None as a dash, floats with this many digits."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    numeric = [
        all(isinstance(row[index], int | float) or row[index] is None for row in rows) for index in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value, digits)) for value in row))  # not as markup
    # A log has no width of its own: rich would squeeze the table into 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    if title is not None:
        # Not as rich's title, which is as narrow as the table.
        console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print()


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
