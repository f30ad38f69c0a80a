"""COCO instance annotations: strict about structure, tolerant of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protomask.data.coco.layout import open_dataset

if TYPE_CHECKING:
    from protomask.data.coco.dataset import CocoDataset

__all__ = ["CocoDataset", "open_dataset"]


def __getattr__(name: str) -> Any:
    # The rooms beside the data set do without PyTorch.
    if name == "CocoDataset":
        from protomask.data.coco.dataset import CocoDataset

        return CocoDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
