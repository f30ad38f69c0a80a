"""Problems of a data set, each kind once with all its places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from protomask.structures.coco_json import Fault

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error stops training or makes it learn something wrong; a warning deserves a look; a note may be intended."""

NAMED = 4
"""Number of places or names that a message lists before it only counts."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One kind of problem.

    Attributes:
        severity: see `SEVERITIES`.
        kind: short name, the same whatever the data set.
        split: "train" or "val"; None if it concerns both, or neither.
        message: one line to read: file, first place, what is wrong there, how often it occurs, more places.
        places: every place where it occurs.

    """

    severity: Severity
    kind: str
    split: str | None
    message: str
    places: tuple[str, ...]


class Findings:
    """Collects what is found, and makes one `Problem` of each kind."""

    def __init__(self, split: str | None, file: str) -> None:
        self.split = split
        self.file = file
        self._found: dict[tuple[Severity, str], list[tuple[str, str]]] = defaultdict(list)
        self._complete: list[Problem] = []

    def add(self, severity: Severity, kind: str, place: str, text: str) -> None:
        self._found[severity, kind].append((place, text))

    def add_fault(self, fault: Fault) -> None:
        if fault.items:
            self._complete.append(
                Problem(severity="error", kind=fault.kind, split=self.split, message=str(fault), places=fault.items)
            )
        else:
            self.add("error", fault.kind, fault.where, fault.reason)

    def problems(self) -> list[Problem]:
        made = [
            Problem(
                severity=severity,
                kind=kind,
                split=self.split,
                message=": ".join(filter(None, (self.file, *found[0]))) + _more([place for place, _ in found]),
                places=tuple(place for place, _ in found if place),
            )
            for (severity, kind), found in self._found.items()
        ]
        return self._complete + made


def _more(places: Sequence[str]) -> str:
    if len(places) == 1:
        return ""
    others = [place for place in places[1:NAMED] if place]
    also = f", also {', '.join(others)}{', ...' if len(places) > NAMED else ''}" if others else ""
    return f" ({len(places)} in all{also})"


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (SEVERITIES.index(problem.severity), -len(problem.places))))
