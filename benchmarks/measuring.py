"""What the benchmarks of this folder share: interleaved timing, the environment line, a table and JSON, progress.

Every benchmark compares candidates that do the same work. They take turns, round after round, so that a change in the
machine's load meets all of them, and the median of the rounds is reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from protomask.bench.machine import describe_machine


def argument_parser(description: str, *, rounds: int) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    import torch  # light_half.py needs none, and would count it: the peak of a process begins with its parent's

    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=rounds, help="timed runs of every candidate")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="threads a runtime may use")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the environment here")
    return parser


def positive(text: str) -> int:
    """Type of an option that counts something."""
    return _at_least(1, text)


def whole(text: str) -> int:
    """Type of an option that counts something that may be missing."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a number of at least {least}, got {number}")
    return number


def milliseconds(candidates: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Median time of each candidate; one untimed turn first, then all take turns."""
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            started = perf_counter()
            run()
            times[name].append(1000 * (perf_counter() - started))
    return {name: median(values) for name, values in times.items()}


def report(title: str, rows: Sequence[Mapping[str, Any]], *, json_file: Path | None) -> None:
    """Print the rows as a table under the environment line; write both as JSON if asked."""
    where = describe_machine()
    print(f"# {title}")
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if json_file is not None:
        content = {"title": title, "environment": where, "rows": list(rows)}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class Lines:
    """Reports a training on the error stream: standard output is for the table."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_step(self, metrics: Mapping[str, Any]) -> None:
        loss = metrics["loss_total"]
        self.message(
            f"iteration {metrics['iteration']}/{metrics['max_iterations']}  "
            f"loss {'-' if loss is None else format(loss, '.3f')}  {metrics['images_per_second']:.1f} images/s"
        )

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        self.message(f"mask AP {metrics['mask_AP']}  ({metrics['seconds']:.0f} s)")

    def message(self, text: str) -> None:
        note(f"{self._name}: {text}")


def note(text: str) -> None:
    """A line about the work itself."""
    print(text, file=sys.stderr, flush=True)
