"""A sheet of random images of a data set with their annotations drawn on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from protomask.data.coco.dataset import CocoDataset
from protomask.data.doctor.report import CheckReport
from protomask.errors import DataError
from protomask.files import replacing
from protomask.images.captions import shortened
from protomask.reports.overlays import draw_truth, load_scaled

_TILES, _COLUMNS, _TILE_SIDE, _CAPTION, _GAP, _LETTERS = 12, 4, 360, 22, 8, 13


def write_sheet(report: CheckReport, path: str | Path, *, seed: int = 0) -> Path | None:
    """Draw random images of a checked data set with their annotations, two thirds of them from the training split.

    Args:
        report: of `check_dataset`; images that cannot be read are left out, for the report lists them.
        path: PNG file to write.
        seed: chooses the images.

    Returns:
        The path; None if the data set has no image that can be shown.

    Raises:
        ProtomaskError: the file cannot be written.

    """
    path = Path(path)
    tiles: list[Image.Image] = []
    for name, split in report.splits.items():
        dataset = CocoDataset(split.annotation_file, split.image_dir, classes=tuple(split.objects_of_class), faults=[])
        wanted = _share(name, list(report.splits))
        for index in random.Random(seed).sample(range(len(dataset)), len(dataset)):
            if wanted == 0:
                break
            try:
                tiles.append(_tile(dataset, index, name))
            except DataError:
                continue  # the report lists it
            wanted -= 1
    if not tiles:
        return None
    with replacing(path) as file:
        _contact_sheet(tiles).save(file, format="PNG")
    return path


def _share(split: str, splits: Sequence[str]) -> int:
    """Tiles for a split: two thirds for training, the others share the rest."""
    if len(splits) == 1:
        return _TILES
    if split == "train":
        return _TILES * 2 // 3
    others = len(splits) - ("train" in splits)
    return max(1, (_TILES // 3 if "train" in splits else _TILES) // others)


def _tile(dataset: CocoDataset, index: int, split: str) -> Image.Image:
    """One image with its annotations, as large as fits into a tile of the sheet, and a caption below."""
    image = load_scaled(dataset, index, _TILE_SIDE)
    drawn, target = draw_truth(dataset, index, image, color_by="instance")
    drawn.thumbnail((_TILE_SIDE, _TILE_SIDE))
    tile = Image.new("RGB", (_TILE_SIDE, _TILE_SIDE + _CAPTION), "white")
    tile.paste(drawn, ((_TILE_SIDE - drawn.width) // 2, _TILE_SIDE - drawn.height))
    crowds = int(target.is_crowd.sum())
    counts = {"object": len(target) - crowds, "crowd": crowds}
    counted = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)
    caption = _caption(split, dataset.image_path(index).name, counted or "no object")
    place = (_TILE_SIDE // 2, _TILE_SIDE + _CAPTION // 2)
    ImageDraw.Draw(tile).text(place, caption, fill="black", font=ImageFont.load_default(_LETTERS), anchor="mm")
    return tile


def _caption(split: str, name: str, counted: str) -> str:
    """``train 000012.jpg: 3 objects``, as wide as a tile or less; a long file name loses its middle."""
    font = ImageFont.load_default(_LETTERS)
    short = shortened(name, _TILE_SIDE, lambda words: font.getlength(f"{split} {words}: {counted}"))
    return f"{split} {short}: {counted}"


def _contact_sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    """All tiles on one white image, in rows."""
    width, height = tiles[0].size
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return sheet
