"""A small sound data set, and many ways to damage it: what each must be told as."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_codec

HEIGHT, WIDTH = 48, 64
CLASS_IDS = {"bolt": 3, "nut": 5, "pin": 9}
Content = dict[str, Any]


def rectangle(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rle(mask: np.ndarray) -> dict[str, Any]:
    code = mask_codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def block(*boxes: tuple[int, int, int, int], hole: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """(HEIGHT, WIDTH) mask of boxes x, y, w, h."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = True
    if hole is not None:
        x, y, w, h = hole
        mask[y : y + h, x : x + w] = False
    return mask


def write_sound_dataset(folder: Path, *, seed: int = 3) -> Path:
    """6 and 4 images, each with an object of every class: polygons, and one run-length code."""
    generator = np.random.default_rng(seed)
    for split, count in (("train", 6), ("val", 4)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "annotations").mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
            coarse.resize((WIDTH, HEIGHT)).save(folder / "images" / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
            for place, category_id in enumerate(CLASS_IDS.values()):
                box = (2 + 20 * place, 4 + number, 16, 20)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category_id,
                        "segmentation": rle(block(box)) if place == 2 else rectangle(*box),
                        "bbox": list(box),
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": category_id, "name": name} for name, category_id in CLASS_IDS.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


@contextmanager
def edited(folder: Path, split: str = "train") -> Iterator[Content]:
    file = folder / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    yield content
    file.write_text(json.dumps(content))


class Damage(NamedTuple):
    """How it is done, and the only problem that is to be told."""

    do: Callable[[Path], object]
    severity: str
    kind: str
    says: str


def _change(where: str, position: int, split: str = "train", **values: Any) -> Callable[[Path], None]:
    """Set values of one entry; ``...`` removes a key."""

    def do(folder: Path) -> None:
        with edited(folder, split) as content:
            entry = content[where][position]
            for key, value in values.items():
                if value is ...:
                    del entry[key]
                else:
                    entry[key] = value

    return do


def _replace(key: str, value: Any) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with edited(folder) as content:
            content[key] = value

    return do


def _append(where: str, position: int, split: str = "train", **values: Any) -> Callable[[Path], None]:
    """One more entry, like another but for some values."""

    def do(folder: Path) -> None:
        with edited(folder, split) as content:
            content[where].append(content[where][position] | values)

    return do


def _text(text: str | bytes) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        file = folder / "annotations" / "train.json"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    return do


def _image(content: bytes | None, split: str = "train") -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        file = folder / "images" / split / "2.png"
        file.unlink() if content is None else file.write_bytes(content)

    return do


def _cut(relative: str, share: float) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        content = (folder / relative).read_bytes()
        (folder / relative).write_bytes(content[: int(len(content) * share)])

    return do


def _link_to_nothing(folder: Path) -> None:
    (folder / "images" / "train" / "2.png").unlink()
    (folder / "images" / "train" / "2.png").symlink_to(folder / "nowhere.png")


def _resized(size: tuple[int, int]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        file = folder / "images" / "train" / "2.png"
        Image.open(file).resize(size).save(file)

    return do


def _copied(source: str, target: str, *, quality: int | None = None) -> Callable[[Path], None]:
    """One picture in the place of another, recompressed if a quality is given."""

    def do(folder: Path) -> None:
        source_file, target_file = folder / "images" / source, folder / "images" / target
        if quality is None:
            target_file.write_bytes(source_file.read_bytes())
        else:
            Image.open(source_file).save(target_file, format="JPEG", quality=quality)

    return do


def _without_class(split: str, name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with edited(folder, split) as content:
            kept = [entry for entry in content["annotations"] if entry["category_id"] != CLASS_IDS[name]]
            content["annotations"] = kept

    return do


def _in_both(do: Callable[[Path, str], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        for split in ("train", "val"):
            do(folder, split)

    return both


def _alike(folder: Path, split: str) -> None:
    with edited(folder, split) as content:
        content["categories"][1]["name"] = "Bolt "


def _two_of_one_name(folder: Path) -> None:
    _append("categories", 1, id=6)(folder)
    _change("annotations", 1, category_id=6)(folder)


def _other_ids(folder: Path) -> None:
    with edited(folder, "val") as content:
        for entry in content["categories"]:
            entry["id"] += 100
        for entry in content["annotations"]:
            entry["category_id"] += 100


def _no_objects_in(folder: Path) -> None:
    with edited(folder) as content:
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 2]


def _append_raw(where: str, value: Any) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with edited(folder) as content:
            content[where].append(value)

    return do


def _bomb() -> bytes:
    """A picture that would take gigabytes: nothing but the head of it."""
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = b"IDAT"
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


_BOX = (2, 5, 16, 20)  # of annotation 1
_WHOLE = np.ones((HEIGHT, WIDTH), dtype=bool)
_LARGER = rle(np.pad(block((42, 5, 16, 20)), ((0, HEIGHT), (0, WIDTH))))

DAMAGES: dict[str, Damage] = {
    # files
    "no annotation file": Damage(
        lambda folder: (folder / "annotations" / "train.json").unlink(),
        "error",
        "dataset",
        "train_annotations is missing",
    ),
    "no image folder": Damage(
        lambda folder: (folder / "images" / "val").rename(folder / "elsewhere"),
        "error",
        "dataset",
        "val_images is missing",
    ),
    "empty JSON": Damage(_text(""), "error", "annotation file", "line 1 column 1: not valid JSON"),
    "JSON cut off": Damage(_cut("annotations/train.json", 0.5), "error", "annotation file", "not valid JSON"),
    "not UTF-8": Damage(_text(b'{"images": "\xff\xfe"}'), "error", "annotation file", "not valid JSON"),
    "endless nesting": Damage(_text("[" * 100_000), "error", "annotation file", "not valid JSON"),
    "list": Damage(_text("[]"), "error", "annotation file", "expected an object with images, annotations"),
    "missing list": Damage(
        _text('{"images": [], "annotations": []}'), "error", "annotation file", "key 'categories' is"
    ),
    "no list": Damage(_replace("images", {}), "error", "annotation file", "expected 'images' to be a list, got dict"),
    # images
    "image no object": Damage(_append_raw("images", "7.png"), "error", "entry", "expected images[6] to be an object"),
    "image key": Damage(_change("images", 1, width=...), "error", "image key", "(image 2): key 'width' is missing"),
    "image id text": Damage(_change("images", 1, id="2"), "error", "image id", "integer image id, got '2'"),
    "image id twice": Damage(
        _append("images", 1), "error", "image id twice", "images[6] (image 2): the image id occurs"
    ),
    "file_name": Damage(_change("images", 1, file_name=7), "error", "file_name", "expected a file_name, got 7"),
    "width 0": Damage(
        _change("images", 1, width=0), "error", "image size", "expected a positive width and height, got 0"
    ),
    "image file missing": Damage(_image(None), "error", "missing files", "1 of 6 image files are missing in"),
    "image file empty": Damage(_image(b""), "error", "unreadable image", "image 2 (2.png): the file is empty"),
    "image file is text": Damage(
        _image(b"<html>"), "error", "unreadable image", "image 2 (2.png): the file is not a readable image"
    ),
    "image file cut off": Damage(_cut("images/train/2.png", 0.5), "error", "unreadable image", "image cannot be read"),
    "image file is a bomb": Damage(_image(_bomb()), "error", "unreadable image", "decompression bomb"),
    "image file in val": Damage(_image(b"", "val"), "error", "unreadable image", "image 2 (2.png): the file is empty"),
    "link to nothing": Damage(_link_to_nothing, "error", "unreadable image", "the file is a link to nothing"),
    "no images": Damage(
        lambda folder: (_replace("images", [])(folder), _replace("annotations", [])(folder)),
        "error",
        "no image",
        "it lists no image, so there is nothing to learn",
    ),
    "image smaller": Damage(_resized((32, 24)), "warning", "image of another size", "is 32x24 px, the JSON says 64x48"),
    "image turned": Damage(_resized((48, 64)), "warning", "image of another shape", "is 48x64 px, the JSON says 64x48"),
    "file named twice": Damage(
        lambda folder: (_append("images", 1, id=70)(folder), _append("annotations", 1, id=70, image_id=70)(folder)),
        "warning",
        "file named twice",
        "image 70 (2.png): names the same file as image 2",
    ),
    "image twice": Damage(
        _copied("train/2.png", "train/4.png"), "note", "image twice", "image 4 (4.png): the same image"
    ),
    "image in both splits": Damage(
        _copied("train/2.png", "val/4.png"),
        "warning",
        "image in both splits",
        "train image 2 (2.png) and val image 4 (4.png)",
    ),
    "recompressed in both splits": Damage(
        _copied("train/2.png", "val/4.png", quality=80),
        "warning",
        "similar images in both splits",
        "train image 2 (2.png) and val image 4 (4.png)",
    ),
    "image without objects": Damage(
        _no_objects_in, "note", "image without objects", "image 2 (2.png): no object in it"
    ),
    "file without entry": Damage(
        lambda folder: (folder / "images" / "val" / "new.JPG").touch(),
        "note",
        "file without entry",
        "new.JPG: no entry names this file",
    ),
    # categories
    "category without name": Damage(
        _change("categories", 1, name=...), "error", "category", "categories[1]: expected an"
    ),
    "category id text": Damage(
        _change("categories", 1, id="5"), "error", "category", "categories[1]: expected an integer"
    ),
    "category id twice": Damage(
        _append("categories", 1, name="nail"), "error", "category id twice", "id 5 occurs twice"
    ),
    "category name twice": Damage(
        _two_of_one_name,
        "error",
        "category name twice",
        "more than once: nut",
    ),
    "category of the same name without objects": Damage(
        _append("categories", 1, id=6),
        "note",
        "category without objects",
        "category 6 (nut) has the same name as another one and no object, left out",
    ),
    "class names differ": Damage(
        _change("categories", 1, "val", name="Nut"), "error", "class names", "only in train: 'nut'; only in val: 'Nut'"
    ),
    "classes spelled alike": Damage(_in_both(_alike), "warning", "classes spelled alike", "classes 'bolt' and 'Bolt '"),
    "class only in val": Damage(
        _without_class("train", "nut"), "warning", "class only in val", "class nut: no object in"
    ),
    "class only in train": Damage(
        _without_class("val", "nut"), "warning", "class only in train", "class nut: no object in"
    ),
    "class without objects": Damage(
        _in_both(lambda folder, split: _append("categories", 1, split, id=11, name="nail")(folder)),
        "note",
        "class without objects",
        "class nail: no object in either split",
    ),
    "other ids": Damage(_other_ids, "note", "category ids differ", "number the classes differently"),
    # annotations
    "annotation no object": Damage(_append_raw("annotations", 3), "error", "entry", "expected annotations[18] to be"),
    "annotation key": Damage(
        _change("annotations", 0, category_id=...),
        "error",
        "annotation key",
        "annotations[0] (image 1 annotation 1): key 'category_id' is missing",
    ),
    "annotation id text": Damage(_change("annotations", 0, id="a"), "error", "annotation id", "annotation id, got 'a'"),
    "annotation id twice": Damage(
        _change("annotations", 3, id=1),
        "error",
        "annotation id twice",
        "image 2 annotation 1: the annotation id occurs twice",
    ),
    "unknown image": Damage(_change("annotations", 0, image_id=99), "error", "unknown image", "no image has the id 99"),
    "image id null": Damage(
        _change("annotations", 0, image_id=None), "error", "unknown image", "no image has the id None"
    ),
    "unknown category": Damage(
        _change("annotations", 0, category_id=0),
        "error",
        "unknown category",
        "image 1 annotation 1: unknown category_id 0",
    ),
    "bbox of three": Damage(_change("annotations", 0, bbox=[1, 2, 3]), "error", "bbox", "a bbox of four numbers"),
    "bbox of texts": Damage(
        _change("annotations", 0, bbox=["1", "2", "3", "4"]), "error", "bbox", "a bbox of four numbers"
    ),
    "iscrowd text": Damage(
        _change("annotations", 0, iscrowd="0"), "error", "iscrowd", "expected iscrowd 0 or 1, got '0'"
    ),
    "segmentation number": Damage(
        _change("annotations", 0, segmentation=7), "error", "RLE", "segmentation of polygons or"
    ),
    "polygon not nested": Damage(
        _change("annotations", 0, segmentation=rectangle(*_BOX)[0]), "error", "polygons", "expected polygons as lists"
    ),
    "RLE size": Damage(
        _change("annotations", 2, segmentation={"size": [48], "counts": "0"}),
        "error",
        "RLE size",
        "image 1 annotation 3: expected an RLE size",
    ),
    "RLE counts": Damage(
        _change("annotations", 2, segmentation={"size": [48, 64], "counts": [5, 6]}),
        "error",
        "RLE counts",
        "expected RLE counts that sum to 48 x 64 = 3072",
    ),
    "RLE counts missing": Damage(
        _change("annotations", 2, segmentation={"size": [48, 64], "counts": None}),
        "error",
        "RLE counts",
        "expected RLE counts as a list or a string",
    ),
    "RLE foreign": Damage(
        _change("annotations", 2, segmentation={"size": [48, 64], "counts": "ÿ"}),
        "error",
        "segmentation",
        "image 1 annotation 3: segmentation cannot be decoded",
    ),
    "RLE cut off": Damage(
        _change("annotations", 2, segmentation={"size": [48, 64], "counts": "0P"}),
        "error",
        "segmentation",
        "image 1 annotation 3: segmentation cannot be decoded",
    ),
    "no annotations": Damage(_replace("annotations", []), "error", "no object", "no object in any image, so there is"),
    "RLE of another size": Damage(
        _change("annotations", 2, segmentation=_LARGER, bbox=...),
        "warning",
        "the RLE is # px, the JSON says #",
        "image 1 annotation 3: the RLE is 128x96 px",
    ),
    "no segmentation": Damage(
        _change("annotations", 0, segmentation=[]),
        "warning",
        "no segmentation, dropped",
        "image 1 annotation 1: no segmentation, dropped",
    ),
    "two points": Damage(
        _change("annotations", 0, segmentation=[[1, 2, 3, 4]]),
        "warning",
        "polygon of # numbers (expected at least # points), dropped",
        "polygon of 4 numbers",
    ),
    "no area": Damage(
        _change("annotations", 0, segmentation=[[5, 5, 5, 5, 5, 5]]),
        "warning",
        "empty mask, dropped",
        "image 1 annotation 1: empty mask, dropped",
    ),
    "object outside": Damage(
        _change("annotations", 0, segmentation=rectangle(90, 5, 10, 10), bbox=[90, 5, 10, 10]),
        "warning",
        "empty mask, dropped",
        "image 1 annotation 1: empty mask, dropped",
    ),
    "not finite": Damage(
        _change("annotations", 0, segmentation=[[5, 5, float("nan"), 5, 5, 9]]),
        "warning",
        "coordinates are not finite or absurdly large, dropped",
        "coordinates are not finite",
    ),
    "outline outside": Damage(
        _change("annotations", 0, segmentation=rectangle(-6, 5, 24, 20), bbox=[0, 5, 18, 20]),
        "warning",
        "outline outside the image",
        "reaches outside the image of 64x48 px",
    ),
    "bbox without area": Damage(
        _change("annotations", 0, bbox=[2, 5, 0, 20]),
        "warning",
        "bbox # has no area, taken from the mask",
        "has no area, taken from the mask",
    ),
    "bbox elsewhere": Damage(
        _change("annotations", 0, bbox=[40, 20, 16, 20]),
        "warning",
        "bbox # disagrees with the mask, taken from the mask",
        "disagrees with the mask",
    ),
    "bbox outside": Damage(
        _change("annotations", 0, bbox=[-4, 5, 22, 20]),
        "warning",
        "bbox # reaches outside the image, clipped",
        "reaches outside the image, clipped",
    ),
    "object twice": Damage(
        _append("annotations", 0, id=70),
        "warning",
        "object twice",
        "image 1 annotations 1 and 70: the same object twice",
    ),
    "two classes": Damage(
        _append("annotations", 0, id=70, category_id=5),
        "warning",
        "object of two classes",
        "image 1 annotations 1 and 70: the same mask with two classes, bolt and nut",
    ),
    "crowd": Damage(_change("annotations", 0, iscrowd=1), "note", "crowd", "image 1 annotation 1: crowd region"),
    "parts": Damage(
        _change("annotations", 2, segmentation=rle(block((42, 5, 6, 20), (52, 5, 6, 20)))),
        "note",
        "parts",
        "image 1 annotation 3: mask of several separate parts",
    ),
    "holes": Damage(
        _change("annotations", 2, segmentation=rle(block((42, 5, 16, 20), hole=(46, 9, 4, 4)))),
        "note",
        "holes",
        "image 1 annotation 3: mask with holes",
    ),
    "whole image": Damage(
        _change("annotations", 2, segmentation=rle(_WHOLE), bbox=[0, 0, WIDTH, HEIGHT]),
        "note",
        "whole image",
        "image 1 annotation 3: the mask covers the whole image",
    ),
}
