"""A frame in which something was found, for tests of what writes and shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protomask.images.decode import Pixels
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

SIZE = (40, 60)
NAMES = ("disc", "ring")


def found(mask_scores: Sequence[float] | None = None) -> Instances:
    """A disc in two parts, a ring with a hole that overlaps it, and an instance without a single pixel."""
    masks = np.zeros((3, *SIZE), dtype=np.bool_)
    masks[0, 5:15, 5:20] = True
    masks[0, 30:35, 40:50] = True
    masks[1, 10:30, 10:30] = True
    masks[1, 15:20, 15:20] = False
    return Instances(
        boxes=np.array([[5, 5, 50, 35], [10, 10, 30, 30], [1, 1, 2, 2]], dtype=np.float32),
        labels=np.array([0, 1, 0]),
        class_scores=np.array([0.75, 0.5, 0.25], dtype=np.float32),
        mask_scores=None if mask_scores is None else np.array(mask_scores, dtype=np.float32),
        masks=masks,
        image_size=SIZE,
        class_names=NAMES,
    )


def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def frame(source: str | Path = "x.jpg", instances: Instances | None = None, **fields: Any) -> Frame:
    """`found` in `pixels`, unless other instances are given."""
    return Frame(pixels(), source=str(source), found=found() if instances is None else instances, **fields)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files_in(folder: Path) -> list[str]:
    """All files, those with temporary names too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
