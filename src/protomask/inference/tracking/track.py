"""`Track`: what is known of one object beside its motion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protomask.masks.coarse import CoarseMask

_FORGET = 0.97
"""Weight that older class votes keep per frame."""


@dataclass
class Track:
    """One object; its place is kept in `protomask.inference.tracking.motion.BoxMotion`.

    Attributes:
        number: identity, from 1 on; 0 before the track is confirmed.
        mask: its shape on the coarse grid, with what other objects hide of it.
        centre: (2,) x, y px, its place when ``mask`` was made.
        votes: (C,) for each class, weighted by scores.
        hits: frames in which it was detected.
        unseen: seconds since its last detection.

    """

    number: int
    mask: CoarseMask
    centre: NDArray[np.float64]
    votes: NDArray[np.float64] = field(repr=False)
    hits: int = 0
    unseen: float = 0.0

    @property
    def confirmed(self) -> bool:
        """Whether it is reported."""
        return self.number > 0

    @property
    def label(self) -> int:
        """The class with the most votes; of equal ones the first."""
        return int(self.votes.argmax())

    def vote(self, label: int, score: float) -> None:
        """Count the class of a detection."""
        self.votes *= _FORGET
        self.votes[label] += score
        self.hits += 1
        self.unseen = 0.0

    def shares(self) -> NDArray[np.float64]:
        """(C,) of the votes for each class."""
        total = self.votes.sum()
        return self.votes / total if total > 0 else np.full_like(self.votes, 1 / max(len(self.votes), 1))
