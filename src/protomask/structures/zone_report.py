"""What happened in zones and at lines: plain records that travel with a frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

EventKind = Literal["enter", "leave", "cross"]
Direction = Literal["left_to_right", "right_to_left"]
LeaveReason = Literal["moved", "lost", "end"]


@dataclass(frozen=True, kw_only=True)
class ZoneEvent:
    """A track enters or leaves a zone, or crosses a line.

    Attributes:
        event: what happens.
        region: name of the zone or line.
        track_id: identity of the object.
        class_name: class of the object.
        source: where the frame comes from.
        frame: index of the frame in its source.
        time: seconds from the beginning of the source.
        share: share of the mask's pixels inside the zone, or on the new side of the line, in [0, 1].
        direction: direction of a crossing, as seen when looking along the line from its first point to its last.
        dwell: seconds from entering to leaving; only for "leave".
        reason: why a zone was left: the object "moved" out, its track was "lost", or the source came to its "end".

    """

    event: EventKind
    region: str
    track_id: int
    class_name: str
    source: str
    frame: int
    time: float
    share: float
    direction: Direction | None = None
    dwell: float | None = None
    reason: LeaveReason | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON types, without what does not apply to this kind of event."""
        values = asdict(self)
        for name, digits in (("time", 3), ("share", 4), ("dwell", 3)):
            if values[name] is not None:
                values[name] = round(values[name], digits)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class RegionCount:
    """The state of one zone or line after a frame.

    Attributes:
        inside: tracks in the zone now; empty for lines.
        entered: number of times that a track entered the zone.
        left_to_right: number of crossings of the line in this direction.
        right_to_left: number of crossings in the other.

    """

    inside: tuple[int, ...] = ()
    entered: int = 0
    left_to_right: int = 0
    right_to_left: int = 0


@dataclass(frozen=True, kw_only=True)
class ZoneReport:
    """What zones and lines say about one frame.

    Attributes:
        events: what happened in this frame.
        counts: the state of every region after this frame, by name.

    """

    events: tuple[ZoneEvent, ...]
    counts: dict[str, RegionCount]
