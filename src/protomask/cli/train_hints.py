"""Commands that continue or prolong a training run, whole, as they can be pasted into a shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from protomask.engine.config import TrainConfig


def continue_command(config: TrainConfig, *, report: bool = True) -> str:
    """The command that continues the run in the output folder."""
    return _quoted(_words(config, report=report))


def prolong_command(config: TrainConfig, *, report: bool = True) -> str:
    """The command that adds to the run in the output folder: as much again as before, or a fifth of its length."""
    return _quoted([*_words(config, report=report), *_addition(config)])


def _addition(config: TrainConfig) -> list[str]:
    if config.added:
        name = config.added[0]
        return [f"--{name}", str(getattr(config, name))]
    if config.minutes is not None:
        return ["--minutes", f"+{max(float(config.minutes) / 5, 1):.3g}"]
    if config.iterations is not None:
        return ["--iterations", f"+{max(round(int(config.iterations) / 5), 1)}"]
    return ["--epochs", f"+{max(round(int(config.epochs) / 5), 1)}"]


def _words(config: TrainConfig, *, report: bool) -> list[str]:
    settings = str(Path(config.output) / "config.yaml")
    words = [*_launcher(), "train", "--config", settings, "--resume"]
    return words if report else [*words, "--no-report"]


def _launcher() -> list[str]:
    """How the program was started: by itself, or in several processes by torchrun."""
    here, everywhere = (os.environ.get(name, "1") for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if everywhere == "1":
        return ["protomask"]
    # Of several machines each has options of its own.
    options = ["--nproc-per-node", here] if here == everywhere else ["..."]
    return ["torchrun", *options, "-m", "protomask"]


def _quoted(words: list[str]) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
