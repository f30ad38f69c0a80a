"""Whole files: written, verified, and run by ONNX Runtime and OpenVINO behind the same `predict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import protomask
from exporting.test_yolact import pictures, tiny
from protomask.errors import ConfigError, ExportError, MissingExtraError
from protomask.exporting import files
from protomask.exporting.files import export
from protomask.runtimes.exported import ExportedPredictor

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SUFFIXES = (".onnx", ".xml")
PLUS: dict[str, Any] = {
    "backbone": "resnet18", "deformable_layers": (0, 0, 0, 1), "rescoring_channels": (4, 8), "antialias": False,
}  # fmt: skip
IMAGES = pictures((64, 64), (50, 91), (120, 300))


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedPredictor:
    path = tmp_path_factory.mktemp("export") / f"tiny{request.param}"
    agreement = export(tiny(), path, images=IMAGES, licence="MIT")
    assert agreement.detections == 300
    left = {file.name for file in path.parent.iterdir()}
    assert left == ({"tiny.onnx"} if request.param == ".onnx" else {"tiny.xml", "tiny.bin"})
    loaded = protomask.load(path)
    assert isinstance(loaded, ExportedPredictor)
    return loaded


def test_a_file_says_what_it_is(exported: ExportedPredictor) -> None:
    info = exported.info
    assert exported.class_names == ("nut", "bolt", "gear")
    assert (info.licence, info.precision, info.mask_frame) == ("MIT", "float32", "grid")
    assert info.provenance == {"source": "untrained"}
    assert info.protomask_version == protomask.__version__
    assert json.loads(info.to_json())["thresholds"] == {
        "nms": "fast", "iou_threshold": 0.5, "candidate_threshold": 0.0, "max_detections": 100,
    }  # fmt: skip


def test_a_file_holds_no_path_of_the_machine(exported: ExportedPredictor) -> None:
    content = Path(exported.source).read_bytes()
    assert str(Path(files.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


def test_predict_is_that_of_every_predictor(exported: ExportedPredictor) -> None:
    wanted = tiny().predict(IMAGES, score_threshold=0)
    found = exported.predict(IMAGES, score_threshold=0)
    for one, other in zip(found, wanted, strict=True):
        assert one.image_size == other.image_size
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-5)
        alike = (one.boxes - other.boxes).abs().amax(dim=1) < 0.01
        assert alike.float().mean() > 0.95
        assert (one.masks[alike] != other.masks[alike]).float().mean() < 1e-3
    middle = float(found[0].class_scores[40])
    fewer = exported.predict(IMAGES[0], score_threshold=middle, max_detections=60)
    assert len(fewer) == 40
    assert len(exported.predict(IMAGES[0], score_threshold=0, max_detections=7)) == 7
    assert len(exported.predict(IMAGES[0], iou_threshold=0.5, nms="fast", candidate_threshold=0.0)) == len(
        exported.predict(IMAGES[0])
    )
    assert len(found[0].rle()) == len(found[0].polygons()) == 100
    assert exported.predict([]) == []


def test_tiles_may_find_more_together_than_the_file_does_in_one_image(exported: ExportedPredictor) -> None:
    found = exported.predict(IMAGES[2], score_threshold=0, tile=100, max_detections=150)
    assert len(found) == 150
    assert found.image_size == (120, 300)
    wanted = tiny().predict(IMAGES[2], score_threshold=0, tile=100, max_detections=150)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=0.02)
    assert len(exported.predict(IMAGES[2], score_threshold=0, tile=100)) == 100
    assert len(exported.predict(IMAGES[2], score_threshold=0, tile=400, max_detections=150)) == 100


def test_results_do_not_change_with_the_next_image(exported: ExportedPredictor) -> None:
    first = exported.predict(IMAGES[0], score_threshold=0)
    before = (first.boxes.clone(), first.scores.clone(), first.rle())
    exported.predict(IMAGES[1], score_threshold=0)
    assert torch.equal(first.boxes, before[0])
    assert torch.equal(first.scores, before[1])
    assert first.rle() == before[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou_threshold": 0.6}, "iou_threshold: .* was exported with 0.5, got 0.6"),
        ({"nms": "batched"}, "nms: .* was exported with fast, got batched"),
        ({"candidate_threshold": 0.2}, "candidate_threshold: .* was exported with 0.0, got 0.2"),
        ({"max_detections": 101}, "max_detections: .* was exported for 1 to 100, got 101"),
        ({"score_threshold": 1.5}, "score_threshold: expected a number from 0 to 1"),
    ],
)
def test_options_that_the_file_has_settled_are_refused(
    exported: ExportedPredictor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        exported.predict(IMAGES[0], **options)


def test_timings_name_the_stages(exported: ExportedPredictor) -> None:
    timings: dict[str, float] = {}
    exported.predict_images(IMAGES[:1], timings=timings)
    assert list(timings) == ["preprocess", "network", "postprocess"]


@pytest.mark.parametrize("reader", ["onnxruntime", "openvino"])
def test_a_file_needs_nothing_of_protomask(exported: ExportedPredictor, reader: str) -> None:
    """The resize within, which this package replaces by its own, antialiases as PyTorch does."""
    if reader == "onnxruntime" and not exported.source.endswith(".onnx"):
        pytest.skip("of the .onnx file")
    run = open_in(reader, exported.source)
    for image in pictures((64, 64), (480, 640), (37, 150), (333, 100), (1, 5)):
        boxes, labels, class_scores, masks = run(image[None].numpy())
        assert (boxes.shape, labels.shape, masks.shape) == ((100, 4), (100,), (100, 32, 32))
        wanted = tiny().predict(image, score_threshold=0)
        np.testing.assert_allclose(class_scores, wanted.class_scores.numpy(), atol=1e-4)


def open_in(reader: str, path: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    if reader == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image: session.run(None, {"image": image})
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: [np.array(output) for output in compiled([image]).values()]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (PLUS, {"max_detections": 20}),
        ({"antialias": False}, {"nms": "batched", "iou_threshold": 0.3, "candidate_threshold": 0.3}),
        ({}, {"nms": "cross_class_fast", "mask_size": (40, 30)}),
        ({"antialias": False}, {"fixed_size": True}),
    ],
    ids=["plus", "batched", "cross_class", "fixed_size"],
)
def test_every_kind_of_graph_can_be_written(
    suffix: str, overrides: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    predictor = tiny(**overrides)
    path = tmp_path / f"tiny{suffix}"
    assert export(predictor, path, images=IMAGES, **options).detections > 10
    loaded = protomask.load(path)
    found = loaded.predict(IMAGES[1], score_threshold=0)
    assert (found.mask_scores is None) == ("rescoring_channels" not in overrides)
    assert found.masks.shape == (len(found), 50, 91)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_eight_bits_find_nearly_the_same(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    path = tmp_path / f"tiny{suffix}"
    # Scores of an untrained network are low.
    agreement = export(tiny(), path, images=IMAGES, calibration=pictures(*[(64, 64)] * 4))
    assert agreement.detections > 10
    assert agreement.unmatched < agreement.detections / 2
    loaded = protomask.load(path)
    assert isinstance(loaded, ExportedPredictor)
    assert loaded.info.precision == "int8"
    assert (b"i8" if suffix == ".xml" else b"DequantizeLinear") in path.read_bytes()
    found = loaded.predict(IMAGES[1], score_threshold=0)
    # What reads the network's output has not become coarse.
    assert len(found.class_scores.unique()) > 90


def test_a_file_that_differs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_onnx", lambda graph, info, path, **_: path.write_text("x"))
    monkeypatch.setattr(files, "load_exported", lambda path: tiny(num_prototypes=5))
    with pytest.raises(ExportError, match="expected the detections of the PyTorch model"):
        export(tiny(), tmp_path / "tiny.onnx", images=IMAGES)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_compare_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_onnx", lambda graph, info, path, **_: path.write_text("x"))
    monkeypatch.setattr(files, "load_exported", lambda path: tiny(candidate_threshold=0.999))
    with pytest.raises(ExportError, match="nothing to compare"):
        export(tiny(), tmp_path / "tiny.onnx", images=IMAGES, candidate_threshold=0.999)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny.pt", {}, "output: expected a file name ending in .onnx or .xml"),
        ("tiny.xml", {"calibration": []}, "calibration: expected at least one image"),
        ("tiny.onnx", {"images": []}, "images: expected at least one"),
        ("tiny.onnx", {"iou_threshold": 2.0}, "iou_threshold: expected a number from 0 to 1"),
        ("tiny.onnx", {"nms": "soft_linear"}, "nms: expected fast"),
    ],
)
def test_impossible_requests_are_refused(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        export(tiny(), tmp_path / name, **{"images": IMAGES, **options})


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".onnx", "onnxscript", "onnx"), (".xml", "openvino", "openvino"), (".xml", "nncf", "int8")],
)
def test_missing_packages_are_named(
    suffix: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'protomask\[{extra}\]'"):
        export(tiny(), tmp_path / f"tiny{suffix}", images=IMAGES, calibration=IMAGES if extra == "int8" else None)
