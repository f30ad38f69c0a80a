from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Run
from protomask.runtimes.golden import GOLDEN_KEY, Golden

onnx = pytest.importorskip("onnx")
from onnx_files import SIDE, detections, write_detections  # noqa: E402 - needs onnx

IMAGE = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)


def with_golden(path: Path, golden: Golden | None) -> Path:
    write_detections(path)
    if golden is not None:
        model = onnx.load(path)
        onnx.helper.set_model_props(
            model, {**{one.key: one.value for one in model.metadata_props}, GOLDEN_KEY: golden.to_json()}
        )
        onnx.save(model, path)
    return path


def test_a_file_that_does_the_same_passes(run: Run, tmp_path: Path) -> None:
    path = with_golden(tmp_path / "a.onnx", Golden.of(IMAGE, detections((SIDE, SIDE))))
    done = run("verify", path)
    assert (done.code, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["boxes", "0.0e+00", "same"] in rows
    assert done.out.splitlines()[-1] == f"{path}: passed (in Onnx, against PyTorch, batches of 1)"
    asked = run("verify", path, "--threads", 1, "--json")
    assert (asked.code, asked.json["passed"], asked.json["failed"]) == (0, True, [])


def test_a_file_that_does_something_else_fails(run: Run, tmp_path: Path) -> None:
    moved = detections((SIDE, SIDE))
    moved["boxes"] = moved["boxes"] + np.float32(0.25)
    path = with_golden(tmp_path / "a.onnx", Golden.of(IMAGE, moved))
    done = run("verify", path)
    assert done.code == 1
    assert ["boxes", "2.5e-01", "differs"] in [line.split() for line in done.out.splitlines()]
    assert f"{path}: FAILED" in done.out
    asked = run("verify", path, "--json")
    assert (asked.code, asked.json["failed"]) == (1, ["boxes"])
    assert asked.json["differences"]["boxes"] == 0.25


def test_files_that_cannot_be_verified(run: Run, tmp_path: Path) -> None:
    done = run("verify", with_golden(tmp_path / "a.onnx", None))
    assert done.code == 1
    assert "expected stored results to verify it with, found none; export it again" in done.err
    assert run("verify", tmp_path / "none.onnx").code == 1
    (tmp_path / "a.safetensors").write_bytes(b"")
    wrong = run("verify", tmp_path / "a.safetensors")
    assert wrong.code == 2
    assert "file: expected an exported file" in wrong.err
