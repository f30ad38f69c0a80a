from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protomask.detection.options import NMS_MODES
from protomask.detection.prototypes import PrototypeRule
from protomask.errors import CheckpointError, ConfigError
from protomask.images.resize import resize_bilinear, resize_opencv, resize_pillow
from protomask.runtimes.info import MAX_SIDE, AnyInput, ExportInfo, FixedInput, InputRule, ShortSideInput, Thresholds
from protomask.settings import Settings

THRESHOLDS = Thresholds(nms="fast", iou_threshold=0.5, candidate_threshold=0.05, max_detections=100)
RULE = PrototypeRule(candidates_per_level=1000, anchors_per_level=(300, 75, 12), clip_boxes=True)
INFO = ExportInfo(
    model="yolact_nano", family="yolact", class_names=("nut", "bolt"), form="candidates",
    input=FixedInput(size=(256, 320), method="bilinear", any_size=True), mask_frame="grid", thresholds=THRESHOLDS,
    rule=RULE, precision="int8", licence="MIT", provenance={"source": "yolact_nano", "epochs": [1, 2]},
    preprocessing={"mean": [0.5]}, config={"name": "yolact_nano", "image_size": 256}, protomask_version="0.1.0",
)  # fmt: skip
REGIONS = ExportInfo(
    model="mask_rcnn_resnet50_fpn", family="rcnn", class_names=("Nüsse",), mask_frame="region", mask_paste="continuous",
    input=ShortSideInput(image_size=800, max_image_size=1333, rounding="floor", method="opencv"),
    thresholds=THRESHOLDS, protomask_version="0.1.0",
)  # fmt: skip
INPUTS: list[InputRule] = [
    AnyInput(),
    *(FixedInput(size=(64, 32), method=method, any_size=any_size) for method in ("pillow", "opencv", "bilinear")
      for any_size in (False, True)),
    *(ShortSideInput(image_size=20, max_image_size=50, rounding=rounding, method=method)
      for rounding in ("floor", "half_up", "short_side") for method in ("pillow", "opencv", "bilinear")),
]  # fmt: skip


@pytest.mark.parametrize("info", [INFO, REGIONS, *(REGIONS.replace(input=one) for one in INPUTS)])
def test_info_comes_back(info: ExportInfo) -> None:
    text = info.to_json()
    assert ExportInfo.from_json(text, "file") == info
    assert ExportInfo.from_json(text, "file").to_json() == text
    assert all(isinstance(name, str) for name in json.loads(text))


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5), st.sampled_from(NMS_MODES), st.floats(0, 1))
def test_any_names_and_thresholds_come_back(names: list[str], nms: Any, threshold: float) -> None:
    thresholds = THRESHOLDS.replace(nms=nms, iou_threshold=threshold, candidate_threshold=threshold)
    info = INFO.replace(class_names=tuple(names), thresholds=thresholds)
    assert ExportInfo.from_json(info.to_json(), "file") == info


def test_a_newer_version_may_say_more() -> None:
    text = json.dumps({**json.loads(INFO.to_json()), "colour": "red"})
    assert ExportInfo.from_json(text, "file") == INFO


def test_sizes() -> None:
    fixed = FixedInput(size=(256, 320), method="bilinear")
    assert (INFO.input_size, INFO.given_size) == (None, (256, 320))
    assert (INFO.replace(input=fixed).input_size, INFO.replace(input=fixed).given_size) == ((256, 320), (256, 320))
    assert (REGIONS.input_size, REGIONS.given_size) == (None, None)


@pytest.mark.parametrize("rule", INPUTS)
def test_images_are_prepared_as_the_rule_says(rule: InputRule) -> None:
    resize = {"pillow": resize_pillow, "opencv": resize_opencv, "bilinear": resize_bilinear}
    image = np.random.default_rng(0).integers(0, 256, (45, 100, 3), dtype=np.uint8)
    if isinstance(rule, AnyInput):
        wanted = image
    elif isinstance(rule, FixedInput):
        wanted = resize[rule.method](image, (64, 32))
    else:
        # 20 of 45 times 100 is 44.4; the limit of 50 is not reached.
        wanted = resize[rule.method](image, (20, 44))
    np.testing.assert_array_equal(rule.prepare(image), wanted)


@pytest.mark.parametrize(("rounding", "size"), [("floor", (18, 50)), ("half_up", (19, 50)), ("short_side", (18, 48))])
def test_the_long_side_has_its_limit(rounding: Any, size: tuple[int, int]) -> None:
    image = np.zeros((37, 100, 3), dtype=np.uint8)
    rule = ShortSideInput(image_size=20, max_image_size=50, rounding=rounding, method="pillow")
    assert rule.prepare(image).shape[:2] == size


def test_a_foreign_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected a file made by protomask export"):
        ExportInfo.from_json(None, "model.onnx")


def changed(info: ExportInfo, path: str, value: Any) -> str:
    """The JSON of an info with one value replaced, or left out where the new one is Ellipsis."""
    content = json.loads(info.to_json())
    *folders, name = path.split(".")
    place = content
    for folder in folders:
        place = place[folder]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(content)


DAMAGE: list[tuple[str, Any, str]] = [
    ("format_version", "9", "expected format version 2, got 9; export the model again"),
    ("format_version", 2, "expected format version 2, got 2"),
    ("format_version", ..., "format_version"),
    ("model", "", "model: expected"),
    ("model", None, "model: expected"),
    ("family", 5, "family: expected"),
    ("class_names", [], "class_names: expected a non-empty list"),
    ("class_names", "nut", "class_names: expected"),
    ("class_names", ["nut", 5], "class_names: expected"),
    ("class_names", ["nut", ""], "class_names: expected"),
    ("class_names", {"0": "nut"}, "class_names: expected"),
    ("form", "other", "form: expected one of detections, candidates, got 'other'"),
    ("form", "detections", "rule: expected none, as the form is detections"),
    ("rule", None, "rule: expected one, as the form is candidates, got None"),
    ("rule", ..., "rule: expected one"),
    ("rule", 5, "rule: expected"),
    ("rule", [], "rule: expected"),
    ("rule.nms", "greedy", "rule.nms: expected one of fast, "),
    ("rule.iou_threshold", 2, "rule.iou_threshold: expected"),
    ("rule.iou_threshold", float("nan"), "rule.iou_threshold: expected"),
    ("rule.max_detections", 0, "rule.max_detections: expected"),
    ("rule.max_candidates", "200", "rule.max_candidates: expected"),
    ("rule.anchors_per_level", 5, "rule.anchors_per_level: expected"),
    ("rule.anchors_per_level", [-5], "rule.anchors_per_level: expected"),
    ("rule.clip_boxes", "yes", "rule.clip_boxes: expected"),
    ("rule.colour", "red", "rule: unknown colour"),
    ("mask_frame", "box", "mask_frame: expected one of grid, region, got 'box'"),
    ("mask_frame", "region", "mask_frame: expected grid, as the form is candidates"),
    ("mask_paste", "box", "mask_paste: expected one of integer, continuous, pixels, got 'box'"),
    ("thresholds", ..., "missing thresholds"),
    ("thresholds", None, "thresholds: expected"),
    ("thresholds.nms", None, "thresholds.nms: expected"),
    ("thresholds.nms", ..., "thresholds: missing nms"),
    ("thresholds.max_detections", -1, "thresholds.max_detections: expected"),
    ("thresholds.max_detections", 1e400, "thresholds.max_detections: expected"),
    ("thresholds.candidate_threshold", "0.5", "thresholds.candidate_threshold: expected"),
    ("thresholds.other", 1, "thresholds: unknown other"),
    ("precision", "int4", "precision: expected one of float32, float16, int8"),
    ("licence", 5, "licence: expected"),
    ("provenance", "me", "provenance: expected"),
    ("config", [1], "config: expected"),
    ("protomask_version", ..., "missing protomask_version"),
    ("input", ..., "input"),
    ("input", None, "cannot be read"),
    ("input", "fixed", "cannot be read"),
    ("input", {}, "kind"),
    ("input", {"kind": "any"}, "input: expected images of one size, as the form is candidates"),
    ("input.kind", "other", "other"),
    ("input.kind", ["fixed"], "cannot be read"),
    ("input.kind", "any", "AnyInput: unknown any_size, method, size"),
    ("input.size", ..., "FixedInput: missing size"),
    ("input.size", 256, "size: expected"),
    ("input.size", [256], "size: expected"),
    ("input.size", [256, 0], "size: expected"),
    ("input.size", [256, 256.5], "size: expected"),
    ("input.size", [256, True], "size: expected"),
    ("input.size", [256, MAX_SIDE + 1], f"size: expected .* from 1 to {MAX_SIDE}"),
    ("input.method", "lanczos", "method: expected one of pillow, opencv, bilinear, got 'lanczos'"),
    ("input.any_size", 0, "any_size: expected"),
]


@pytest.mark.parametrize(("path", "value", "message"), DAMAGE, ids=[f"{path}={value}" for path, value, _ in DAMAGE])
def test_a_damaged_value_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^model\.onnx: .*{message}"):
        ExportInfo.from_json(changed(INFO, path, value), "model.onnx")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 0), ("image_size", MAX_SIDE + 1), ("image_size", ...), ("max_image_size", "1333"),
        ("max_image_size", 10**9), ("rounding", "up"), ("rounding", None), ("method", ["pillow"]), ("size", [1, 1]),
    ],
)  # fmt: skip
def test_a_damaged_short_side_is_named(name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"^model\.onnx: .*{name}"):
        ExportInfo.from_json(changed(REGIONS, f"input.{name}", value), "model.onnx")


@pytest.mark.parametrize("text", ["", "{", "null", "5", '"text"', "[]", "[1]", "[[1, 2]]", "{}", "[" * 100_000])
def test_what_is_no_info_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"^model\.onnx: its 'protomask' entry cannot be read"):
        ExportInfo.from_json(text, "model.onnx")


@given(st.data())
def test_no_cut_or_exchanged_text_is_another_error(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([INFO.to_json(), REGIONS.to_json()]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    damaged = text[:start] + data.draw(st.text('0123456789-.eE"[]{}:, truefalsn', max_size=6)) + text[end:]
    try:
        info = ExportInfo.from_json(damaged, "model.onnx")
    except CheckpointError as error:
        assert str(error).startswith("model.onnx: ")  # noqa: PT017
    else:
        assert ExportInfo.from_json(info.to_json(), "again") == info


MAKES: list[tuple[Callable[[], Settings], str]] = [
    (lambda: THRESHOLDS.replace(nms="slow"), "nms: expected one of fast, "),
    (lambda: INFO.replace(rule=None), "rule: expected one, as the form is candidates"),
    (lambda: REGIONS.replace(rule=RULE), "rule: expected none, as the form is detections"),
    (lambda: FixedInput(size=(0, 5), method="pillow"), "size: expected two whole numbers from 1 to 16384"),
]


@pytest.mark.parametrize(("make", "message"), MAKES)
def test_no_wrong_info_can_be_made(make: Callable[[], Settings], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
