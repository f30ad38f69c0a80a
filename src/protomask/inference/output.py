"""Writing what was found to a folder, image by image.

=====================  =================================================================================================
file                   content
=====================  =================================================================================================
``NAME.png``           overlay, see `draw_instances` (``NAME.jpg`` if asked)
``predictions.json``   COCO results of all images: a plain list, https://cocodataset.org/#format-results
``images.json``        written with it: a COCO file with the ``images`` (id, file_name, height, width) and
                       ``categories`` (id, name) that ``predictions.json`` refers to, and no annotations
``predictions.jsonl``  one JSON object per image, one per line, as each image finishes
``polygons/``          ``NAME.geojson``: one feature per object, parts and holes kept
``label_maps/``        ``NAME.png``, 16 bits: each pixel is the number of the object seen there, 0 for none; and
                       ``NAME.json``: what the numbers are
=====================  =================================================================================================

NAME is the name of the input without its ending; a second input of that name becomes ``NAME_2``, and so on. The files
about one image number its objects alike: 1 is the one with the highest ranking score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import ConfigError, DataError
from protomask.files import naming, replacing, temporary_name
from protomask.inference.draw import draw_instances
from protomask.inference.sources import ImageSource
from protomask.ops.masks import Polygon
from protomask.structures.instances import Instances


class PredictionWriter:
    """Writes the chosen kinds of files while images are predicted; a context manager.

    Leaving the ``with`` block normally completes ``predictions.json`` and ``images.json``; leaving it by an exception
    leaves them unwritten, so a list that exists is complete. Every other file appears whole as soon as its image is
    written, and ``predictions.jsonl`` grows by whole lines. Files of an earlier run are replaced.

    Args:
        save_dir: folder to write to, made if needed. It must not be the folder of the images themselves.
        overlay: write overlays.
        coco_json: write ``predictions.json`` and ``images.json``.
        jsonl: write ``predictions.jsonl``.
        polygons: write ``polygons/``.
        label_map: write ``label_maps/``.
        overlay_format: ``png``, or the smaller ``jpg``.
        draw_options: keyword arguments of `draw_instances`.
        image_ids: COCO image id of each file name, see `read_coco_ids`; 1, 2, ... in order when not given.
        category_ids: COCO category id of each label; label + 1 when not given.

    Raises:
        ConfigError: ``overlay_format`` is unknown.
        ProtomaskError: a file or folder cannot be written; the message names it.
    """

    def __init__(
        self,
        save_dir: str | Path,
        *,
        overlay: bool = True,
        coco_json: bool = False,
        jsonl: bool = False,
        polygons: bool = False,
        label_map: bool = False,
        overlay_format: Literal["png", "jpg"] = "png",
        draw_options: Mapping[str, Any] | None = None,
        image_ids: Mapping[str, int] | None = None,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        if overlay_format not in ("png", "jpg"):
            raise ConfigError(f"overlay_format: expected png or jpg, got {overlay_format!r}")
        self.save_dir = Path(save_dir)
        self._overlay_format = overlay_format
        self._draw_options = dict(draw_options or {})
        self._image_ids = image_ids
        self._category_ids = category_ids
        self._class_names: tuple[str, ...] = ()
        self._images: list[dict[str, Any]] = []
        self._stems: set[str] = set()
        self._overlay_dir = self._folder(self.save_dir) if overlay else None
        self._polygon_dir = self._folder(self.save_dir / "polygons") if polygons else None
        self._label_map_dir = self._folder(self.save_dir / "label_maps") if label_map else None
        self._coco: _JsonList | None = None
        self._jsonl: IO[str] | None = None
        self._folder(self.save_dir)
        if jsonl:
            with naming(self.save_dir / "predictions.jsonl") as path:
                self._jsonl = path.open("w", encoding="utf-8")
        if coco_json:
            self._coco = _JsonList(self.save_dir / "predictions.json")

    @staticmethod
    def _folder(path: Path) -> Path:
        with naming(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._jsonl is not None:
            with naming(self.save_dir / "predictions.jsonl"):
                self._jsonl.close()
        if self._coco is None:
            return
        try:
            if error is None:
                self._write_image_list()
                self._coco.complete()
        finally:
            self._coco.discard()

    def _write_image_list(self) -> None:
        ids = self._category_ids or range(1, len(self._class_names) + 1)
        categories = [{"id": ids[label], "name": name} for label, name in enumerate(self._class_names)]
        content = {"images": self._images, "categories": categories, "annotations": []}
        _write_json(self.save_dir / "images.json", content)

    def write(self, source: str | Path, image: ImageSource, instances: Instances) -> list[Path]:
        """Write everything about one image.

        Args:
            source: where the image came from: gives the files their names and is recorded in them.
            image: the image itself, used for the overlay.
            instances: what was found in it.

        Returns:
            The files written for this image alone.

        Raises:
            ConfigError: the image lies in a folder this writer writes to.
            DataError: ``image_ids`` were given and do not know the image.
            ProtomaskError: a file cannot be written; the message names it.
        """
        source = Path(source)
        self._check_not_among_inputs(source)
        image_id = len(self._images) + 1 if self._image_ids is None else _image_id(source, self._image_ids)
        scores = instances.scores
        if bool((scores[1:] > scores[:-1]).any()):
            instances = instances[scores.argsort(descending=True, stable=True)]
        height, width = instances.image_size
        self._class_names = instances.class_names
        self._images.append({"id": image_id, "file_name": source.as_posix(), "height": height, "width": width})

        stem = self._unique_stem(source)
        written: list[Path] = []
        if self._overlay_dir is not None:
            written.append(self._overlay_dir / f"{stem}.{self._overlay_format}")
            _write_picture(written[-1], draw_instances(image, instances, **self._draw_options))
        head = {"file": source.as_posix(), "size": [height, width]}
        if self._polygon_dir is not None:
            written.append(self._polygon_dir / f"{stem}.geojson")
            _write_json(written[-1], _feature_collection(head, instances))
        if self._label_map_dir is not None:
            numbers = _label_map(instances)
            written += [self._label_map_dir / f"{stem}.png", self._label_map_dir / f"{stem}.json"]
            _write_picture(written[-2], numbers)
            visible = np.bincount(numbers.reshape(-1), minlength=len(instances) + 1)[1:].tolist()
            rows = [{**row, "pixels": pixels} for row, pixels in zip(_describe(instances), visible, strict=True)]
            _write_json(written[-1], {**head, "instances": rows})
        if self._coco is not None or self._jsonl is not None:
            results = instances.to_coco(image_id, self._category_ids)
            if self._coco is not None:
                self._coco.extend(results)
            if self._jsonl is not None:
                rows = [
                    {**row, "segmentation": result["segmentation"]}
                    for row, result in zip(_describe(instances), results, strict=True)
                ]
                with naming(self.save_dir / "predictions.jsonl"):
                    self._jsonl.write(json.dumps({**head, "instances": rows}, ensure_ascii=False) + "\n")
                    self._jsonl.flush()
        return written

    def _check_not_among_inputs(self, source: Path) -> None:
        for folder in (self._overlay_dir, self._polygon_dir, self._label_map_dir):
            if folder is not None and source.is_file() and source.resolve().parent == folder.resolve():
                raise ConfigError(
                    f"save_dir: expected a folder other than that of the images, got {folder}, where {source.name} lies"
                )

    def _unique_stem(self, source: Path) -> str:
        stem, count = source.stem, 1
        while stem.casefold() in self._stems:  # some file systems do not tell A.png from a.png
            count += 1
            stem = f"{source.stem}_{count}"
        self._stems.add(stem.casefold())
        return stem


def read_coco_ids(annotation_file: str | Path, class_names: Sequence[str]) -> tuple[dict[str, int], list[int]]:
    """The ids under which a COCO annotation file knows its images and the classes of a model.

    Args:
        annotation_file: COCO JSON with ``images`` and ``categories``.
        class_names: names the model gives to its labels.

    Returns:
        The image id of each ``file_name``, and the category id of each label.

    Raises:
        DataError: the file cannot be read, is not COCO, or lacks one of the classes.
    """
    path = Path(annotation_file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image_ids = {str(image["file_name"]): int(image["id"]) for image in content["images"]}
        by_name = {str(category["name"]): int(category["id"]) for category in content["categories"]}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected COCO images and categories with their ids and names: {error!r}") from error
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise DataError(f"{path}: expected the classes of the model among its categories, lacks {', '.join(missing)}")
    return image_ids, [by_name[name] for name in class_names]


def _image_id(source: Path, image_ids: Mapping[str, int]) -> int:
    """Annotation files name images relative to some folder: the longest tail of the path that is known decides."""
    for start in range(len(source.parts)):
        tail = "/".join(source.parts[start:])
        if tail in image_ids:
            return image_ids[tail]
    raise DataError(f"{source}: no image of this name among the {len(image_ids)} of the annotation file")


def _describe(instances: Instances) -> list[dict[str, Any]]:
    """One JSON object per instance, without its mask."""
    mask_scores = [None] * len(instances) if instances.mask_scores is None else instances.mask_scores.tolist()
    columns = zip(
        instances.labels.tolist(),
        instances.scores.tolist(),
        instances.class_scores.tolist(),
        mask_scores,
        instances.boxes.tolist(),
        strict=True,
    )
    return [
        {
            "number": number,
            "label": label,
            "class_name": instances.class_names[label],
            "score": score,
            "class_score": class_score,
            "mask_score": mask_score,
            "box": box,
        }
        for number, (label, score, class_score, mask_score, box) in enumerate(columns, start=1)
    ]


def _feature_collection(head: dict[str, Any], instances: Instances) -> dict[str, Any]:
    """GeoJSON (RFC 7946) in image pixels, y downwards: a pixel (row, column) covers column..column+1, row..row+1."""
    features = [
        {"type": "Feature", "geometry": _geometry(parts), "properties": properties}
        for parts, properties in zip(instances.polygons(), _describe(instances), strict=True)
    ]
    return {"type": "FeatureCollection", **head, "features": features}


def _geometry(parts: Sequence[Polygon]) -> dict[str, Any] | None:
    polygons = [[_closed(ring) for ring in (part.exterior, *part.holes)] for part in parts]
    if not polygons:
        return None
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: NDArray[Any]) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]


def _label_map(instances: Instances) -> NDArray[np.uint16]:
    """(H, W) uint16, 1-based number of the instance each pixel belongs to; the first one wins where they overlap."""
    numbers = np.zeros(instances.image_size, dtype=np.uint16)
    for number, (top, left, mask) in enumerate(instances.windows(), start=1):
        part = numbers[top : top + mask.shape[0], left : left + mask.shape[1]]
        np.copyto(part, number, where=mask.numpy() & (part == 0))
    return numbers


class _JsonList:
    """A JSON list that grows on disk under a temporary name and gets its own when complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = temporary_name(path)
        self._separator = "[\n"
        with naming(path):
            self._file = self._temporary.open("w", encoding="utf-8")

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with naming(self._path):
            for row in rows:
                self._file.write(self._separator + json.dumps(row))
                self._separator = ",\n"

    def complete(self) -> None:
        with naming(self._path):
            self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
            self._file.close()
            self._temporary.replace(self._path)

    def discard(self) -> None:
        """Remove what is not complete."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _write_picture(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    with replacing(path) as file:
        if path.suffix == ".jpg":
            Image.fromarray(pixels).save(file, format="JPEG", quality=92)
        else:  # level 1: a third larger than the default and several times faster
            Image.fromarray(pixels).save(file, format="PNG", compress_level=1)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(content, ensure_ascii=False) + "\n").encode())
