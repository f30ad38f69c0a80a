from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from coco_folders import write_coco
from protomask.data.doctor.check import check_dataset
from protomask.reports.sheets import write_sheet

LONG = "000012_facade_of_a_house_with_many_windows_jpg.rf.0a1b2c3d4e5f60718293a4b5c6d7e8f9.png"


def sheet_of(folder: Path, name: str, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """The sheet of a data set with this image in each split; captions are added to the texts."""
    mask = np.zeros((30, 40), dtype=np.bool_)
    mask[5:20, 5:20] = True
    for split in ("train", "val"):
        write_coco(folder, {name: [("cell", mask), ("dog", mask), ("cell*", mask)]}, split=split)
    write = ImageDraw.ImageDraw.text

    def record(self: ImageDraw.ImageDraw, place: tuple[float, float], text: str, **options: object) -> None:
        texts.append(text)
        write(self, place, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    path = write_sheet(check_dataset(folder), folder / "sheet.png")
    assert path is not None
    with Image.open(path) as sheet:
        return sheet.convert("L")


@pytest.mark.parametrize("name", ["a.png", LONG])
def test_captions_fit_their_tiles(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    sheet = np.array(sheet_of(tmp_path, name, texts, monkeypatch))
    captions = [text for text in texts if text.startswith(("train ", "val "))]
    assert [text.split()[0] for text in captions] == ["train", "val"]
    assert all(text.endswith(": 2 objects, 1 crowd") for text in captions)
    assert all((name in text) == (name != LONG) for text in captions)
    strip = sheet[-25:-10]  # below the tiles, between the outer gaps
    dark = np.flatnonzero((strip < 128).any(axis=0))
    assert dark.min() >= 8
    assert dark.max() < sheet.shape[1] - 8
    assert not set(range(368, 376)) & set(dark.tolist())  # the gap between the two


def test_a_data_set_without_images_has_no_sheet(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, {}, split=split)
        (tmp_path / "images" / split).mkdir(parents=True)
    assert write_sheet(check_dataset(tmp_path), tmp_path / "sheet.png") is None
    assert not (tmp_path / "sheet.png").exists()
