"""`ZoneCounter`: enters, leaves, dwell times and crossings of tracked masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from protomask.errors import ConfigError, DataError
from protomask.inference.zones.regions import Region, Zone
from protomask.masks.runs import Runs, intersect_runs, runs_area
from protomask.settings import NonNegative, OpenShare, Settings, Unit
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.zone_report import Direction, EventKind, LeaveReason, RegionCount, ZoneEvent, ZoneReport


@dataclass(frozen=True, kw_only=True)
class ZoneOptions(Settings):
    """When a mask counts as inside a zone or beyond a line.

    Attributes:
        enter_share: an object enters a zone when this share of its mask's pixels is inside.
        leave_share: it leaves when no more than this share is inside; below enter_share, so that a mask that trembles
            at the border does not enter and leave repeatedly.
        side_share: an object is on one side of a line when this share of its mask's pixels is there.
        lost_after: an object that has not been seen for this many seconds has left its zones at the moment it was last
            seen.

    """

    enter_share: Unit = 0.5
    leave_share: Unit = 0.25
    side_share: OpenShare = 0.75
    lost_after: NonNegative = 2.0

    def _check(self) -> None:
        self._expect("leave_share", self.leave_share < self.enter_share, f"less than enter_share={self.enter_share:g}")
        self._expect("side_share", self.side_share > 0.5, "a share above 0.5")


@dataclass
class _Presence:
    """One track in one zone, from entering to leaving."""

    since: float
    share: float


@dataclass
class _Seen:
    """The last sight of a track."""

    class_name: str
    source: str
    frame: int
    time: float

    def event(self, kind: EventKind, region: str, track: int, share: float, **more: Any) -> ZoneEvent:
        return ZoneEvent(
            event=kind, region=region, track_id=track, class_name=self.class_name, source=self.source, frame=self.frame,
            time=self.time, share=share, **more,
        )  # fmt: skip


Side = Literal["left", "right"]
_TOTALS = ("entered", "left_to_right", "right_to_left")


class ZoneCounter:
    """Counts who is in zones and who crosses lines, in frames of one source after another.

    Not thread-safe. Cost per frame and region grows with the outlines of the masks, not with the frame.

    Args:
        regions: zones and lines, see `protomask.inference.zones.read.read_regions`.
        options: when a mask counts as inside.

    """

    def __init__(self, regions: Sequence[Region], options: ZoneOptions | None = None) -> None:
        self.regions = tuple(regions)
        self.options = options or ZoneOptions()
        self._source: str | None = None
        self._size: tuple[int, int] | None = None
        self._planes: list[tuple[Runs, ...]] = []
        self._inside: dict[str, dict[int, _Presence]] = {region.name: {} for region in self.regions}
        self._sides: dict[str, dict[int, Side]] = {region.name: {} for region in self.regions}
        self._totals = {region.name: dict.fromkeys(_TOTALS, 0) for region in self.regions}
        self._seen: dict[int, _Seen] = {}

    @property
    def zone_names(self) -> tuple[str, ...]:
        """Names of the zones among the regions; the others are lines."""
        return tuple(region.name for region in self.regions if isinstance(region, Zone))

    def update(self, frame: Frame) -> ZoneReport:
        """Take the next frame of the source.

        Args:
            frame: with ``found`` that has ``track_ids``, and with a ``time``.

        Raises:
            ConfigError: the frame has no tracks or no time.
            DataError: the regions were drawn on a frame of another size.

        """
        found, time = frame.found, frame.time
        if found is None or found.track_ids is None:
            raise ConfigError("zones: expected tracked instances, got some without track ids")
        if time is None:
            raise ConfigError(f"zones: expected frames with times, got {frame.source} without: give its frame rate")
        self._draw(found.image_size)
        events = self._lose(time) if frame.source == self._source else list(self.finish())
        self._source = frame.source
        for track, name in zip(found.track_ids.tolist(), found.names, strict=True):
            self._seen[track] = _Seen(name, frame.source, frame.index, time)
        for region, planes in zip(self.regions, self._planes, strict=True):
            step = self._update_zone if isinstance(region, Zone) else self._update_line
            events += step(region.name, planes, found)
        return ZoneReport(events=tuple(events), counts=self.counts())

    def finish(self) -> tuple[ZoneEvent, ...]:
        """End the source: everything that is still in a zone leaves it, for the reason "end"; totals are kept."""
        events = [self._leave(name, track, "end") for name, tracks in self._inside.items() for track in list(tracks)]
        self._seen.clear()
        for sides in self._sides.values():
            sides.clear()
        return tuple(events)

    def counts(self) -> dict[str, RegionCount]:
        """The present state of every region, by name."""
        return {
            region.name: RegionCount(inside=tuple(sorted(self._inside[region.name])), **self._totals[region.name])
            for region in self.regions
        }

    def _draw(self, size: tuple[int, int]) -> None:
        if size == self._size:
            return
        for region in self.regions:
            if region.frame_size is not None and region.frame_size != size:
                (height, width), (own_height, own_width) = size, region.frame_size
                raise DataError(
                    f"zone {region.name}: expected one drawn on a frame of {width}x{height}, got one of "
                    f"{own_width}x{own_height}"
                )
        self._planes = [
            (region.pixels(size),) if isinstance(region, Zone) else region.sides(size) for region in self.regions
        ]
        self._size = size

    def _update_zone(self, name: str, planes: tuple[Runs, ...], found: Instances) -> list[ZoneEvent]:
        inside, events = self._inside[name], []
        for track, share in _shares(found, planes[0]):
            if track in inside:
                inside[track].share = share
                if share <= self.options.leave_share:
                    events.append(self._leave(name, track, "moved"))
            elif share >= self.options.enter_share:
                seen = self._seen[track]
                inside[track] = _Presence(seen.time, share)
                self._totals[name]["entered"] += 1
                events.append(seen.event("enter", name, track, share))
        return events

    def _update_line(self, name: str, planes: tuple[Runs, ...], found: Instances) -> list[ZoneEvent]:
        sides, events = self._sides[name], []
        left, right = planes
        for (track, on_left), (_, on_right) in zip(_shares(found, left), _shares(found, right), strict=True):
            if on_left + on_right < 0.5:  # around the end of the line
                sides.pop(track, None)
                continue
            share = max(on_left, on_right)
            if share < self.options.side_share * (on_left + on_right):
                continue
            side: Side = "left" if on_left > on_right else "right"
            before, sides[track] = sides.get(track), side
            if before is None or before == side:
                continue
            direction: Direction = "left_to_right" if side == "right" else "right_to_left"
            self._totals[name][direction] += 1
            events.append(self._seen[track].event("cross", name, track, share, direction=direction))
        return events

    def _lose(self, now: float) -> list[ZoneEvent]:
        lost = [track for track, seen in self._seen.items() if now - seen.time > self.options.lost_after]
        events = [
            self._leave(name, track, "lost")
            for track in lost
            for name, tracks in self._inside.items()
            if track in tracks
        ]
        for track in lost:
            del self._seen[track]
            for sides in self._sides.values():
                sides.pop(track, None)
        return events

    def _leave(self, name: str, track: int, reason: LeaveReason) -> ZoneEvent:
        presence, seen = self._inside[name].pop(track), self._seen[track]
        dwell = seen.time - presence.since
        return seen.event("leave", name, track, presence.share, dwell=dwell, reason=reason)


def _shares(found: Instances, region: Runs) -> list[tuple[int, float]]:
    """Track and the share of its mask inside the region, for every instance whose mask has pixels."""
    assert found.track_ids is not None
    shares = []
    for track, runs in zip(found.track_ids.tolist(), found.runs(), strict=True):
        area = runs_area(runs)
        if area:
            shares.append((track, runs_area(intersect_runs(runs, region)) / area))
    return shares


def count_zones(frames: Iterable[Frame], counter: ZoneCounter) -> Iterator[Frame]:
    """Add to every frame what happens in the zones; frames that could not be read pass unchanged."""
    for frame in frames:
        yield frame if frame.error is not None else frame.replace(zones=counter.update(frame))
