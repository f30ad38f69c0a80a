"""Whole files: written, verified, and run by ONNX Runtime and OpenVINO behind the same `predict`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import protomask
from graph_predictor import info_of
from protomask.detection.options import NMS_MODES, PredictOptions
from protomask.errors import ConfigError, ExportError, MissingExtraError
from protomask.exporting import files
from protomask.exporting.files import export
from protomask.exporting.formats import FORMATS
from protomask.exporting.graphs import GRAPHS
from protomask.exporting.job import WriteJob
from protomask.exporting.verify import parts_of
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.formats import SUFFIXES as SUFFIXES_OF
from protomask.runtimes.info import Form
from protomask.runtimes.load import load_exported
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor
from tiny_yolact import NAMES, block_images, tiny_yolact

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SUFFIXES = (".onnx", ".xml")
EVERYTHING = PredictOptions(score_threshold=0)
PLUS: dict[str, Any] = {
    "backbone": "resnet18", "deformable_layers": (0, 0, 0, 1), "rescoring_channels": (4, 8), "antialias": False,
    "sharpness": 1,
}  # fmt: skip
IMAGES = block_images((64, 64), (50, 91), (120, 300))


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    return tiny_yolact()


@pytest.fixture(scope="module", params=[".onnx", pytest.param(".xml", marks=pytest.mark.slow)])
def exported(
    request: pytest.FixtureRequest, model: TorchPredictor, tmp_path_factory: pytest.TempPathFactory
) -> ExportedPredictor:
    """A file of detections."""
    path = tmp_path_factory.mktemp("export") / f"tiny{request.param}"
    agreement = export(model, path, images=IMAGES, options=EVERYTHING, licence="MIT")
    assert (agreement.detections, agreement.unmatched, agreement.search_depth) == (300, 0, None)
    assert set(agreement.parts) == {"class_logits", "boxes", "mask_coefficients", "prototypes"}
    assert max(agreement.parts.values()) < 1e-4
    left = {file.name for file in path.parent.iterdir()}
    assert left == ({"tiny.onnx"} if request.param == ".onnx" else {"tiny.xml", "tiny.bin"})
    return load_exported(path)


def check_close(found: Instances, wanted: Instances) -> None:
    """Equal but for rounding, which lets the near ties of an untrained network change places."""
    assert found.image_size == wanted.image_size
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-5)
    alike = np.abs(found.boxes - wanted.boxes).max(axis=1) < 0.01
    assert alike.mean() > 0.95
    assert (found.masks[alike] != wanted.masks[alike]).mean() < 1e-3


def test_a_file_says_what_it_is(exported: ExportedPredictor) -> None:
    info = exported.info
    assert exported.class_names == NAMES
    assert (info.form, info.licence, info.precision, info.mask_frame) == ("detections", "MIT", "float32", "grid")
    assert info.provenance == {"source": "untrained"}
    assert info.protomask_version == protomask.__version__
    assert json.loads(info.to_json())["thresholds"] == {
        "nms": "fast", "overlap": "box_iou", "iou_threshold": 0.5, "candidate_threshold": 0.0, "max_detections": 100,
        "duplicates": "drop", "crop": "box", "crop_margin": 0.0, "edges": "grid",
    }  # fmt: skip


def test_a_file_holds_no_path_of_the_machine(exported: ExportedPredictor) -> None:
    content = Path(exported.source).read_bytes()
    assert str(Path(files.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


def test_predict_is_that_of_every_predictor(exported: ExportedPredictor, model: TorchPredictor) -> None:
    found = exported.predict(IMAGES, EVERYTHING)
    for one, other in zip(found, model.predict(IMAGES, EVERYTHING), strict=True):
        check_close(one, other)
    middle = float(found[0].class_scores[40])
    fewer = exported.predict(IMAGES[0], score_threshold=middle, max_detections=60)
    assert len(fewer) == 40
    assert len(exported.predict(IMAGES[0], EVERYTHING, max_detections=7)) == 7
    same = exported.predict(IMAGES[0], iou_threshold=0.5, nms="fast", candidate_threshold=0.0)
    assert len(same) == len(exported.predict(IMAGES[0]))
    assert len(found[0].rle()) == len(found[0].polygons()) == 100
    assert exported.predict([]) == []


def test_tiles_may_find_more_together_than_one_image_may(exported: ExportedPredictor, model: TorchPredictor) -> None:
    found = exported.predict(IMAGES[2], EVERYTHING, tile=100, max_detections=150)
    assert len(found) == 150
    assert found.image_size == (120, 300)
    wanted = model.predict(IMAGES[2], EVERYTHING, tile=100, max_detections=150)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=0.02)
    assert len(exported.predict(IMAGES[2], EVERYTHING, tile=100)) == 100
    assert len(exported.predict(IMAGES[2], EVERYTHING, tile=400, max_detections=150)) == 100


def test_results_do_not_change_with_the_next_image(exported: ExportedPredictor) -> None:
    first = exported.predict(IMAGES[0], EVERYTHING)
    before = (first.boxes.copy(), first.scores.copy(), first.rle())
    exported.predict(IMAGES[1], EVERYTHING)
    np.testing.assert_array_equal(first.boxes, before[0])
    np.testing.assert_array_equal(first.scores, before[1])
    assert first.rle() == before[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iou_threshold": 0.6}, "iou_threshold: .* was exported with 0.5, got 0.6"),
        ({"nms": "batched"}, "nms: .* was exported with fast, got batched"),
        ({"candidate_threshold": 0.2}, "candidate_threshold: .* was exported with 0.0, got 0.2"),
        ({"max_detections": 101}, "max_detections: .* was exported for 1 to 100, got 101"),
        ({"score_threshold": 1.5}, "score_threshold: expected a number from 0 to 1"),
    ],
)
def test_options_that_the_file_has_settled_are_refused(exported: ExportedPredictor, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        exported.predict(IMAGES[0], **changes)


def test_timings_name_the_stages(exported: ExportedPredictor) -> None:
    timings: dict[str, float] = {}
    exported.predict_images(IMAGES[:1], timings=timings)
    assert list(timings) == ["preprocess", "network", "postprocess"]


@pytest.mark.parametrize("reader", ["onnxruntime", "openvino"])
def test_a_file_needs_nothing_of_protomask(exported: ExportedPredictor, model: TorchPredictor, reader: str) -> None:
    """The resize within, which this package replaces by its own, antialiases as Pillow does."""
    if reader == "onnxruntime" and not exported.source.endswith(".onnx"):
        pytest.skip("of the .onnx file")
    run = open_in(reader, exported.source)
    for image in block_images((64, 64), (480, 640), (37, 150), (200, 100), (1, 5)):
        boxes, labels, class_scores, masks = run(image.transpose(2, 0, 1)[None])
        assert (boxes.shape, labels.shape, masks.shape) == ((100, 4), (100,), (100, 32, 32))
        wanted = model.predict(image, EVERYTHING)
        np.testing.assert_allclose(class_scores, wanted.class_scores, atol=1e-4)


def open_in(reader: str, path: str) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
    if reader == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image: list(session.run(None, {"image": image}))
    from protomask.runtimes.openvino import shared_core

    core = shared_core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: [np.array(output) for output in compiled([image]).values()]


# Files that end before NMS


@pytest.fixture(
    scope="module", params=["float16 .onnx", *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in SUFFIXES)]
)
def candidates(
    request: pytest.FixtureRequest, model: TorchPredictor, tmp_path_factory: pytest.TempPathFactory
) -> ExportedPredictor:
    """A file of candidates."""
    precision: Any = "float16" if "float16" in request.param else "float32"
    path = tmp_path_factory.mktemp("export") / f"tiny{request.param.split()[-1]}"
    export(model, path, images=IMAGES, form="candidates", precision=precision)
    loaded = load_exported(path)
    assert (loaded.info.form, loaded.info.precision) == ("candidates", precision)
    assert loaded.info.given_size == (64, 64)
    return loaded


def is_half(candidates: ExportedPredictor) -> bool:
    return candidates.info.precision == "float16"


@pytest.mark.parametrize("nms", NMS_MODES)
def test_a_file_of_candidates_leaves_the_options_open(
    candidates: ExportedPredictor, model: TorchPredictor, nms: Any
) -> None:
    options = EVERYTHING.replace(nms=nms, iou_threshold=0.4, candidate_threshold=0.3, max_detections=130, batch_size=2)
    for found, wanted in zip(candidates.predict(IMAGES, options), model.predict(IMAGES, options), strict=True):
        assert found.image_size == wanted.image_size
        few = min(len(found), len(wanted), 20)
        assert abs(len(found) - len(wanted)) <= 0.1 * len(wanted)
        np.testing.assert_allclose(
            found.scores[:few], wanted.scores[:few], rtol=0, atol=5e-3 if is_half(candidates) else 1e-5
        )


def test_batches_and_single_images_give_the_same(candidates: ExportedPredictor) -> None:
    together = candidates.predict(IMAGES, EVERYTHING, batch_size=3)
    for found, image in zip(together, IMAGES, strict=True):
        np.testing.assert_allclose(found.scores, candidates.predict(image, EVERYTHING).scores, rtol=0, atol=1e-5)


def test_half_precision_halves_a_file(candidates: ExportedPredictor, model: TorchPredictor) -> None:
    if not candidates.source.endswith(".onnx"):
        pytest.skip("its weights lie beside it")
    weights = sum(parameter.numel() for parameter in model.network.parameters())
    # What is not a weight takes little room even beside those of a tiny network.
    assert 0 <= Path(candidates.source).stat().st_size / weights - (2 if is_half(candidates) else 4) < 0.6


# What exporters are given


class Seen:
    """In place of the writers: keeps the graph."""

    graph: nn.Module

    def __call__(self, job: WriteJob) -> None:
        self.graph = job.graph
        job.path.write_text("x")


def in_place_of_writers(monkeypatch: pytest.MonkeyPatch, seen: Seen, runs: ExportedPredictor) -> None:
    for name, format in FORMATS.items():
        monkeypatch.setitem(FORMATS, name, replace(format, write=seen))
    monkeypatch.setattr(files, "open_exported", lambda path: runs)
    monkeypatch.setattr(files, "store_golden", lambda *_, **__: None)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, record in FORMATS.items() for form in record.forms])
def test_exporters_get_contiguous_weights_and_the_model_keeps_its_own(
    model: TorchPredictor, name: str, form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def layouts(network: Any) -> list[tuple[int, ...]]:
        return [tensor.stride() for tensor in (*network.parameters(), *network.buffers())]

    before = layouts(model.network)
    assert any(not tensor.is_contiguous() for tensor in model.network.parameters())
    seen = Seen()
    in_place_of_writers(monkeypatch, seen, Runs(model))
    monkeypatch.setattr(files, "compare_parts", lambda *_: {})
    export(model, tmp_path / f"tiny{SUFFIXES_OF[name]}", format=name, images=IMAGES[:1], form=form)
    for tensor in (*seen.graph.parameters(), *seen.graph.buffers()):
        assert tensor.stride() == torch.empty(tensor.shape).stride()
    assert layouts(model.network) == before


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_layout_of_the_weights_does_not_change_the_file(suffix: str, tmp_path: Path) -> None:
    written = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model, folder = tiny_yolact(), tmp_path / str(memory_format)
        model.to(memory_format=memory_format)
        export(model, folder / f"tiny{suffix}", images=IMAGES[:1])
        # OpenVINO numbers the names of operations on through all files of a process.
        written.append({file.name: re.sub(rb' name="[^"]*"', b"", file.read_bytes()) for file in folder.iterdir()})
    assert written[0] == written[1]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("changes", "options", "arguments"),
    [
        (PLUS, {"max_detections": 20}, {}),
        ({"antialias": False}, {"nms": "batched", "iou_threshold": 0.3, "candidate_threshold": 0.3}, {}),
        ({}, {"nms": "cross_class_fast"}, {"mask_size": (40, 30)}),
        ({"antialias": False}, {}, {"fixed_size": True}),
    ],
    ids=["plus", "batched", "cross_class", "fixed_size"],
)
def test_every_kind_of_graph_can_be_written(
    suffix: str, changes: dict[str, Any], options: dict[str, Any], arguments: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"tiny{suffix}"
    agreement = export(tiny_yolact(**changes), path, images=IMAGES, options=PredictOptions(**options), **arguments)
    assert agreement.detections > 10
    assert max(agreement.parts.values()) < 1e-4
    found = load_exported(path).predict(IMAGES[1], EVERYTHING)
    assert (found.mask_scores is None) == ("rescoring_channels" not in changes)
    assert found.masks.shape == (len(found), 50, 91)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "refused", "plain"), [("edges", "pixels", "grid"), ("duplicates", "average", "drop")])
def test_a_file_of_detections_leaves_out_what_graphs_cannot_do(
    name: str, refused: str, plain: Any, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {name: refused}
    model, path = tiny_yolact(**changes), tmp_path / "tiny.onnx"
    with pytest.raises(
        ConfigError, match=rf"{name}: expected {plain} in an exported file of detections, got {refused}"
    ):
        export(model, path, images=IMAGES, options=PredictOptions(**changes))
    export(model, path, images=IMAGES)
    asked = PredictOptions().replace(**{name: plain})
    check_close(load_exported(path).predict(IMAGES[1]), model.predict(IMAGES[1], asked))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_eight_bits_find_nearly_the_same(model: TorchPredictor, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    path = tmp_path / f"tiny{suffix}"
    agreement = export(model, path, images=IMAGES, calibration=block_images(*[(64, 64)] * 4))
    assert agreement.detections > 10
    assert agreement.unmatched < agreement.detections / 2
    assert agreement.parts == {}
    assert any("detections above score 0.3 differ" in warning for warning in agreement.warnings)
    loaded = load_exported(path)
    assert loaded.info.precision == "int8"
    assert (b"i8" if suffix == ".xml" else b"DequantizeLinear") in path.read_bytes()
    found = loaded.predict(IMAGES[1], EVERYTHING)
    # What reads the network's output has not become coarse.
    assert len(np.unique(found.class_scores)) > 90


# What goes wrong


class Runs(ExportedPredictor):
    """In place of a file: what a model finds, and as parts what its network gives."""

    def __init__(self, model: TorchPredictor, *, added: float = 0.0) -> None:
        config = model.network.config
        super().__init__(info_of(config, model.class_names), "file", ("boxes", "labels", "class_scores", "masks"))
        self.model, self.added = model, added

    def predict_batch(self, images: Any, options: PredictOptions, **_: Any) -> list[Instances]:
        return self.model.predict_batch(images, options)

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        parts = GRAPHS["yolact"].parts
        assert parts is not None
        values = parts_of(self.model.network.eval(), parts, images[0].transpose(1, 2, 0))
        return {f"before_nms_{name}": value + np.float32(self.added) for name, value in values.items()}


@pytest.mark.parametrize(
    ("name", "changes", "added", "message"),
    [
        ("tiny.onnx", {"num_prototypes": 5}, 0.0, r"what the network gives before NMS .* \(tiny\.xml\) may compute it"),
        ("tiny.onnx", {}, 0.1, r"before NMS to differ by at most 0\.001 from PyTorch, got class_logits by .*tiny\.xml"),
        ("tiny.xml", {}, 0.1, r"before NMS .* another output format \(tiny\.onnx\) may compute it right"),
        ("tiny.onnx", {"iou_threshold": 0.1}, 0.0, r"the detections .*; the form candidates leaves NMS to"),
    ],
)
def test_a_file_that_differs_is_not_left(
    model: TorchPredictor, name: str, changes: dict[str, Any], added: float, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_place_of_writers(monkeypatch, Seen(), Runs(tiny_yolact(**changes), added=added))
    with pytest.raises(ExportError, match=rf"^{name}: expected .*{message}"):
        export(model, tmp_path / name, images=IMAGES, options=EVERYTHING)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_finds_nothing_is_exported_with_a_warning(
    model: TorchPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_writers(monkeypatch, Seen(), Runs(tiny_yolact(candidate_threshold=0.999)))
    agreement = export(model, tmp_path / "tiny.onnx", images=IMAGES, options=PredictOptions(candidate_threshold=0.999))
    assert agreement.detections == 0
    assert ["only what comes before NMS was compared" in warning for warning in agreement.warnings] == [True]
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tiny.pt", {}, "output: expected a file name ending in .onnx or .xml"),
        ("tiny.xml", {"calibration": []}, "calibration: expected at least one image"),
        ("tiny.onnx", {"images": []}, "images: expected at least one"),
        ("tiny.onnx", {"precision": "float16"}, "precision: expected float32, or an .onnx file in the form candidates"),
        ("tiny.xml", {"precision": "float16", "form": "candidates"}, "precision: expected float32, or an .onnx file"),
        ("tiny.onnx", {"form": "candidates", "fixed_size": True}, "mask_size, fixed_size: expected none in the form"),
        ("tiny.onnx", {"form": "candidates", "mask_size": (9, 9)}, "mask_size, fixed_size: expected none in the form"),
        (
            "tiny.onnx",
            {"form": "candidates", "search_depth": 900},
            "search_depth: expected none in the form candidates",
        ),
        ("tiny.onnx", {"search_depth": 99}, r"search_depth: expected at least max_detections \(100\), got 99"),
    ],
)
def test_impossible_requests_are_refused(
    model: TorchPredictor, name: str, arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export(model, tmp_path / name, **{"images": IMAGES, **arguments})


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [(".onnx", "onnxscript", "onnx"), (".xml", "openvino", "openvino"), (".xml", "nncf", "int8")],
)
def test_missing_packages_are_named(
    model: TorchPredictor, suffix: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'protomask\[{extra}\]'"):
        export(model, tmp_path / f"tiny{suffix}", images=IMAGES, calibration=IMAGES if extra == "int8" else None)
