"""Exports of labelling tools, written from a COCO folder as those tools write them, field by field.

Each function takes a folder as the project has it (``annotations/SPLIT.json``, ``images/SPLIT/``), and makes a folder
as a user would unpack it. They share no code with the readers.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_codec

Mask = NDArray[np.bool_]


class Item(NamedTuple):
    """An image and its objects: name of the class, the COCO annotation and its mask."""

    path: Path
    entry: dict[str, Any]
    objects: list[tuple[str, dict[str, Any], Mask]]

    @property
    def size(self) -> tuple[int, int]:
        return self.entry["height"], self.entry["width"]


def items(coco: Path, split: str) -> tuple[list[str], list[Item]]:
    """Class names and images of a split."""
    content = json.loads((coco / "annotations" / f"{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = []
    for entry in content["images"]:
        size = entry["height"], entry["width"]
        own = [one for one in content["annotations"] if one["image_id"] == entry["id"] and not one.get("iscrowd")]
        objects = [(names[one["category_id"]], one, mask_of(one["segmentation"], size)) for one in own]
        found.append(Item(coco / "images" / split / entry["file_name"], entry, objects))
    return [names[key] for key in sorted(names)], found


def mask_of(segmentation: Any, size: tuple[int, int]) -> Mask:
    if isinstance(segmentation, list):
        code = mask_codec.merge(mask_codec.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        code = mask_codec.frPyObjects(segmentation, *size)
    else:
        code = segmentation
    return np.asarray(mask_codec.decode(code)).astype(bool)


def only_polygon(annotation: dict[str, Any]) -> list[float] | None:
    """The polygon of an object that has only one part."""
    parts = annotation["segmentation"]
    return parts[0] if isinstance(parts, list) and len(parts) == 1 else None


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """Top, left, bottom and right, the last ones excluded."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def png(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


# Roboflow, "COCO Segmentation"


def write_roboflow(coco: Path, output: Path, *, root_name: str = "my-things") -> None:
    """``train/`` and ``valid/`` with ``_annotations.coco.json``, and a category 0 that is the parent of the classes."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        file = coco / "annotations" / f"{split}.json"
        if not file.is_file():
            continue
        content = json.loads(file.read_text())
        (output / folder).mkdir(parents=True)
        new_id = {category["id"]: index for index, category in enumerate(content["categories"], start=1)}
        categories = [{"id": 0, "name": root_name, "supercategory": "none"}] + [
            {"id": new_id[category["id"]], "name": category["name"], "supercategory": root_name}
            for category in content["categories"]
        ]
        renamed = {}
        for index, image in enumerate(content["images"]):
            stem, _, ending = image["file_name"].rpartition(".")
            renamed[image["id"]] = (index, f"{stem}_{ending}.rf.{md5(stem.encode()).hexdigest()}.jpg")
            with Image.open(coco / "images" / split / image["file_name"]) as opened:
                opened.convert("RGB").save(output / folder / renamed[image["id"]][1], format="JPEG")
        images = [
            {"id": renamed[image["id"]][0], "license": 1, "file_name": renamed[image["id"]][1],
             "height": image["height"], "width": image["width"], "date_captured": "2026-11-01T10:00:00+00:00",
             "extra": {"name": image["file_name"]}}
            for image in content["images"]
        ]  # fmt: skip
        annotations = [
            {**one, "id": index, "image_id": renamed[one["image_id"]][0], "category_id": new_id[one["category_id"]]}
            for index, one in enumerate(content["annotations"])
        ]
        info = {"year": "2026", "version": "1", "description": "Exported from roboflow.com", "contributor": "",
                "url": "https://public.roboflow.com/x", "date_created": "2026-11-01"}  # fmt: skip
        licenses = [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}]
        whole = {"info": info, "licenses": licenses, "categories": categories, "images": images}
        (output / folder / "_annotations.coco.json").write_text(json.dumps({**whole, "annotations": annotations}))


# CVAT, "CVAT for images 1.1"


def write_cvat(coco: Path, output: Path, *, split: str = "train") -> None:
    """``annotations.xml`` and ``images/``: polygons of one part, masks of all else."""
    names, found = items(coco, split)
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    job = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "job")
    labels = ElementTree.SubElement(job, "labels")
    for name, kind in (*((name, "any") for name in names), ("blurred", "tag")):
        label = ElementTree.SubElement(labels, "label")
        for key, text in (("name", name), ("color", "#33ddff"), ("type", kind)):
            ElementTree.SubElement(label, key).text = text
        ElementTree.SubElement(label, "attributes")
    for index, item in enumerate(found):
        height, width = item.size
        element = ElementTree.SubElement(
            root, "image", id=str(index), name=item.path.name, width=str(width), height=str(height)
        )
        for z_order, (name, annotation, mask) in enumerate(item.objects):
            common = {"label": name, "source": "manual", "occluded": "0"}
            polygon = only_polygon(annotation)
            if polygon is not None:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in np.reshape(polygon, (-1, 2)))
                shape = ElementTree.SubElement(element, "polygon", {**common, "points": points})
            else:
                top, left, bottom, right = box_of(mask)
                place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
                texts = {key: str(value) for key, value in place.items()}
                rle = cvat_runs(mask[top:bottom, left:right])
                shape = ElementTree.SubElement(element, "mask", {**common, "rle": rle, **texts})
            shape.set("z_order", str(z_order))
    ElementTree.indent(root)
    output.mkdir(parents=True)
    ElementTree.ElementTree(root).write(output / "annotations.xml", encoding="utf-8", xml_declaration=True)
    copy_images(found, output / "images")


def cvat_runs(patch: Mask) -> str:
    """Lengths of runs along the rows, the first of background."""
    flat = np.concatenate([[False], patch.ravel(), [not patch.ravel()[-1]]])
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    return ", ".join(map(str, np.diff(np.concatenate([[0], turns])).tolist()))


def copy_images(found: Sequence[Item], folder: Path, *, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for item in found:
        shutil.copy(item.path, folder / f"{prefix}{item.path.name}")


# VGG Image Annotator 2


def write_via(coco: Path, output: Path, *, split: str = "train", kind: str = "project") -> None:
    """A project, its annotations as JSON, or as CSV; a region for each part of an object, as VIA knows no others."""
    _, found = items(coco, split)
    copy_images(found, output)
    images = {}
    for item in found:
        size = item.path.stat().st_size
        regions = [
            {"shape_attributes": shape, "region_attributes": {"class": name}}
            for name, annotation, _ in item.objects
            for shape in _via_shapes(annotation)
        ]
        images[f"{item.path.name}{size}"] = {
            "filename": item.path.name, "size": size, "regions": regions, "file_attributes": {}
        }  # fmt: skip
    if kind == "csv":
        _write_via_csv(output / "via_export_csv.csv", list(images.values()))
        return
    project = {
        "_via_settings": {"ui": {}, "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
                          "project": {"name": "things"}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": {"class": {"type": "dropdown", "description": "", "options": {}}}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }  # fmt: skip
    content = project if kind == "project" else images
    (output / f"via_{kind}.json").write_text(json.dumps(content))


def _via_shapes(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    parts = annotation["segmentation"]
    return [
        {"name": "polygon", "all_points_x": part[0::2], "all_points_y": part[1::2]}
        for part in (parts if isinstance(parts, list) else ())
    ]


def _write_via_csv(file: Path, images: Sequence[dict[str, Any]]) -> None:
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
               "region_attributes"]  # fmt: skip
    with file.open("w", newline="") as opened:
        opened.write(",".join(columns) + "\n")
        writer = csv.writer(opened, lineterminator="\n")
        for image in images:
            common = [image["filename"], image["size"], "{}", len(image["regions"])]
            for index, region in enumerate(image["regions"]):
                writer.writerow([*common, index, *(json.dumps(part) for part in region.values())])
            if not image["regions"]:
                writer.writerow([*common, 0, "{}", "{}"])


# Label Studio


def write_label_studio(coco: Path, output: Path, *, split: str = "train", is_min: bool = False) -> None:
    """The full JSON or JSON_MIN beside the uploaded images: polygons of one part, brushes for all else."""
    _, found = items(coco, split)
    prefix = "0a1b2c3d-"
    copy_images(found, output, prefix=prefix)
    tasks = []
    for number, item in enumerate(found, start=1):
        image = f"/data/upload/7/{prefix}{item.path.name}"
        results = list(_results(item))
        stamp = "2026-11-01T10:00:00.000000Z"
        if is_min:
            own = [
                {**result["value"], "original_width": result["original_width"],
                 "original_height": result["original_height"]}
                for result in results
            ]  # fmt: skip
            task = {"image": image, "id": number, "label": own, "annotator": 1, "annotation_id": number}
            tasks.append({**task, "created_at": stamp, "updated_at": stamp, "lead_time": 12.5})
        else:
            annotation = {"id": number, "completed_by": 1, "result": results, "was_cancelled": False,
                          "ground_truth": False, "created_at": stamp, "updated_at": stamp, "task": number}  # fmt: skip
            tasks.append({"id": number, "annotations": [annotation], "file_upload": f"{prefix}{item.path.name}",
                          "drafts": [], "predictions": [], "data": {"image": image}, "meta": {}})  # fmt: skip
    (output / "project-7-at-2026-11-01-10-00-0a1b2c3d.json").write_text(json.dumps(tasks))


def _results(item: Item) -> Iterator[dict[str, Any]]:
    height, width = item.size
    for index, (name, annotation, mask) in enumerate(item.objects):
        polygon = only_polygon(annotation)
        if polygon is not None:
            points = (np.reshape(polygon, (-1, 2)) * (100 / width, 100 / height)).tolist()
            kind, value = "polygonlabels", {"points": points, "closed": True, "polygonlabels": [name]}
        else:
            kind, value = "brushlabels", {"format": "rle", "rle": brush_code(mask), "brushlabels": [name]}
        yield {
            "original_width": width, "original_height": height, "image_rotation": 0, "value": value,
            "id": f"region{index:04d}", "from_name": "label", "to_name": "image", "type": kind, "origin": "manual",
        }  # fmt: skip


def brush_code(mask: Mask) -> list[int]:
    """The RGBA bytes of a mask in the run-length code of Label Studio; single words are not repeated."""
    words = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = [f"{len(words):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    starts = np.flatnonzero(np.diff(words, prepend=words[0] ^ 255)).tolist()
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        while start < end:
            length = min(end - start, 1 << 16)
            choice = next(index for index, size in enumerate((3, 4, 8, 16)) if length <= 1 << size)
            size = (3, 4, 8, 16)[choice]
            is_repeated = length > 4  # a pixel alone is written word by word
            bits.append(f"{int(is_repeated)}{choice:02b}{length - 1:0{size}b}")
            bits.append(f"{words[start]:08b}" * (1 if is_repeated else length))
            start += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


# Supervisely


def write_supervisely(coco: Path, output: Path) -> None:
    """A project with a data set for each split: polygons of one part, bitmaps of all else."""
    every: dict[str, None] = {}
    for file in sorted((coco / "annotations").glob("*.json")):
        names, found = items(coco, file.stem)
        every |= dict.fromkeys(names)
        copy_images(found, output / file.stem / "img")
        (output / file.stem / "ann").mkdir()
        for item in found:
            height, width = item.size
            content = {"description": "", "tags": [], "size": {"height": height, "width": width},
                       "objects": [_figure(index, *found) for index, found in enumerate(item.objects)]}  # fmt: skip
            (output / file.stem / "ann" / f"{item.path.name}.json").write_text(json.dumps(content))
    classes = [{"title": name, "shape": "any", "color": "#50E3C2", "geometry_config": {}, "id": index, "hotkey": ""}
               for index, name in enumerate(every)]  # fmt: skip
    (output / "meta.json").write_text(json.dumps({"classes": classes, "tags": [], "projectType": "images"}))


def _figure(index: int, name: str, annotation: dict[str, Any], mask: Mask) -> dict[str, Any]:
    figure: dict[str, Any] = {"id": index, "classId": 1, "labelerLogin": "me", "classTitle": name, "tags": []}
    polygon = only_polygon(annotation)
    if polygon is not None:
        points = {"exterior": np.reshape(polygon, (-1, 2)).tolist(), "interior": []}
        return figure | {"geometryType": "polygon", "points": points}
    top, left, bottom, right = box_of(mask)
    picture = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=0, optimize=0)
    data = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return figure | {"geometryType": "bitmap", "bitmap": {"data": data, "origin": [left, top]}}


# COCO panoptic


def write_panoptic(coco: Path, output: Path, *, split: str = "train") -> None:
    """``annotations/panoptic_train2017.json``, a folder of PNGs beside it, and ``train2017/``; a row of sky on top."""
    names, found = items(coco, split)
    name = f"{split}2017"
    maps = output / "annotations" / f"panoptic_{name}"
    maps.mkdir(parents=True)
    copy_images(found, output / name)
    annotations = []
    for item in found:
        numbers = np.zeros(item.size, dtype=np.int64)
        infos = []
        for index, (class_name, annotation, mask) in enumerate(item.objects, start=1):
            number = 7_001 * index  # up to all three channels
            numbers[mask] = number
            infos.append({"id": number, "category_id": names.index(class_name) + 1, "iscrowd": 0,
                          "bbox": [0, 0, 1, 1], "area": annotation.get("area", 1)})  # fmt: skip
        sky = numbers[0] == 0
        numbers[0][sky] = 9
        infos.append({"id": 9, "category_id": 187, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": int(sky.sum())})
        pixels = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)
        file_name = f"{item.path.stem}.png"
        (maps / file_name).write_bytes(png(pixels))
        annotations.append({"segments_info": infos, "file_name": file_name, "image_id": item.entry["id"]})
    categories = [{"supercategory": "thing", "isthing": 1, "id": index, "name": class_name, "color": [1, 2, 3]}
                  for index, class_name in enumerate(names, start=1)]  # fmt: skip
    categories.append({"supercategory": "sky", "isthing": 0, "id": 187, "name": "sky-other-merged", "color": [7, 8, 9]})
    content = {"images": [item.entry for item in found], "annotations": annotations, "categories": categories}
    (output / "annotations" / f"panoptic_{name}.json").write_text(json.dumps(content))
