"""COCO result rows: reading and checking them, in the frames and with the ids of the ground truth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.data.coco.schema import DataWarning, Size, wxh
from protomask.data.coco.segmentation import CompressedRle, NoMask, encode, fit_rle, same_aspect
from protomask.errors import DataError
from protomask.evaluation.truth import GroundTruth, Row
from protomask.structures.coco_json import (
    CocoFile,
    Fault,
    Faults,
    ImageIds,
    few,
    finite_number,
    read_categories,
    read_entries,
    read_images,
    read_json,
    shown,
    whole_number,
)

Results = Sequence[Row] | str | Path

PREDICTIONS = "predictions.json"
INDEX = "images.json"
"""File beside result rows that says which image has which id, see `protomask.inference.sinks.lists.CocoSink`."""


def read_rows(results: Results) -> Sequence[Row]:
    """Read result rows from a file, or check those given.

    Raises:
        DataError: the file cannot be read, or is not a list of result rows.

    """
    source = results if isinstance(results, str | Path) else "results"
    rows = read_json(results) if isinstance(results, str | Path) else results
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not all(isinstance(row, Mapping) for row in rows):
        raise DataError(f"{source}: expected a list of COCO result objects, got {shown(rows)}")
    return rows


def renumber(rows: Sequence[Row], path: str | Path, truth: GroundTruth) -> Sequence[Row]:
    """The rows of a file with the ids of the ground truth, where images.json beside it says that they have others.

    A prediction without an annotation file numbers images and classes itself, and says in ``images.json`` how.

    Raises:
        DataError: images of the rows are not among those of the ground truth, or have no name there.

    """
    index = Path(path).with_name(INDEX)
    if not index.is_file():
        return rows
    try:
        file = CocoFile.read(index)
        faults = Faults(index)
        images = read_images(read_entries(file, "images", faults), faults, needs_files=False)
        names = read_categories(read_entries(file, "categories", faults), faults)
        if faults.found:
            raise faults.found[0]
    except Fault as error:
        warnings.warn(f"{error}; the ids of {path} are taken as they are", DataWarning, stacklevel=3)
        return rows
    used = {whole_number(row.get("image_id")) for row in rows}
    if not used <= set(images):
        return rows  # it is about other rows
    known = {record["file_name"]: image_id for image_id, record in truth.images.items() if record["file_name"]}
    by_name = ImageIds(known)
    image_of: dict[int, int] = {}
    for image in images.values():
        if image.image_id in used and known and image.file_name:
            try:
                image_of[image.image_id] = by_name.of(image.file_name)
            except DataError as error:
                reason = f"{path}: image {image.image_id} is {image.file_name} by {index}: {error}"
                if Path(path).name == PREDICTIONS:
                    raise DataError(reason) from error
                warnings.warn(f"{reason}; ids are taken as they are", DataWarning, stacklevel=4)
                return rows
    if len(set(image_of.values())) < len(image_of):
        raise DataError(f"{path}: by {index}, several of its images have the name of one image of {truth.source}")
    category_ids = {name: category_id for category_id, name in truth.category_names.items()}
    unknown = [name for name in names.values() if name not in category_ids]
    used_categories = {whole_number(row.get("category_id")) for row in rows}
    lost = [name for key, name in names.items() if key in used_categories and name in unknown]
    if lost:
        raise DataError(f"{path}: {truth.source} has no category called {few(lost)}, which {index} names")
    category_of = {key: category_ids[name] for key, name in names.items() if name in category_ids}
    if all(key == value for key, value in (*image_of.items(), *category_of.items())):
        return rows
    warnings.warn(
        f"{path}: its images or classes are numbered differently from {truth.source}; matched by the names in {index}",
        DataWarning,
        stacklevel=3,
    )
    return [
        {
            **row,
            "image_id": _mapped(image_of, row.get("image_id")),
            "category_id": _mapped(category_of, row.get("category_id")),
        }
        for row in rows
    ]


def _mapped(numbers: Mapping[int, int], value: Any) -> Any:
    number = whole_number(value)
    return value if number is None else numbers.get(number, value)


def fit_row(row: Row, own_size: Size, size: Size) -> Row:
    """A row for an image of ``own_size`` in the frame ``size`` of the same image: scaled, else cut or padded."""
    if own_size == size or 0 in (*own_size, *size):
        return row
    fitted = dict(row)
    if row.get("segmentation") is not None:
        fitted["segmentation"] = _as_text(fit_rle(row["segmentation"], size))
    if row.get("bbox") is not None and same_aspect(own_size, size):
        y_scale, x_scale = size[0] / own_size[0], size[1] / own_size[1]
        x, y, w, h = row["bbox"]
        fitted["bbox"] = [x * x_scale, y * y_scale, w * x_scale, h * y_scale]
    return fitted


def _as_text(rle: CompressedRle) -> Row:
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def read_mask(segmentation: Any, size: Size, where: str) -> tuple[CompressedRle, Size]:
    """Compressed RLE of the mask of a row in the frame ``size``, and the size that it had.

    Raises:
        DataError: the segmentation is none, is damaged, or belongs to another image; ``where`` begins the message.

    """
    try:
        if isinstance(segmentation, Mapping):
            if not {"size", "counts"} <= segmentation.keys():
                raise ValueError(f"expected polygons or an RLE with 'size' and 'counts', got {shown(segmentation)}")
            rle = _own_rle(segmentation, size)
            own_size: Size = (rle["size"][0], rle["size"][1])
            if 0 in size or own_size == size:
                return rle, own_size
            if not same_aspect(own_size, size):
                got = f"expected an RLE of the image's size {[*size]}, got {[*own_size]}"
                raise ValueError(got)
            return fit_rle(rle, size), own_size
        if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
            raise ValueError(f"expected polygons or an RLE with 'size' and 'counts', got {shown(segmentation)}")
        if 0 in size:
            raise ValueError("the image has no height and width, which a polygon mask needs")
        # Fewer than three points enclose nothing.
        parts = [_numbers(part) for part in segmentation]
        parts = [part for part in parts if len(part) >= 6 and len(part) % 2 == 0]
        if not parts:
            return fit_rle({"size": [*size], "counts": [size[0] * size[1]]}, size), size
        return encode(parts, size, size), size
    except (NoMask, ValueError) as error:
        raise DataError(f"{where}: {error}") from error


def _own_rle(segmentation: Mapping[str, Any], size: Size) -> CompressedRle:
    own = segmentation["size"]
    if not isinstance(own, Sequence) or isinstance(own, str) or len(own) != 2 or None in map(whole_number, own):
        raise ValueError(f"expected an RLE size [height, width], got {shown(own)}")
    height, width = (int(side) for side in own)
    counts = segmentation["counts"]
    if not isinstance(counts, str | bytes) and not isinstance(counts, Sequence):
        raise ValueError(f"expected RLE counts as a list or a string, got {shown(counts)}")
    plain = counts if isinstance(counts, str | bytes) else list(counts)
    if height * width > 64 * size[0] * size[1] + (1 << 22) and 0 not in size:
        raise ValueError(f"expected an RLE of the image's size {[*size]}, got {[height, width]}")
    return fit_rle({"size": [height, width], "counts": plain}, (height, width))


def _numbers(part: Any) -> list[float]:
    if isinstance(part, Sequence) and not isinstance(part, str):
        numbers = [finite_number(value) for value in part]
        if None not in numbers:
            return [number for number in numbers if number is not None]
    raise ValueError(f"expected polygons as lists [x1, y1, x2, y2, ...], got {shown(part)}")


def checked_box(box: Any, where: str) -> list[float]:
    """The box [x, y, width, height] in floats.

    Raises:
        DataError: it is not four finite numbers.

    """
    if isinstance(box, Sequence) and not isinstance(box, str) and len(box) == 4:
        numbers = [finite_number(value) for value in box]
        if None not in numbers:
            return [number for number in numbers if number is not None]
    raise DataError(f"{where}: expected a box of four finite numbers [x, y, width, height], got {shown(box)}")


def warn_of_frames(found: Sequence[tuple[str, Size, Size]]) -> None:
    """One `DataWarning` about rows whose masks were scaled: where, their own size, and that of the image."""
    if found:
        where, own, size = found[0]
        text = f"{len(found)} masks differ in size from their image and are scaled; first {where}: {wxh(own)} px "
        warnings.warn(f"{text}for {wxh(size)} px", DataWarning, stacklevel=4)
