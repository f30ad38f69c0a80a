"""Check of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from protomask.data.coco.layout import open_dataset
from protomask.data.doctor.annotations import check_annotations
from protomask.data.doctor.between_splits import check_classes, check_leakage
from protomask.data.doctor.images import check_images, check_unnamed_files
from protomask.data.doctor.problems import Findings, Problem, worst_first
from protomask.data.doctor.report import CheckReport
from protomask.data.doctor.split import Split
from protomask.errors import DataError

Progress = Callable[[int, int], None]


def check_dataset(
    path: str | Path,
    *,
    splits: Sequence[str] = ("train", "val"),
    quick: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for everything that makes a data set unusable, or less useful than it seems.

    Bad data never raises: it becomes a `Problem`.

    Args:
        path: as for `protomask.data.coco.layout.open_dataset`.
        splits: splits to look at.
        quick: decode only some images and some annotations, evenly spaced, so that any data set takes only seconds.
        progress: called as ``progress(done, total)`` after each image.

    """
    dataset = str(path)
    try:
        paths = open_dataset(path)
    except DataError as error:
        found = Problem(severity="error", kind="dataset", split=None, message=str(error), places=())
        return CheckReport(dataset=dataset, splits={}, problems=(found,))
    findings = {name: Findings(name, str(getattr(paths, f"{name}_annotations"))) for name in splits}
    opened = {name: Split.open(paths, name, found, quick=quick) for name, found in findings.items()}
    readable = {name: split for name, split in opened.items() if split is not None}
    total, before = sum(len(split.seen_images) for split in readable.values()), 0
    for split in readable.values():
        check_annotations(split)
        check_images(split, partial(_progress_after, progress or _no_progress, before, total))
        before += len(split.seen_images)
    between = Findings(None, dataset)
    if {"train", "val"} <= readable.keys():
        train, val = readable["train"], readable["val"]
        if train.whole and val.whole and len(train.dataset) and len(val.dataset):
            check_unnamed_files([train, val])
            check_classes(train, val, between)
        check_leakage(train, val, between)
    return CheckReport(
        dataset=dataset,
        splits={name: split.summary() for name, split in readable.items()},
        problems=worst_first([problem for found in (*findings.values(), between) for problem in found.problems()]),
        _objects={name: split.objects() for name, split in readable.items()},
    )


def _no_progress(done: int, total: int) -> None:
    pass


def _progress_after(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
