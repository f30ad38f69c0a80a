from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from protomask.cli import export as verb
from protomask.errors import ConfigError
from protomask.exporting.formats import FORMATS, check_format, find_format
from protomask.exporting.goldens import golden_image
from protomask.exporting.job import WriteJob
from protomask.images.decode import Pixels
from protomask.models.naming import EXPORTED_SUFFIXES
from protomask.runtimes.formats import SUFFIXES
from protomask.runtimes.info import AnyInput, FixedInput


def test_every_format_is_known_everywhere() -> None:
    assert list(FORMATS) == list(SUFFIXES)
    assert {Path(f"a{one.suffix}").suffix for one in FORMATS.values()} == set(EXPORTED_SUFFIXES)
    assert get_args(get_type_hints(verb.run)["format"]) == (*FORMATS, "web")
    assert verb.run.__doc__ is not None
    for name in FORMATS:
        assert name in verb.run.__doc__


@pytest.mark.parametrize("name", FORMATS)
def test_every_writer_takes_the_same(name: str) -> None:
    assert list(inspect.signature(FORMATS[name].write).parameters) == ["job"]
    assert [field.name for field in fields(WriteJob)] == [
        "graph", "info", "path", "example", "output_names", "part_names", "probe", "calibration", "record",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "name", "found"),
    [
        ("a.onnx", None, "onnx"),
        ("a.xml", None, "openvino"),
        ("a.pt2", None, "pt2"),
        ("a.pt2", "pt2", "pt2"),
        ("a.pt2", "aotinductor", "aotinductor"),
        ("a.ncnn.param", None, "ncnn"),
    ],
)
def test_formats_are_found_by_ending_or_name(file: str, name: str | None, found: str) -> None:
    assert find_format(Path(file), name).name == found


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("a.engine", None, r"output: expected a file name ending in \.onnx or \.xml or \.pt2.*, got a\.engine"),
        ("a.onnx", "pt2", r"output: expected a file name ending in \.pt2 for pt2, got a\.onnx"),
        ("a.param", "ncnn", r"output: expected a file name ending in \.ncnn\.param for ncnn, got a\.param"),
        ("a.onnx", "tensorrt", "format: expected one of onnx, openvino, pt2, .*, got 'tensorrt'"),
    ],
)
def test_other_formats_are_refused(file: str, name: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_format(Path(file), name)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("onnx", {"precision": "float16"}, "precision: expected float32, or an .onnx file in the form candidates"),
        ("pt2", {"precision": "float16", "form": "candidates"}, "precision: expected float32"),
        ("pt2", {"int8": True}, "int8: expected the format onnx or openvino, got pt2"),
        ("onnx", {"int8": True, "dynamic_batch": True}, "dynamic_batch: expected none in 8 bits"),
        ("ncnn", {"form": "detections"}, "form: expected candidates for ncnn, got detections"),
    ],
)
def test_files_that_a_format_has_not_are_refused(name: str, asked: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"precision": "float32", "int8": False, "dynamic_batch": False}
    settings["form"] = FORMATS[name].forms[0]
    check_format(FORMATS[name], **settings)
    with pytest.raises(ConfigError, match=message):
        check_format(FORMATS[name], **{**settings, **asked})


def test_a_shipped_scene_is_stored_unless_another_image_is_given() -> None:
    class Info:
        def __init__(self, rule: Any, size: tuple[int, int] | None) -> None:
            self.input, self.given_size, self.class_names = rule, size, ("disk",)

    fixed: Any = Info(FixedInput(size=(64, 80), method="pillow"), (64, 80))
    scene = golden_image(fixed, None)
    assert scene.shape == (64, 80, 3)
    assert 16 < len(np.unique(scene.reshape(-1, 3), axis=0)) <= 64
    free: Any = Info(AnyInput(), None)
    assert golden_image(free, None).shape == (240, 320, 3)
    own: Pixels = np.zeros((7, 9, 3), dtype=np.uint8)
    assert golden_image(free, own) is own
    assert golden_image(fixed, own).shape == (64, 80, 3)
