"""`Sequence`: the true and the found objects of one video, and how much they overlap in each frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FramePairs:
    """One frame.

    Attributes:
        truth: (N,) int64, number of each true object, from 0, each once.
        found: (M,) int64, number of each found track, from 0, each once.
        overlaps: (N, M) float64 in [0, 1], IoU of their masks.

    """

    truth: Ids
    found: Ids
    overlaps: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One video.

    Attributes:
        frames: in order.
        num_truth: different true objects.
        num_found: different tracks.

    """

    frames: tuple[FramePairs, ...]
    num_truth: int
    num_found: int

    @classmethod
    def of(cls, frames: Iterable[tuple[Ids, Ids, NDArray[np.float64]]]) -> Sequence:
        """From the ids of each frame, which may be any whole numbers, and the overlaps.

        Raises:
            DataError: an id occurs twice in a frame, or overlaps have another shape.

        """
        frames = list(frames)
        numbers: list[dict[int, int]] = [{}, {}]
        pairs = []
        for index, (truth, found, overlaps) in enumerate(frames):
            for name, ids in (("truth", truth), ("found", found)):
                if len(np.unique(ids)) < len(ids):
                    raise DataError(f"frame {index}: expected every {name} id once, got {np.sort(ids).tolist()}")
            if overlaps.shape != (len(truth), len(found)):
                raise DataError(
                    f"frame {index}: expected overlaps of shape {(len(truth), len(found))}, got {overlaps.shape}"
                )
            own = [
                np.array([known.setdefault(one, len(known)) for one in ids.tolist()], dtype=np.int64)
                for known, ids in zip(numbers, (truth, found), strict=True)
            ]
            pairs.append(FramePairs(truth=own[0], found=own[1], overlaps=overlaps.astype(np.float64)))
        return cls(frames=tuple(pairs), num_truth=len(numbers[0]), num_found=len(numbers[1]))

    def counts(self) -> tuple[Ids, Ids]:
        """Number of frames in which each true object (N,) and each track (M,) is there."""
        truth, found = np.zeros(self.num_truth, dtype=np.int64), np.zeros(self.num_found, dtype=np.int64)
        for frame in self.frames:
            truth[frame.truth] += 1
            found[frame.found] += 1
        return truth, found
