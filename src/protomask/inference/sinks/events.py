"""`ZoneSink`: what happens in zones and at lines, as files."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

from protomask.inference.sinks.growing import GrowingFile
from protomask.inference.sinks.pictures import json_line, write_json
from protomask.inference.sinks.sink import Sink, make_folder
from protomask.inference.zones.counter import ZoneCounter
from protomask.structures.frame import Frame
from protomask.structures.zone_report import ZoneEvent

EVENT_COLUMNS = tuple(field.name for field in fields(ZoneEvent))
"""Columns of ``events.csv``."""


class ZoneSink(Sink):
    """``events.jsonl`` and ``events.csv``, one line per event as it happens; ``zones.json``, totals and dwell times.

    Args:
        folder: where they go; made if needed.
        counter: what watches the zones of the frames that come; objects still inside at the end leave then.

    """

    def __init__(self, folder: str | Path, counter: ZoneCounter) -> None:
        self.folder = make_folder(Path(folder))
        self._counter = counter
        self._lines = GrowingFile(self.folder / "events.jsonl")
        self._table = GrowingFile(self.folder / "events.csv", head=_csv_line(EVENT_COLUMNS))
        self._dwells: dict[str, list[float]] = {region.name: [] for region in counter.regions}

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        self._write(() if frame.zones is None else frame.zones.events)
        return []

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        try:
            self._write(self._counter.finish())
            write_json(self.folder / "zones.json", {"regions": self._summary()})
        finally:
            self._lines.close()
            self._table.close()

    def _write(self, events: tuple[ZoneEvent, ...]) -> None:
        rows = [event.to_dict() for event in events]
        for event in events:
            if event.dwell is not None:
                self._dwells[event.region].append(event.dwell)
        self._lines.extend(b"".join(map(json_line, rows)))
        self._table.extend(b"".join(_csv_line([row.get(name, "") for name in EVENT_COLUMNS]) for row in rows))

    def _summary(self) -> list[dict[str, Any]]:
        lines = []
        for name, count in self._counter.counts().items():
            dwells = self._dwells[name]
            line: dict[str, Any] = {"region": name, "entered": count.entered}
            if dwells:
                line |= {"mean_dwell": round(sum(dwells) / len(dwells), 3), "longest_dwell": round(max(dwells), 3)}
            crossed = {"left_to_right": count.left_to_right, "right_to_left": count.right_to_left}
            lines.append(line if name in self._counter.zone_names else {"region": name, **crossed})
        return lines


def _csv_line(values: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue().encode("utf-8", "backslashreplace")
