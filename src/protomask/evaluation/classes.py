"""The classes of a model beside those of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from protomask.data.coco.schema import DataWarning
from protomask.errors import DataError


def compare_classes(known: Sequence[str], wanted: Sequence[str], file: str | Path, *, stacklevel: int = 2) -> None:
    """Warn about the classes that only the model has.

    Args:
        known: class names of the model.
        wanted: class names of the data set.
        file: its annotation file, for the message.
        stacklevel: of the warning, see `warnings.warn`; 2 blames the caller.

    Raises:
        DataError: the model lacks a class of the data set.

    """
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise DataError(
            f"{file}: the categories do not match the class names\n"
            f"  unknown to the model: {', '.join(unknown)}\n  class names of the model: {', '.join(known)}"
        )
    others = [name for name in known if name not in wanted]
    if others:
        warnings.warn(f"not in the data, left out: {', '.join(others)}", DataWarning, stacklevel=stacklevel)
