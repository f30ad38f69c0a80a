"""Reads the lines that `JsonLinesSink` wrote back as frames."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protomask.errors import DataError
from protomask.files import naming
from protomask.images.decode import Pixels
from protomask.masks.rle import rle_to_runs
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import RunMasks


class Line(NamedTuple):
    """One line of a file.

    Args:
        row: what it says.
        end: bytes of the file up to its end.

    """

    row: dict[str, Any]
    end: int

    @property
    def file(self) -> str:
        """The source of the frame."""
        return str(self.row["file"])

    @property
    def time(self) -> float | None:
        """Seconds from the beginning of its source; None for a still image."""
        return self.row.get("time")


def read_lines(path: Path, end: int | None = None) -> Iterator[Line]:
    """The whole lines of a file; a partial line that a killed process left does not count.

    Args:
        path: path of the file.
        end: read no further than this many bytes.

    Raises:
        DataError: a line is not one of ours; the message names the file and the line.

    """
    place = 0
    with naming(path, DataError), path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            place += len(text)
            if not text.endswith(b"\n") or (end is not None and place > end):
                return
            try:
                row = json.loads(text)
                _ = row["file"], row["size"], row["instances"]
            except (ValueError, KeyError, TypeError) as error:
                got = text[:60].decode(errors="backslashreplace").rstrip()
                raise DataError(f"{path}, line {number}: expected the results of one frame, got {got}") from error
            yield Line(row, place)


def frame_of(row: Mapping[str, Any], class_names: Sequence[str]) -> Frame:
    """The frame that a line is about, without its image.

    Raises:
        DataError: the line does not fit the classes, or a mask is damaged.

    """
    instances = row["instances"]
    unknown = [one["class_name"] for one in instances if list(class_names)[one["label"] :][:1] != [one["class_name"]]]
    if unknown:
        raise DataError(f"{row['file']}: expected results of the same model, got the class {unknown[0]!r}")
    tracks = [one.get("track_id") for one in instances]
    is_tracked = None not in tracks  # where nothing was found it makes no difference
    found = Instances(
        boxes=np.array([one["box"] for one in instances], dtype=np.float32).reshape(-1, 4),
        labels=np.array([one["label"] for one in instances], dtype=np.int64),
        class_scores=np.array([one["class_score"] for one in instances], dtype=np.float32),
        mask_scores=_mask_scores([one["mask_score"] for one in instances]),
        masks=RunMasks([rle_to_runs(one["segmentation"])[0] for one in instances]),
        image_size=tuple(row["size"]),
        class_names=tuple(class_names),
        columns={"track_ids": np.array(tracks, dtype=np.int64)} if is_tracked else None,
    )
    return Frame(_no_image, source=row["file"], index=row.get("frame", 0), time=row.get("time"), found=found)


def _mask_scores(scores: Sequence[float | None]) -> Any:
    return None if None in scores or not scores else np.array(scores, dtype=np.float32)


def _no_image() -> Pixels:
    raise DataError("expected a frame that was read, got one of which only the results are known")
