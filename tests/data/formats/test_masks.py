from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_folders import BLOB, RING, read_coco, write_coco
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError

SHAPE = BLOB.shape
MIXED = np.where(RING, 300, 0) + np.where(BLOB, 7, 0)


def save(pixels: np.ndarray | None, path: Path) -> None:
    """A mask, or without pixels a photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", SHAPE[::-1]) if pixels is None else Image.fromarray(pixels)
    image.save(path)


def convert(folder: Path, **options: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    done = convert_dataset(folder, folder.parent / "out", output_format="coco", **options)
    return read_coco(folder.parent / "out"), done.remarks


@pytest.mark.parametrize(
    "ring",
    [RING, RING.astype(np.uint8), RING.astype(np.uint8) * 255, np.repeat(RING[..., None] * np.uint8(200), 3, axis=2)],
    ids=["1 bit", "0 and 1", "0 and 255", "RGB"],
)
def test_a_folder_per_image_with_a_png_per_object(tmp_path: Path, ring: np.ndarray) -> None:
    place = tmp_path / "nuclei" / "abc"
    save(None, place / "images" / "abc.png")
    save(ring, place / "masks" / "first.png")
    save(np.where(BLOB, 255, 60).astype(np.uint8), place / "masks" / "second.png")
    save(np.zeros(SHAPE, dtype=np.uint8), place / "masks" / "third.png")
    found, remarks = convert(tmp_path / "nuclei", class_names=["nucleus"])
    assert found == {"abc.png": sorted(("nucleus", False, mask.tobytes()) for mask in (RING, BLOB))}
    assert [remark.split(" (")[0] for remark in remarks] == ["1 masks without a pixel left out"]


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_a_label_map_per_image(tmp_path: Path, kind: str, ending: str) -> None:
    save(None, tmp_path / "cells" / "images" / "a.jpg")
    save(None, tmp_path / "cells" / "images" / "not_labelled.jpg")
    save(MIXED.astype(np.uint16), tmp_path / "cells" / "masks" / f"a{ending}.{kind}")
    found, remarks = convert(tmp_path / "cells")
    assert found == {"a.jpg": sorted(("object", False, mask.tobytes()) for mask in (RING, BLOB))}
    assert remarks[0].startswith("1 images without a label map left out")
    assert remarks[1].startswith("1 data set without class names: its one class is called 'object'")


def test_a_foreground_mask_is_told(tmp_path: Path) -> None:
    save(None, tmp_path / "cells" / "images" / "a.jpg")
    save(BLOB.astype(np.uint8) * 255, tmp_path / "cells" / "masks" / "a.png")
    _, remarks = convert(tmp_path / "cells", class_names=["cell"])
    assert "whose one number is 255" in remarks[0]


def test_class_folders_are_classes(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    save(None, folder / "train" / "images" / "a.jpg")
    save(RING.astype(np.uint8), folder / "train" / "masks" / "b cell" / "a.png")
    save(BLOB.astype(np.uint8), folder / "train" / "masks" / "a cell" / "a.png")
    assert convert(folder)[0] == {"a.jpg": [("a cell", False, BLOB.tobytes()), ("b cell", False, RING.tobytes())]}
    save(BLOB.astype(np.uint8), folder / "train" / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a\.png: expected it in a folder of its class"):
        convert_dataset(folder, tmp_path / "other", output_format="coco")


def test_layouts_that_are_written(tmp_path: Path) -> None:
    many = [("cell", BLOB)] * 300
    source = write_coco(tmp_path / "coco", {"a.jpg": [("cell", RING), *many], "b.jpg": []}, class_names=["cell"])
    convert_dataset(source, tmp_path / "masks", output_format="masks")
    assert len(list((tmp_path / "masks" / "train" / "a" / "masks").glob("*.png"))) == 301
    assert list((tmp_path / "masks" / "train" / "b" / "masks").iterdir()) == []
    convert_dataset(source, tmp_path / "maps", output_format="label-maps")
    with Image.open(tmp_path / "maps" / "masks" / "train" / "a.png") as image:
        assert image.mode == "I;16"
    with Image.open(tmp_path / "maps" / "masks" / "train" / "b.png") as image:
        assert image.mode == "L"
    assert (tmp_path / "maps" / "classes.txt").read_text() == "cell\n"


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b"])
def test_class_names_that_are_no_folders(tmp_path: Path, name: str) -> None:
    source = write_coco(tmp_path / "coco", {"a.jpg": []}, class_names=["cell", name])
    with pytest.raises(DataError, match="cannot be a folder"):
        convert_dataset(source, tmp_path / "masks", output_format="masks")
    assert not (tmp_path / "masks").exists()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    save(None, folder / "images" / "a.jpg")
    save(np.zeros((3, 4), dtype=np.uint8), folder / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a\.png: 4x3 px, its image .*a\.jpg is 12x6 px"):
        convert(folder)
    save(np.zeros((*SHAPE, 3), dtype=np.uint8) + np.array([1, 2, 3], dtype=np.uint8), folder / "masks" / "a.png")
    with pytest.raises(DataError, match=r"masks/a\.png: expected a PNG of numbers"):
        convert(folder)
    save(BLOB.astype(np.uint8), folder / "masks" / "a.png")
    with pytest.raises(DataError, match="2 class names, but masks/ has no folder per class"):
        convert(folder, class_names=["a", "b"])
    save(BLOB.astype(np.uint8), folder / "masks" / "b.png")
    with pytest.raises(DataError, match=r"masks/b\.png: no image b\.\* in .*images \(1 label maps have none\)"):
        convert(folder)
    (folder / "masks" / "b.png").unlink()
    (folder / "masks" / "a.png").unlink()
    save(BLOB.astype(np.uint8), folder / "masks" / "a.jpg")
    with pytest.raises(DataError, match=r"masks/a\.jpg: a JPEG cannot hold a mask"):
        convert(folder)
    with pytest.raises(DataError, match="expected a folder of masks data, got a file"):
        convert(folder / "images" / "a.jpg", source_format="masks")
    (tmp_path / "per image" / "x" / "images").mkdir(parents=True)
    save(BLOB.astype(np.uint8), tmp_path / "per image" / "x" / "masks" / "1.png")
    with pytest.raises(DataError, match="x: expected an image in images/, found none"):
        convert(tmp_path / "per image")
