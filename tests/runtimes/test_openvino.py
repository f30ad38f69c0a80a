from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protomask.errors import CheckpointError, ConfigError
from protomask.runtimes.info import METADATA_KEY
from protomask.runtimes.load import load_exported
from protomask.runtimes.openvino import shared_core

pytest.importorskip("openvino")
pytest.importorskip("onnx")
import openvino

from onnx_files import CANDIDATES, DETECTIONS, write_candidates, write_detections

IMAGE = np.zeros((32, 32, 3), dtype=np.uint8)


def write_xml(path: Path, onnx_file: Path, text: str | None) -> Path:
    model = shared_core().read_model(onnx_file)
    if text is not None:
        model.set_rt_info(text, METADATA_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("form", ["candidates", "detections"])
def test_an_xml_file_gives_what_the_onnx_file_gives(tmp_path: Path, form: str) -> None:
    info, write = (CANDIDATES, write_candidates) if form == "candidates" else (DETECTIONS, write_detections)
    onnx_file = write(tmp_path / "model.onnx")
    path = write_xml(tmp_path / "model.xml", onnx_file, info.to_json())
    predictor = load_exported(path, threads=1)
    assert predictor.info == info
    assert predictor.source == str(path)
    found, wanted = predictor.predict(IMAGE), load_exported(onnx_file).predict(IMAGE)
    for field in ("boxes", "labels", "masks"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    with pytest.raises(CheckpointError, match=r"model\.xml: no such file"):
        load_exported(path)
    for content in ("", "nothing", "<net></net>"):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"model\.xml: OpenVINO cannot read it: .") as caught:
            load_exported(path)
        assert "\n" not in str(caught.value)
    onnx_file = write_detections(tmp_path / "model.onnx")
    write_xml(path, onnx_file, None)
    with pytest.raises(CheckpointError, match=r"model\.xml: expected a file made by protomask export"):
        load_exported(path)
    write_xml(path, onnx_file, "{}")
    with pytest.raises(CheckpointError, match=r"model\.xml: its 'protomask' entry cannot be read"):
        load_exported(path)


def test_precision_must_be_known() -> None:
    with pytest.raises(ConfigError, match="precision: expected one of float32, bf16, fp16, got 'int4'"):
        load_exported("model.xml", precision="int4")  # type: ignore[arg-type]


TWO_MODELS = """
import gc, signal, sys
from protomask.runtimes.load import load_exported

signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
first, second = load_exported(sys.argv[1]), load_exported(sys.argv[1])
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_can_be_handled_after_models_are_gone(tmp_path: Path) -> None:
    path = write_xml(tmp_path / "model.xml", write_detections(tmp_path / "model.onnx"), DETECTIONS.to_json())
    # With faulthandler there is a stack for handlers to begin with.
    command = [sys.executable, "-X", "faulthandler", "-c", TWO_MODELS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
