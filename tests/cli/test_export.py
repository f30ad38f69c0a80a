from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Run
from protomask.serve.site import RUNTIME_FILES
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
    done = run(
        "export",
        weights,
        "--images",
        photos,
        "--output",
        path,
        "--max-detections",
        20,
        "--score-threshold",
        0,
        "--json",
    )
    assert (done.code, done.err) == (0, "")
    assert done.json["file"] == str(path)
    agreement = done.json["agreement"]
    assert (agreement["images"], agreement["detections"], agreement["unmatched"]) == (2, 40, 0)
    assert set(agreement["parts"]) == {"class_logits", "boxes", "mask_coefficients", "prototypes"}
    found = run("predict", photos, "--model", path, "--save-dir", tmp_path / "found", "--score-threshold", 0, "--json")
    assert found.code == 0, found.err
    assert [row["instances"] for row in found.json["images"]] == [20, 20]
    refused = run("eval", "--data", tmp_path, "--model", path)
    assert refused.code != 0
    again = run("export", path)
    assert again.code == 2
    assert f"model: expected a name or weights to export, got the exported file {path}" in again.err


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image with a square on it."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("annotations", "images/val", "images/train"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(block_images((64, 64))[0]).save(root / "images/val/a.png")
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
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("form", ["detections", "candidates"])
def test_ap_of_both_is_compared_on_annotated_images(
    run: Run, weights: Path, dataset: Path, tmp_path: Path, format: str, form: str
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    path = tmp_path / f"a{'.onnx' if format == 'onnx' else '.xml'}"
    given = ("--data", dataset, "--form", form, "--format", format, "--output", path)
    done = run("export", weights, *given, "--score-threshold", 0.9999)
    assert done.code == 0, done.err
    assert "warning: the model finds nothing above score 0.9999 in these 1 images" in done.err
    verified, pytorch, file = done.out.splitlines()[1:]
    counts = "100 detections above score 0 on 1" if form == "detections" else "400 detections above score 0 on 4"
    assert verified.startswith(f"verified with PyTorch: {counts} images, none unmatched")  # candidates also as a batch
    assert pytorch.removeprefix("pytorch: ") == file.removeprefix("file: ")
    assert "box AP 0." in file


@pytest.mark.slow
def test_eight_bits_are_compared_by_ap(run: Run, weights: Path, photos: Path, dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    path = tmp_path / "int8.xml"
    done = run(
        "export", weights, "--format", "openvino", "--int8", "--calibration", photos, "--images", photos, "--data",
        dataset, "--output", path, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    agreement = done.json["agreement"]
    assert agreement["parts"] == {}
    assert set(agreement["ap"]) == {"pytorch", "file"}
    assert {"box_AP", "mask_AP"} <= set(agreement["ap"]["file"])
    shown = [line for line in done.err.splitlines() if line.startswith("warning: ")]  # NNCF has lines of its own
    assert shown == [f"warning: {text}" for text in agreement["warnings"]]


def test_classes_are_compared_before_anything_is_written(run: Run, photos: Path, dataset: Path, tmp_path: Path) -> None:
    others = tiny_yolact(class_names=("screw",)).save(tmp_path / "others.safetensors")
    outcome = run("export", others, "--data", dataset, "--output", tmp_path / "a.onnx")
    assert outcome.code == 1
    assert "unknown to the model: nut, bolt, gear" in outcome.err
    assert [file.name for file in tmp_path.iterdir()] == ["others.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "openvino", "--output", "a.onnx"], "output: expected a file name ending in .xml for openvino"),
        (["--int8"], "calibration: expected a folder of images with --int8, and none without"),
        (["--calibration", "."], "calibration: expected a folder of images with --int8, and none without"),
        (["--int8", "--calibration", "PHOTOS", "--calibration-images", "0"], "calibration_images: expected at least 1"),
        (["--mask-size", "[0,3]"], "mask_size: expected two positive numbers"),
        (["--nms", "slow"], "--nms: expected"),
        (["--verify-images", "0"], "verify_images: expected at least 1, got 0"),
        (["--search-depth", "5"], "search_depth: expected at least max_detections (100), got 5"),
        (["--score-threshold", "2"], "score_threshold: expected"),
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


@pytest.fixture
def runtime_files(tmp_path: Path) -> Path:
    """Stands for the npm package that runs models in browsers."""
    folder = tmp_path / "runtime" / "dist"
    folder.mkdir(parents=True)
    for name in RUNTIME_FILES:
        (folder / name).touch()
    return folder.parent


def test_a_page_of_a_shipped_model_needs_no_export(run: Run, runtime_files: Path, tmp_path: Path) -> None:
    arguments = ("export", "yolact_nano", "--format", "web", "--runtime-files", runtime_files)
    done = run(*arguments, "--output", tmp_path / "site")
    assert (done.code, done.err) == (0, "")
    assert f"python -m http.server --directory {tmp_path / 'site'} 8000" in done.out
    assert f"{tmp_path / 'site'}: yolact_nano, " in done.out
    assert (tmp_path / "site" / "models" / "yolact_nano.onnx").is_file()
    again = run("export", tmp_path / "site" / "models" / "yolact_nano.onnx", *arguments[2:], "--output", tmp_path / "b")
    assert again.code == 0
    refused = run(*arguments, "--output", tmp_path)
    assert refused.code == 2
    assert "output: expected a new or empty folder" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("yolact_nano", "--runtime-files", "x"), "runtime_files: expected none for onnx"),
        (
            ("mine.onnx", "--format", "web", "--nms", "batched"),
            "expected a name or weights where the graph",
        ),
    ],
)
def test_options_that_fit_no_page_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.onnx").touch()
    done = run("export", *arguments)
    assert done.code == 2
    assert message in done.err


@pytest.mark.slow
def test_a_page_of_ones_own_weights_is_verified(
    run: Run, weights: Path, photos: Path, runtime_files: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    done = run(
        "export", weights, "--format", "web", "--images", photos, "--runtime-files", runtime_files,
        "--output", tmp_path / "site", "--score-threshold", 0, "--json",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert done.json["agreement"]["unmatched"] == 0
    content = json.loads((tmp_path / "site" / "page" / "site.json").read_text())
    assert content["models"][0]["info"]["form"] == "candidates"
    assert content["samples"] == ["samples/0.png", "samples/1.png"]
