from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protomask.errors import CheckpointError
from protomask.runtimes.onnx import OnnxPredictor, read_info

pytest.importorskip("onnx")
from onnx_files import CANDIDATES, DETECTIONS, write_candidates, write_detections


def test_what_a_file_says_is_read_without_running_it(tmp_path: Path) -> None:
    assert read_info(write_candidates(tmp_path / "a.onnx")) == CANDIDATES
    assert read_info(str(write_detections(tmp_path / "b.onnx"))) == DETECTIONS


@pytest.mark.parametrize("read", [OnnxPredictor, read_info])
def test_files_that_are_none_of_ours(tmp_path: Path, read: type[OnnxPredictor]) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match=r"model\.onnx: no such file"):
        read(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read(tmp_path)
    for content in (b"", b"nothing", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.onnx: ONNX Runtime cannot read it: .") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    write_candidates(path, None)
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected a file made by protomask export"):
        read(path)
    write_candidates(path, '{"format_version": "1"}')
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected format version 2, got 1; export the model again"):
        read(path)
    write_candidates(path, "{")
    with pytest.raises(CheckpointError, match=r"model\.onnx: its 'protomask' entry cannot be read"):
        read(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = write_candidates(tmp_path / "model.onnx")
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model\.onnx"):
            OnnxPredictor(path)


def test_the_name_and_the_number_of_threads(tmp_path: Path) -> None:
    path = write_candidates(tmp_path / "model.onnx")
    assert OnnxPredictor(path).source == str(path)
    predictor = OnnxPredictor(path, source="yolact_nano", threads=1)
    assert predictor.source == "yolact_nano"
    assert repr(predictor) == "OnnxPredictor(source='yolact_nano')"


def test_outputs_come_by_name(tmp_path: Path) -> None:
    predictor = OnnxPredictor(write_candidates(tmp_path / "model.onnx"))
    outputs = predictor.run(np.zeros((3, 3, 32, 32), dtype=np.uint8))
    assert {name: values.shape for name, values in outputs.items()} == {
        "class_logits": (3, 5, 3), "boxes": (3, 5, 4), "mask_coefficients": (3, 5, 4), "prototypes": (3, 8, 8, 4),
    }  # fmt: skip
