"""Sinks that write what was found as a data set, to be corrected and learned from: COCO, LabelMe, YOLO."""

from __future__ import annotations

import itertools
import json
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protomask.errors import ConfigError
from protomask.files import naming, replacing
from protomask.images.upright import write_upright
from protomask.inference.sinks.json_list import JsonList
from protomask.inference.sinks.pictures import found_in, write_json
from protomask.inference.sinks.sink import Names, Sink, check_not_among_inputs, make_folder
from protomask.structures.annotations import coco_entry, labelme_file, labelme_shapes, yolo_outline
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances


class DatasetSink(Sink):
    """Base of the sinks that write a data set, all images in one split, ``train``.

    Images are copied; those with an EXIF orientation, and those that are not files, are encoded again, upright.
    Instances without a pixel are left out. A data set that is not completed is removed.

    Args:
        folder: to be made, or empty: it may hold corrections otherwise.
        class_names: names in the order of the labels; instances of other classes are left out.
        tolerance: px by which outlines may be off, so that they have fewer vertices to correct; 0 for exact masks.

    Raises:
        ConfigError: the folder is not empty.
        ProtomaskError: the folder cannot be made.

    """

    def __init__(self, folder: str | Path, class_names: Sequence[str], *, tolerance: float = 0.0) -> None:
        self.folder = make_folder(Path(folder))
        with naming(self.folder):
            if any(self.folder.iterdir()):
                raise ConfigError(
                    f"save_dir: expected {self.folder} to be new or empty, as it may hold corrections of an earlier run"
                )
        self.tolerance = tolerance
        self.class_names = tuple(dict.fromkeys(class_names))
        self._names = Names()

    @property
    @abstractmethod
    def image_folder(self) -> Path:
        """Where the images go."""

    @abstractmethod
    def annotate(self, image: Path, found: Instances) -> list[Path]:
        """Write down what was found in an image that was written; returns the files made for it alone."""

    def complete(self) -> None:
        """Write what the data set lacks when all images are there."""

    def check(self, frame: Frame) -> None:
        """See `Sink.check`."""
        check_not_among_inputs(frame, self.image_folder)

    def write(self, frame: Frame) -> list[Path]:
        """See `Sink.write`."""
        found = found_in(frame)
        if found.class_names != self.class_names:
            found = found.of_classes(self.class_names)
        source = frame.image_source
        is_file = source is not None and "://" not in source
        stem = make_folder(self.image_folder) / self._names.next(frame)
        image = write_upright(frame.image, stem, Path(source) if source is not None and is_file else None)
        return [image, *self.annotate(image, found[found.areas > 0])]

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        if complete:
            self.complete()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class CocoDatasetSink(DatasetSink):
    """``annotations/train.json`` and ``images/train/``; annotations also have their ``score``."""

    def __init__(self, folder: str | Path, class_names: Sequence[str], *, tolerance: float = 0.0) -> None:
        super().__init__(folder, class_names, tolerance=tolerance)
        self._images: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._rows = JsonList(self.folder / "annotations" / "train.json", '{"annotations": ')

    @property
    def image_folder(self) -> Path:
        """See `DatasetSink.image_folder`."""
        return self.folder / "images" / "train"

    def annotate(self, image: Path, found: Instances) -> list[Path]:
        """See `DatasetSink.annotate`."""
        make_folder(self.folder / "annotations")
        (height, width), image_id = found.image_size, len(self._images) + 1
        self._images.append({"id": image_id, "file_name": image.name, "width": width, "height": height})
        self._rows.extend(
            [
                {
                    "id": next(self._ids),
                    "image_id": image_id,
                    "category_id": one.label + 1,
                    **coco_entry(one.window, found.image_size, self.tolerance),
                    "score": round(one.score, 4),
                }
                for one in found
            ]
        )
        return []

    def complete(self) -> None:
        """See `DatasetSink.complete`."""
        make_folder(self.folder / "annotations")
        categories = [{"id": number, "name": name} for number, name in enumerate(self.class_names, start=1)]
        self._rows.complete(f', "images": {json.dumps(self._images)}, "categories": {json.dumps(categories)}}}')

    def close(self, *, complete: bool) -> None:
        """See `Sink.close`."""
        try:
            if complete:
                self.complete()
        finally:
            self._rows.discard()
        if not complete:
            super().close(complete=False)


class LabelMeSink(DatasetSink):
    """The images with a LabelMe JSON beside each, and ``classes.txt``; the description of a shape is its score."""

    @property
    def image_folder(self) -> Path:
        """See `DatasetSink.image_folder`."""
        return self.folder

    def annotate(self, image: Path, found: Instances) -> list[Path]:
        """See `DatasetSink.annotate`."""
        shapes = []
        for group, one in enumerate(found, start=1):
            own = labelme_shapes(one.window, self.tolerance)
            common: dict[str, Any] = {
                "label": one.name, "group_id": group if len(own) > 1 else None, "flags": {},
                "description": f"score {one.score:.2f}",
            }  # fmt: skip
            shapes += [{**shape, **common} for shape in own]
        path = image.with_suffix(".json")
        write_json(path, labelme_file(image.name, found.image_size, shapes))
        return [path]

    def complete(self) -> None:
        """See `DatasetSink.complete`."""
        with replacing(self.folder / "classes.txt") as file:
            file.write("".join(f"{name}\n" for name in self.class_names).encode())


class YoloSink(DatasetSink):
    """``images/train/``, ``labels/train/`` with a line per instance (YOLO-seg), and ``data.yaml``."""

    @property
    def image_folder(self) -> Path:
        """See `DatasetSink.image_folder`."""
        return self.folder / "images" / "train"

    def annotate(self, image: Path, found: Instances) -> list[Path]:
        """See `DatasetSink.annotate`."""
        path = make_folder(self.folder / "labels" / "train") / f"{image.stem}.txt"
        lines = [f"{one.label} {yolo_outline(one.window, found.image_size, self.tolerance)}\n" for one in found]
        with replacing(path) as file:
            file.write("".join(lines).encode())
        return [path]

    def complete(self) -> None:
        """See `DatasetSink.complete`."""
        import yaml

        content = {"train": "images/train", "names": dict(enumerate(self.class_names))}
        with replacing(self.folder / "data.yaml") as file:
            file.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
