"""Check of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from protomask.data.coco.layout import TRAINING_SPLITS, open_dataset
from protomask.data.doctor.annotations import check_annotations
from protomask.data.doctor.between_splits import check_class_names, check_classes, check_leakage
from protomask.data.doctor.images import check_images, check_unnamed_files
from protomask.data.doctor.problems import Findings, Problem, worst_first
from protomask.data.doctor.report import CheckReport
from protomask.data.doctor.split import Split
from protomask.errors import DataError

Progress = Callable[[int, int], None]


def check_dataset(
    path: str | Path,
    *,
    splits: Sequence[str] | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for everything that makes a data set unusable, or less useful than it seems.

    Bad data never raises: it becomes a `Problem`.

    Args:
        path: as for `protomask.data.coco.layout.open_dataset`.
        splits: splits to look at; by default train and val, and all others that the data set has.
        quick: decode only some images and some annotations, evenly spaced, so that any data set takes only seconds.
        progress: called as ``progress(done, total)`` after each image.

    """
    dataset = str(path)
    try:
        paths = open_dataset(path, TRAINING_SPLITS if splits is None else splits)
    except DataError as error:
        found = Problem(severity="error", kind="dataset", split=None, message=str(error), places=())
        return CheckReport(dataset=dataset, splits={}, problems=(found,))
    names = list(paths.splits) if splits is None else splits
    findings = {name: Findings(name, str(paths.splits[name].annotations)) for name in names}
    opened = {name: Split.open(paths, name, found, quick=quick) for name, found in findings.items()}
    readable = {name: split for name, split in opened.items() if split is not None}
    total, before = sum(len(split.seen_images) for split in readable.values()), 0
    for split in readable.values():
        check_annotations(split)
        check_images(split, partial(_progress_after, progress or _no_progress, before, total))
        before += len(split.seen_images)
    between = Findings(None, dataset)
    if len(readable) > 1:
        whole = [split for split in readable.values() if split.whole and len(split.dataset)]
        if len(whole) == len(names):
            check_unnamed_files(whole)
        if "train" in readable:
            for name in names:
                _compare_with_training(readable["train"], readable.get(name), between)
        for first, second in combinations(readable.values(), 2):
            check_leakage(first, second, between)
    return CheckReport(
        dataset=dataset,
        splits={name: split.summary() for name, split in readable.items()},
        problems=worst_first([problem for found in (*findings.values(), between) for problem in found.problems()]),
        _objects={name: split.objects() for name, split in readable.items()},
    )


def _compare_with_training(train: Split, other: Split | None, between: Findings) -> None:
    if other is None or other is train or not all(one.whole and len(one.dataset) for one in (train, other)):
        return
    if check_class_names(train, other, between) and other.name == "val":
        check_classes(train, other, between)


def _no_progress(done: int, total: int) -> None:
    pass


def _progress_after(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
