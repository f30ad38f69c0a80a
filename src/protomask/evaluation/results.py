"""COCO results files: reading them back, and the names of the files written beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from protomask.errors import ConfigError, DataError
from protomask.evaluation.match import IouType
from protomask.evaluation.rows import read_rows, renumber
from protomask.evaluation.truth import GroundTruth, Row

IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm")


@dataclass(frozen=True, kw_only=True)
class SavedResults:
    """COCO result rows read from a file, or from the pair of files that `CocoEvaluator.save_results` writes.

    Attributes:
        files: the file of each IoU type; one file may hold both.
        rows: the result rows of each IoU type that the files hold.

    """

    files: Mapping[IouType, Path]
    rows: Mapping[IouType, Sequence[Row]]

    @classmethod
    def read(cls, path: str | Path) -> SavedResults:
        """Read a results file.

        Args:
            path: a file, or the NAME.json that was given to `CocoEvaluator.save_results`.

        Raises:
            DataError: a file cannot be read, or holds no list of result rows.

        """
        path = Path(path)
        pair: dict[IouType, Path] = {iou_type: named_after(path, f"{iou_type}.json") for iou_type in IOU_TYPES}
        if not path.exists() and all(file.is_file() for file in pair.values()):
            return cls(files=pair, rows={iou_type: read_rows(file) for iou_type, file in pair.items()})
        rows = read_rows(path)
        holds: dict[IouType, bool] = {
            "bbox": any("bbox" in row for row in rows),
            "segm": any("segmentation" in row for row in rows),
        }
        iou_types = [iou_type for iou_type, held in holds.items() if held] or IOU_TYPES
        return cls(files=dict.fromkeys(iou_types, path), rows=dict.fromkeys(iou_types, rows))

    def numbered_as(self, truth: GroundTruth) -> SavedResults:
        """The same results with the ids of the ground truth, see `protomask.evaluation.rows.renumber`.

        Raises:
            DataError: an image or a class of the results is not in the ground truth.

        """
        done: dict[int, Sequence[Row]] = {}
        for iou_type, rows in self.rows.items():
            if id(rows) not in done:
                done[id(rows)] = renumber(rows, self.files[iou_type], truth)
        return replace(self, rows={iou_type: done[id(rows)] for iou_type, rows in self.rows.items()})

    def scored_masks(self) -> Sequence[Row]:
        """Mask rows for `QualityMeter.update_rows`, with both scores if both are known.

        Raises:
            ConfigError: there are no masks.
            DataError: the files of a pair do not list the same detections.

        """
        if "segm" not in self.rows:
            raise ConfigError(f"quality: expected results with masks, but {self.files['bbox']} holds only boxes")
        masks = self.rows["segm"]
        if len(set(self.files.values())) == 1:
            return masks
        # The two files list the same detections in one order, boxes with the class score and masks with the product.
        boxes = self.rows["bbox"]
        if [_detection(row) for row in boxes] != [_detection(row) for row in masks]:
            files = " and ".join(str(file) for file in self.files.values())
            raise DataError(f"quality: {files} do not list the same detections in one order")
        if all(box.get("score") == mask.get("score") for box, mask in zip(boxes, masks, strict=True)):
            return masks
        return [{**mask, "class_score": box.get("score")} for box, mask in zip(boxes, masks, strict=True)]


def _detection(row: Row) -> tuple[Any, Any]:
    return row.get("image_id"), row.get("category_id")


def diagram_path(path: str | None, save_results: str | None = None) -> Path:
    """The path of the reliability diagram.

    Args:
        path: a .svg file; by default NAME_reliability.svg beside the NAME.json of ``save_results``, or reliability.svg
            in the current folder.
        save_results: the NAME.json of the saved results.

    Raises:
        ConfigError: the path is a folder or not a PNG; the message calls it ``quality_plot``.

    """
    if path is not None:
        if Path(path).suffix.lower() != ".svg":
            raise ConfigError(f"quality_plot: expected a file name ending in .svg, got {path!r}")
        if Path(path).is_dir():
            raise ConfigError(f"quality_plot: expected a file, but {path} is a folder")
        return Path(path)
    if save_results is None:
        return Path("reliability.svg")
    return named_after(save_results, "reliability.svg")


def named_after(path: str | Path, ending: str) -> Path:
    """``NAME_ending`` beside ``NAME.json``."""
    path = Path(path)
    stem = path.stem if path.suffix == ".json" else path.name
    return path.with_name(f"{stem}_{ending}")
