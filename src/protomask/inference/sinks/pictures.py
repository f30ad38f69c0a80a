"""Sinks that write one picture, or one file, per frame: overlays, label maps, outlines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from protomask.errors import ConfigError
from protomask.files import replacing
from protomask.images.write import write_image
from protomask.inference.sinks.sink import Names, Sink, check_not_among_inputs, make_folder
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.overlays import ColorBy
from protomask.structures.serialise import describe


class _FolderSink(Sink):
    """What writes files of its own for each frame into one folder, which must not be that of the images."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_folder(Path(folder))
        self._names = Names()

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        check_not_among_inputs(frame, self.folder)

    def replay(self, frame: Frame) -> None:
        """See `Sink.replay`."""
        self._names.next(frame)


class OverlaySink(_FolderSink):
    """``NAME.png`` or ``NAME.jpg``: each image with masks, boxes, classes and scores drawn on it.

    Args:
        folder: where they go; made if needed. It must not be the folder of the images.
        format: png, or the smaller jpg.
        color_by: what a colour stands for, see `Instances.draw`.

    Raises:
        ConfigError: ``format`` is unknown.
        ProtomaskError: the folder cannot be made.

    """

    def __init__(
        self, folder: str | Path, *, format: Literal["png", "jpg"] = "png", color_by: ColorBy = "auto"
    ) -> None:
        if format not in ("png", "jpg"):
            raise ConfigError(f"overlay_format: expected png or jpg, got {format!r}")
        super().__init__(folder)
        self.format = format
        self.color_by: ColorBy = color_by

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        path = self.folder / f"{self._names.next(frame)}.{self.format}"
        write_image(path, found_in(frame).draw(frame.image, color_by=self.color_by))
        return [path]


class PolygonSink(_FolderSink):
    """``NAME.geojson``: one feature per object, parts and holes kept.

    Args:
        folder: where they go; made if needed.

    """

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        path = self.folder / f"{self._names.next(frame)}.geojson"
        content = found_in(frame).to_geojson()
        write_json(path, {"type": content.pop("type"), "file": file_of(frame), **content})
        return [path]


class LabelMapSink(_FolderSink):
    """``NAME.png``, 16 bits: each pixel is the number of the object seen there; ``NAME.json``: what the numbers are.

    Args:
        folder: where they go; made if needed.

    """

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        stem, found = self._names.next(frame), found_in(frame)
        picture, legend = self.folder / f"{stem}.png", self.folder / f"{stem}.json"
        numbers = found.label_map()
        write_image(picture, numbers)
        visible = np.bincount(numbers.reshape(-1), minlength=len(found) + 1)[1:].tolist()
        rows = [{**row, "pixels": pixels} for row, pixels in zip(describe(found), visible, strict=True)]
        write_json(legend, {"file": file_of(frame), "size": list(found.image_size), "instances": rows})
        return [picture, legend]


class CropSink(_FolderSink):
    """``NAME_NUMBER_CLASS.png``: each object cut out along its mask, RGBA, transparent around it.

    NUMBER is that of the object in every other file, from 001, best first. Objects without a pixel have no file.

    Args:
        folder: where they go; made if needed.

    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._crop_names = Names()

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        stem, image, written = self._names.next(frame), frame.image, []
        for number, one in enumerate(found_in(frame), start=1):
            top, left, mask = one.window
            if not mask.any():
                continue
            height, width = mask.shape
            colors = image[top : top + height, left : left + width] * mask[:, :, None]
            name = self._crop_names.unique(f"{stem}_{number:03d}_{_as_file_name(one.name)}")
            written.append(self.folder / f"{name}.png")
            write_image(written[-1], np.dstack([colors, mask * np.uint8(255)]))
        return written


def _as_file_name(name: str) -> str:
    """The name of a class without what file systems or shells give a meaning to."""
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "object"


def found_in(frame: Frame) -> Instances:
    """What was found in a frame.

    Raises:
        ConfigError: nothing was looked for.

    """
    if frame.found is None:
        raise ConfigError(f"{frame.source}: expected a frame that was predicted")
    return frame.found


def file_of(frame: Frame) -> str:
    """The source of a frame as files record it, with forward slashes."""
    return Path(frame.source).as_posix() if "://" not in frame.source else frame.source


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(json_line(content))


def json_line(content: Mapping[str, Any]) -> bytes:
    """JSON in one line of UTF-8; what a file name has that is none becomes its escape in JSON."""
    return (json.dumps(content, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
