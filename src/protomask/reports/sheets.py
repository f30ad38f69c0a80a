"""A sheet of random images of a data set with their annotations drawn on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from protomask.data.coco.dataset import CocoDataset
    from protomask.data.doctor.report import CheckReport

_TILES, _COLUMNS, _TILE_SIDE, _CAPTION = 12, 4, 360, 22


def write_sheet(report: CheckReport, path: Path, seed: int) -> Path | None:
    """Random images with their annotations; None if the data set has none that can be shown."""
    import random

    from protomask.data.coco.dataset import CocoDataset
    from protomask.errors import DataError
    from protomask.files import replacing

    tiles: list[Image.Image] = []
    for name, split in report.splits.items():
        dataset = CocoDataset(split.annotation_file, split.image_dir, faults=[])
        wanted = _TILES * 2 // 3 if name == "train" else _TILES // 3
        for index in random.Random(seed).sample(range(len(dataset)), len(dataset)):
            if wanted == 0:
                break
            try:
                tiles.append(_tile(dataset, index, name))
            except DataError:
                continue  # told in the report
            wanted -= 1
    if not tiles:
        return None
    with replacing(path) as file:
        _contact_sheet(tiles).save(file, format="PNG")
    return path


def _tile(dataset: CocoDataset, index: int, split: str) -> Image.Image:
    """One image with its annotations, at most as large as a tile of the sheet, and a caption below."""
    from PIL import Image, ImageDraw, ImageFont

    from protomask.reports.overlays import draw_truth, load_picture

    picture = load_picture(dataset, index, _TILE_SIDE)
    picture, target = draw_truth(dataset, index, picture, color_by="instance")
    picture.thumbnail((_TILE_SIDE, _TILE_SIDE))
    tile = Image.new("RGB", (_TILE_SIDE, _TILE_SIDE + _CAPTION), "white")
    tile.paste(picture, ((_TILE_SIDE - picture.width) // 2, _TILE_SIDE - picture.height))
    crowds = int(target.is_crowd.sum())
    counts = {"object": len(target) - crowds, "crowd": crowds}
    counted = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items() if count)
    caption = f"{split} {dataset.image_path(index).name}: {counted or 'no object'}"
    place = (_TILE_SIDE // 2, _TILE_SIDE + _CAPTION // 2)
    ImageDraw.Draw(tile).text(place, caption, fill="black", font=ImageFont.load_default(13), anchor="mm")
    return tile


def _contact_sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    from PIL import Image

    gap, (width, height) = 8, tiles[0].size
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet
