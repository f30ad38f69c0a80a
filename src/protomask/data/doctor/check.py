"""Check of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from protomask.data.coco.layout import TRAINING_SPLITS, open_dataset
from protomask.data.doctor.problems import Findings, Problem, worst_first
from protomask.data.doctor.report import CheckReport
from protomask.errors import DataError

if TYPE_CHECKING:
    from protomask.data.doctor.split import Split

Progress = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and what is being done."""


def check_dataset(
    path: str | Path,
    *,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for everything that makes a data set unusable, or less useful than it seems.

    Bad data never raises: it becomes a `Problem`.

    Args:
        path: as for `protomask.data.coco.layout.open_dataset`.
        splits: splits to look at; by default train and val, and all others that the data set has.
        classes: names of the only classes to look at; by default those that the data set names, or all.
        quick: decode only some images and some annotations, evenly spaced, so that any data set takes only seconds.
        progress: called after the annotations of each image, and after its pixels.

    """
    dataset = str(path)
    try:
        paths = open_dataset(path, TRAINING_SPLITS if splits is None else splits, classes=classes)
    except DataError as error:
        return _refused(dataset, str(error))
    if paths.shards is not None:
        text = "it is in Parquet, and was checked when it was written; expected the COCO data set that it was made from"
        return _refused(dataset, f"dataset {dataset}: {text}")
    # Not before: a wrong path need not wait for PyTorch.
    from protomask.data.doctor.annotations import check_annotations
    from protomask.data.doctor.between_splits import check_leakage
    from protomask.data.doctor.images import check_images, check_unnamed_files
    from protomask.data.doctor.split import Split

    names = list(paths.splits) if splits is None else splits
    findings = {name: Findings(name, str(paths.splits[name].annotations)) for name in names}
    opened = {name: Split.open(paths, name, found, quick=quick) for name, found in findings.items()}
    readable = {name: split for name, split in opened.items() if split is not None}
    steps = _Steps(sum(len(split.dataset) + len(split.seen_images) for split in readable.values()), progress)
    for name, split in readable.items():
        check_annotations(split, partial(steps.advance, f"check annotations of {name}"))
        check_images(split, partial(steps.advance, f"check images of {name}"))
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


def _refused(dataset: str, message: str) -> CheckReport:
    found = Problem(severity="error", kind="dataset", split=None, message=message, places=())
    return CheckReport(dataset=dataset, splits={}, problems=(found,))


def _compare_with_training(train: Split, other: Split | None, between: Findings) -> None:
    from protomask.data.doctor.between_splits import check_class_names, check_classes

    if other is None or other is train or not all(one.whole and len(one.dataset) for one in (train, other)):
        return
    if check_class_names(train, other, between) and other.name == "val":
        check_classes(train, other, between)


class _Steps:
    """Counts what is done of several kinds of work."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def advance(self, what: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, what)
