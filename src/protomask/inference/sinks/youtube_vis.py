"""`YoutubeVisSink`: tracks as YouTube-VIS has them, a mask for each frame."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protomask.errors import ConfigError
from protomask.files import naming, replacing
from protomask.inference.sinks.pictures import file_of, found_in, write_json
from protomask.inference.sinks.sink import Names, Sink, make_folder
from protomask.structures.frame import Frame


class YoutubeVisSink(Sink):
    """``youtube_vis.json``: results as YouTube-VIS has them (https://youtube-vos.org/dataset/vis), a list of tracks
    with a ``segmentation`` for each frame of their video, null where they are not seen; and ``videos.json``: the
    ``videos`` and ``categories`` that they refer to, and no annotations.

    A track has the class that its frames give the highest sum of scores, and the mean of their scores. Each video is
    described as if its frames were JPEG files in a folder of its name. Both files appear when all frames have come.
    Memory grows with the number of masks.

    Args:
        folder: where they go; made if needed.

    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_folder(Path(folder))
        self._class_names: tuple[str, ...] = ()
        self._videos: list[_Video] = []
        self._names = Names()

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        if found_in(frame).track_ids is None:
            raise ConfigError(f"{frame.source}: save_youtube_vis: expected instances with track ids")

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        found = found_in(frame)
        self._class_names = found.class_names
        if not self._videos or self._videos[-1].source != frame.source:
            self._videos.append(_Video(frame, self._names.next_of(frame.source)))
        self._videos[-1].add(frame)
        return []

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        self.write(frame)

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        if not complete:
            return
        videos = [video.described(number) for number, video in enumerate(self._videos, start=1)]
        categories = [{"id": label, "name": name} for label, name in enumerate(self._class_names, start=1)]
        content = {"videos": videos, "categories": categories, "annotations": []}
        write_json(self.folder / "videos.json", content)
        path = self.folder / "youtube_vis.json"
        with naming(path), replacing(path) as file:
            before = b"[\n"
            for number, video in enumerate(self._videos, start=1):
                for row in video.tracks(number):
                    file.write(before + json.dumps(row).encode())
                    before = b",\n"
            file.write(b"[]\n" if before == b"[\n" else b"\n]\n")


class _Video:
    """What has come of one video."""

    def __init__(self, first: Frame, name: str) -> None:
        self.source = first.source
        self._file, self._name = file_of(first), name
        self._height, self._width = found_in(first).image_size
        self._times: list[float | None] = []
        self._masks: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._scores: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, frame: Frame) -> None:
        found = found_in(frame)
        assert found.track_ids is not None
        place = len(self._times)
        self._times.append(frame.time)
        for track, one, code in zip(found.track_ids.tolist(), found, found.rle(), strict=True):
            self._masks[track].append((place, code["counts"]))
            self._scores[track][one.label] += one.score

    def described(self, number: int) -> dict[str, Any]:
        files = [f"{self._name}/{place:06d}.jpg" for place in range(len(self._times))]
        return {
            "id": number, "file_name": self._file, "file_names": files, "times": self._times,
            "length": len(self._times), "height": self._height, "width": self._width,
        }  # fmt: skip

    def tracks(self, number: int) -> Iterator[dict[str, Any]]:
        for track, masks in sorted(self._masks.items()):
            scores = self._scores[track]
            segmentations: list[dict[str, Any] | None] = [None] * len(self._times)
            for place, counts in masks:
                segmentations[place] = {"size": [self._height, self._width], "counts": counts}
            yield {
                "video_id": number, "track_id": track, "category_id": 1 + max(scores, key=lambda label: scores[label]),
                "score": sum(scores.values()) / len(masks), "segmentations": segmentations,
            }  # fmt: skip
