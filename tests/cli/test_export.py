from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Run
from tiny_yolact import NAMES, block_images, tiny_yolact


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_yolact().save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(block_images((64, 64), (50, 91))):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_file_is_written_verified_and_predicts(run: Run, weights: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "out" / "model.onnx"
    done = run("export", weights, "--images", photos, "--output", path, "--max-detections", 20, "--json")
    assert done.code == 0, done.err
    assert done.json["file"] == str(path)
    agreement = done.json["agreement"]
    assert (agreement["images"], agreement["detections"], agreement["unmatched"]) == (2, 40, 0)
    found = run("predict", photos, "--model", path, "--save-dir", tmp_path / "found", "--score-threshold", 0, "--json")
    assert found.code == 0, found.err
    assert [row["instances"] for row in found.json["images"]] == [20, 20]
    refused = run("eval", "--data", tmp_path, "--model", path)
    assert refused.code != 0
    again = run("export", path)
    assert again.code == 2
    assert "runtime: expected auto, onnx or openvino for the exported file" in again.err


@pytest.mark.slow
def test_eight_bits_tell_ap_before_and_after(run: Run, weights: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    for folder in ("annotations", "images/val", "images/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(np.full((64, 64, 3), 90, dtype=np.uint8)).save(tmp_path / "images/val/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [8, 8, 40, 40], "area": 1600,
                "segmentation": [[8, 8, 48, 8, 48, 48, 8, 48]],
            }
        ],
    }  # fmt: skip
    for split in ("val", "train"):
        (tmp_path / f"annotations/{split}.json").write_text(json.dumps(content))
    path = tmp_path / "int8.xml"
    done = run(
        "export", weights, "--format", "openvino", "--int8", "--calibration", photos, "--images", photos, "--data",
        tmp_path, "--output", path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert set(done.json["ap"]) == {"float32", "int8"}
    assert {"box_AP", "mask_AP"} <= set(done.json["ap"]["int8"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "openvino", "--output", "a.onnx"], "output: expected a file name ending in .xml for openvino"),
        (["--int8"], "calibration: expected a folder of images with --int8, and none without"),
        (["--calibration", "."], "calibration: expected a folder of images with --int8, and none without"),
        (["--int8", "--calibration", "PHOTOS", "--calibration-images", "0"], "calibration_images: expected at least 1"),
        (["--mask-size", "[0,3]"], "mask_size: expected two positive numbers"),
        (["--nms", "soft_linear"], "--nms"),
    ],
)
def test_wrong_arguments(
    run: Run, weights: Path, photos: Path, tmp_path: Path, arguments: list[str], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = [str(photos) if word == "PHOTOS" else word for word in arguments]
    outcome = run("export", weights, *given)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []
