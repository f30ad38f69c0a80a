"""Reading metrics.jsonl of a run, without PyTorch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of a run, in order; none where there is no such file."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in lines_until(path, sys.maxsize)] if path.is_file() else []


def lines_until(path: Path, iteration: int) -> Iterator[str]:
    """The whole lines of such a file up to an iteration, each with its line break."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                done = json.loads(line)["iteration"]
            except (ValueError, KeyError, TypeError):  # cut off when the run was killed
                continue
            if done <= iteration:
                yield line if line.endswith("\n") else line + "\n"
