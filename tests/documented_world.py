"""The files that the Python blocks of the documentation speak of, small, and stand-ins for what they would download."""

from __future__ import annotations

import json
import shutil
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import protomask
from protomask.cli.main import main

NAMES = ("cat", "dog", "person")
"""Classes of ``mydata``: the synthetic shapes, under names that the documentation uses."""
DOWNLOADED = frozenset({
    "yolact_resnet50", "ms_rcnn_resnet50_fpn", "ms_rcnn_r101_caffe_fpn_1x_coco", "model_final.pkl",
    "model_final_f10217.pkl", "yolact_base_54_800000.pth", "mine.pth", "yolact_r50_1x8_coco_20200908-f38d58df.pth",
    "fcis_coco-0000.params", "mine-0008.params",
})  # fmt: skip
"""Published files: ``runs/mine`` takes their place."""
SMALL_RUN = {
    "iterations": 2, "image_size": 128, "batch_size": 2, "num_workers": 0, "check_data": False,
}  # fmt: skip


def run(*arguments: str) -> None:
    """One command, which must succeed."""
    assert main(list(arguments)) == 0, arguments


def make_world(folder: Path) -> None:
    """Everything that more than one page needs; the current folder is already this one."""
    scenes = [folder / f"scene_{number}.jpg" for number in (1, 2)]
    for scene in scenes:
        shutil.copy(str(files("protomask") / "samples" / scene.name), scene)
    for name in ("street.jpg", "photo.jpg", "a.jpg", "b.jpg", "images/17.jpg", "images/18.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(scenes[len(name) % 2], folder / name)
    shutil.copy(str(files("protomask") / "samples" / "photo_1.jpg"), folder / "photo.jpg")  # for the default model
    for name in ("photos", "frames"):
        shutil.copytree(folder, folder / name, ignore=lambda _, names: [n for n in names if not n.startswith("scene")])
    size = ("--height", "128", "--width", "128", "--seed", "7")
    run("data", "synth", "shapes", "--images", "4", "--val-images", "8", *size)
    run("data", "synth", "clips", "--video", "--videos", "1", "--frames", "4", *size)
    run("data", "convert", "shapes", "labelled", "--to", "labelme")
    _rename_classes(folder / "shapes", folder / "mydata")
    for run_name in ("mine", "a", "b"):
        protomask.train(data="mydata", model="yolact_nano", weights="yolact_nano", output=f"runs/{run_name}",
                        **SMALL_RUN)  # type: ignore[arg-type]  # fmt: skip
    shutil.copy("runs/mine/best.safetensors", "best.safetensors")
    for name in ("mine.onnx", "mine.xml"):
        run("export", "best.safetensors", "--format", "onnx" if name.endswith("onnx") else "openvino", "--output", name)
    shutil.copy("mine.onnx", "nano.onnx")
    shutil.copy("mine.onnx", "yolact_nano.onnx")
    few = ("--num-workers", "0", "--max-detections", "20")
    run("eval", "--data", "mydata", "--model", "mine.onnx", "--save-results", "results.json", *few)
    run("bulk", "photos", "--output", "found", "--workers", "1")
    run("eval", "--data", "clips", "--model", "yolact_nano", "--save-results", "tracks.json")


def _rename_classes(source: Path, folder: Path) -> None:
    """A copy with three classes, a test split, and the annotations that the pages call annotations.json."""
    shutil.copytree(source, folder)
    for split in ("train", "val"):
        file = folder / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        for one in content["annotations"]:
            one["category_id"] = one["category_id"] % len(NAMES) + 1
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
        file.write_text(json.dumps(content))
    shutil.copy(folder / "annotations" / "val.json", folder / "annotations" / "test.json")
    shutil.copytree(folder / "images" / "val", folder / "images" / "test")
    content = json.loads((folder / "annotations" / "val.json").read_text())
    for entry, image_id in zip(content["images"], range(17, 25), strict=True):
        for one in content["annotations"]:
            one["image_id"] = image_id if one["image_id"] == entry["id"] else one["image_id"]
        entry["id"] = image_id
    (folder / "annotations" / "val.json").write_text(json.dumps(content))
    (folder.parent / "annotations.json").write_text(json.dumps(content))


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let published files be the small run, trainings be short, and nothing open a window."""
    from protomask.structures.instances import Instances

    load, train = protomask.load, protomask.train

    def load_small(source: Any = None, **options: Any) -> Any:
        if source in DOWNLOADED:
            return load("runs/mine")
        return load(source, **options)

    def train_small(data: str, *, epochs: Any = None, **settings: Any) -> Any:
        if settings.get("resume"):
            shutil.rmtree("resumed", ignore_errors=True)
            shutil.copytree("runs/mine", "resumed")
            return train(data, **{**settings, "iterations": "+1", "recipe": "resumed/config.yaml", "output": "resumed"})
        shutil.rmtree("trained", ignore_errors=True)
        return train(data=data, **{**settings, **SMALL_RUN, "weights": "yolact_nano", "output": "trained"})

    monkeypatch.setattr(protomask, "load", load_small, raising=False)
    monkeypatch.setattr(protomask, "train", train_small, raising=False)
    monkeypatch.setattr(Instances, "show", partial(_not_shown))


def _not_shown(*_: Any, **__: Any) -> None:
    return None
