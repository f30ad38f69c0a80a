"""The function file for CVAT in the documentation."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import protomask
from protomask.masks.outlines import outline_runs
from protomask.masks.runs import runs_area

pytest.importorskip("cvat_sdk.auto_annotation")

FILE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "cvat_function.py"
SCENE = Path(str(files("protomask"))) / "samples" / "scene_1.jpg"


@pytest.fixture(scope="module")
def module() -> Any:
    spec = importlib.util.spec_from_file_location("cvat_function", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def context(conf_threshold: float | None = None, conv_mask_to_poly: bool = False) -> Any:
    return SimpleNamespace(conf_threshold=conf_threshold, conv_mask_to_poly=conv_mask_to_poly, frame_name="a.jpg")


def test_labels_are_the_classes_of_the_model(module: Any) -> None:
    labels = module.create(model="yolact_nano").spec.labels
    assert [(label.id, label.name) for label in labels] == list(enumerate(protomask.load("yolact_nano").class_names))


def test_masks_are_those_of_the_model(module: Any) -> None:
    from cvat_sdk.masks import decode_mask

    image = Image.open(SCENE)
    found = protomask.load("yolact_nano").predict(image, score_threshold=0.5)
    shapes = module.create(model="yolact_nano").detect(context(0.5), image)
    assert len(shapes) == len(found) > 0
    for shape, one in zip(shapes, found, strict=True):
        assert (shape.type.value, shape.label_id, shape.frame) == ("mask", one.label, 0)
        assert (decode_mask(shape.points, image_width=image.width, image_height=image.height) == one.mask).all()


@pytest.mark.parametrize(("shape", "converts"), [("polygon", False), ("mask", True)])
def test_polygons_are_close_to_the_masks(module: Any, shape: str, converts: bool) -> None:
    image = Image.open(SCENE)
    found = protomask.load("yolact_nano").predict(image)
    shapes = module.create(model="yolact_nano", shape=shape).detect(context(conv_mask_to_poly=converts), image)
    assert len(shapes) == len(found)
    for one, drawn in zip(found, shapes, strict=True):
        area = runs_area(outline_runs([drawn.points], (image.height, image.width)))
        assert np.isclose(area, one.area, rtol=0.1, atol=20)
        assert len(drawn.points) < 2 * one.perimeter


def test_another_shape_is_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="expected mask or polygon, got 'box'"):
        module.create(shape="box")
