"""A calibration in weights and in exported files, and what both find with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from protomask.api import load
from protomask.calibrating.files import check_output, write_calibrated
from protomask.detection.calibration import Calibration, ScoreCurve
from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from tiny_yolact import block_images, tiny_yolact

CALIBRATION = Calibration(
    method="isotonic",
    class_scores=ScoreCurve(scores=(0.2, 0.6), values=(0.3, 0.9)),
    thresholds={"nut": tuple(0.3 + step / 100 for step in range(50))},
    data="blocks",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_yolact().save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def image() -> Pixels:
    return block_images((64, 64))[0]


def test_weights_keep_their_tensors_and_give_calibrated_scores(weights: Path, image: Pixels, tmp_path: Path) -> None:
    output = tmp_path / "calibrated.safetensors"
    check_output(weights, output)
    write_calibrated(weights, output, CALIBRATION)
    raw, calibrated = load(weights, device="cpu"), load(output, device="cpu")
    assert calibrated.calibration == CALIBRATION
    assert raw.calibration is None
    before = raw.predict(image, score_threshold=0.0, max_detections=20)
    after = calibrated.predict(image, score_threshold=0.0, max_detections=20)
    np.testing.assert_array_equal(after.scores, CALIBRATION.class_scores(before.scores))
    np.testing.assert_array_equal(after.boxes, before.boxes)
    least = float(after.scores[5])
    assert len(calibrated.predict(image, score_threshold=least, max_detections=20)) == 5
    assert calibrated.calibrated(None).predict(image, score_threshold=0.0).scores[0] == before.scores[0]


def test_an_exported_file_is_calibrated_as_its_weights_are(weights: Path, image: Pixels, tmp_path: Path) -> None:
    import protomask

    model = load(weights, runtime="torch", device="cpu").calibrated(CALIBRATION)
    protomask.export(model, tmp_path / "new.onnx", images=[image], form="candidates", score_threshold=0.0)
    protomask.export(
        model.calibrated(None), tmp_path / "raw.onnx", images=[image], form="candidates", score_threshold=0.0
    )
    check_output(tmp_path / "raw.onnx", tmp_path / "later.onnx")
    write_calibrated(tmp_path / "raw.onnx", tmp_path / "later.onnx", CALIBRATION)
    wanted = model.predict(image, threshold_for="precision=0.7", max_detections=20)
    assert 0 < len(wanted) < 20
    for name in ("new", "later"):
        file = load(tmp_path / f"{name}.onnx")
        assert file.calibration == CALIBRATION
        found = file.predict(image, threshold_for="precision=0.7", max_detections=20)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    with pytest.raises(ConfigError, match="threshold_for: expected a calibrated model"):
        load(tmp_path / "raw.onnx").predict(image, threshold_for="precision=0.7")


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("yolact_nano", "a.pt", "ending in .safetensors or .onnx, got"),
        ("yolact_resnet50", "a.onnx", "ending in .safetensors, got"),
        ("a.onnx", "a.safetensors", "ending in .onnx, got"),
        ("a.xml", "a.xml", "calibrate the weights, and export them again"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    source: str, output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.onnx", "a.xml"):
        Path(name).touch()
    with pytest.raises(ConfigError, match=message):
        check_output(source, Path(output))
