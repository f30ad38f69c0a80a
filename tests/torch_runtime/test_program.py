"""Files of PyTorch itself: programs of `torch.export`, and packages of AOTInductor."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import protomask
from protomask.detection.options import PredictOptions
from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.exporting.aotinductor import require_compiler
from protomask.exporting.files import export
from protomask.runtimes.exported import ExportedPredictor
from protomask.torch_runtime.predictor import TorchPredictor
from protomask.torch_runtime.program import CompiledPredictor, ProgramPredictor
from tiny_yolact import block_images, tiny_yolact

EVERYTHING = PredictOptions(score_threshold=0)
IMAGES = block_images((64, 64), (50, 91), (120, 300))


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    return tiny_yolact()


@pytest.fixture(scope="module")
def candidates(model: TorchPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.pt2"
    agreement = export(model, path, images=IMAGES, options=EVERYTHING, form="candidates")
    assert (agreement.detections, agreement.faults) == (600, 0)  # alone, and three at once
    assert max(agreement.parts.values()) < 1e-5
    return path


def test_a_program_predicts_what_the_model_predicts(candidates: Path, model: TorchPredictor) -> None:
    program = protomask.load(candidates)
    assert isinstance(program, ProgramPredictor)
    assert (program.model_name, program.device) == ("yolact_nano", "cpu")
    options = EVERYTHING.replace(nms="batched", max_detections=20, batch_size=3)
    for found, wanted in zip(program.predict(IMAGES, options), model.predict(IMAGES, options), strict=True):
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-5)
    again = pickle.loads(pickle.dumps(program))
    np.testing.assert_array_equal(again.predict(IMAGES[0]).scores, program.predict(IMAGES[0]).scores)


def test_a_program_verifies_itself(candidates: Path, tmp_path: Path) -> None:
    done = protomask.verify(candidates)
    assert (done.passed, done.runtime, done.source, done.batches) == (True, "Program", "pytorch", (1, 3))
    assert set(done.differences) == {"class_logits", "boxes", "mask_coefficients", "prototypes"}


def test_pytorch_alone_runs_a_program(candidates: Path) -> None:
    texts = {"protomask.json": "", "protomask_golden.json": ""}
    program = torch.export.load(candidates, extra_files=texts)
    assert '"family": "yolact"' in texts["protomask.json"]
    outputs = program.module()(torch.zeros(5, 3, 64, 64, dtype=torch.uint8))
    assert outputs["prototypes"].shape == (5, 32, 32, 4)


def test_a_program_holds_no_path_of_the_machine(candidates: Path) -> None:
    with zipfile.ZipFile(candidates) as archive:
        for name in archive.namelist():
            assert str(Path(protomask.__file__).parent).encode() not in archive.read(name), name


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(1000)])
def test_files_that_are_none_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt2: "):
        protomask.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/version", "3")
    with pytest.raises(CheckpointError, match=r"a\.pt2: expected a file made by protomask export"):
        protomask.load(path)


def test_a_cut_program_is_refused(candidates: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt2"
    content = candidates.read_bytes()
    for length in (100, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pt2"):
            protomask.load(path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runtime": "onnx"}, "runtime: expected auto for .*, which PyTorch runs, got onnx"),
        ({"runtime": "torch"}, "runtime: expected auto, onnx or openvino for the exported file"),
        ({"precision": "bf16"}, "precision: expected float32"),
        ({"device": "cuda"}, "device: expected none with the exported file"),
    ],
)
def test_what_a_program_has_settled_is_refused(candidates: Path, asked: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        protomask.load(candidates, **asked)


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, model: TorchPredictor, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingExtraError, match=r"needs a C\+\+ compiler, found none of g\+\+, clang\+\+"):
        require_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingExtraError, match="found none of no-such-compiler"):
        export(model, tmp_path / "a.pt2", format="aotinductor", images=IMAGES[:1], options=EVERYTHING)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_package_of_aotinductor_does_what_the_model_does(model: TorchPredictor, tmp_path: Path) -> None:
    path = tmp_path / "tiny.pt2"
    agreement = export(
        model, path, format="aotinductor", form="candidates", images=IMAGES, options=EVERYTHING
    )  # fmt: skip
    assert agreement.faults == 0
    compiled = protomask.load(path)
    assert isinstance(compiled, CompiledPredictor)
    found = compiled.predict(IMAGES, EVERYTHING, batch_size=3)
    for one, wanted in zip(found, model.predict(IMAGES, EVERYTHING), strict=True):
        np.testing.assert_allclose(one.scores, wanted.scores, rtol=0, atol=1e-5)
    done = protomask.verify(path)
    assert (done.passed, done.runtime) == (True, "Compiled")


@pytest.mark.slow
@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_programs_of_detections_take_images_of_any_size(
    model: TorchPredictor, tmp_path: Path, dynamic_batch: bool
) -> None:
    path = tmp_path / "tiny.pt2"
    agreement = export(model, path, images=IMAGES, options=EVERYTHING, dynamic_batch=dynamic_batch)
    assert agreement.faults == 0
    assert max(agreement.parts.values()) < 1e-5
    exported = protomask.load(path)
    assert isinstance(exported, ExportedPredictor)
    for image in IMAGES:
        outputs = exported.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        scores = outputs["class_scores"][0] if dynamic_batch else outputs["class_scores"]
        np.testing.assert_allclose(scores, model.predict(image, EVERYTHING).class_scores, atol=1e-4)
