from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from protomask.masks.rle import decode_rle
from protomask.structures.instances import Instances

if TYPE_CHECKING:
    from cli.conftest import Run

EVERYTHING = ("--save-json", "--save-jsonl", "--save-polygons", "--save-label-map")


def options(weights: Path, output: Path) -> list[str | Path]:
    return [
        "--weights", weights, "--save-dir", output, "--device", "cpu",
        "--score-threshold", "0", "--max-detections", "3",
    ]  # fmt: skip


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of 40 x 24 in many forms, and files that cannot be read."""
    folder = tmp_path_factory.mktemp("odd files")
    picture = Image.fromarray(noise(24, 40))
    picture.save(folder / "rgb.png")
    picture.convert("L").save(folder / "gray.png")
    picture.quantize(16).save(folder / "palette.png", transparency=3)
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.convert("LA").save(folder / "la.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(noise(24, 40)[:, :, 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(noise(24, 40)[:, :, 0].astype(np.float32) / 255).save(folder / "float.tiff")
    picture.save(folder / "frames.gif", save_all=True, append_images=[picture.rotate(180)])
    picture.save(folder / "SHOUTED.JPG")
    picture.save(folder / "with spaces, ünïcödé 漢字.webp")
    for orientation in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = picture if orientation == 3 else picture.transpose(Image.Transpose.ROTATE_90)
        stored.save(folder / f"turned{orientation}.jpg", exif=exif)
    picture.save(folder / "cut.jpg")
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not asked for")
    return folder


BROKEN = {"cut.jpg": "truncated", "empty.jpg": "the file is empty", "text.jpg": "not an image"}


def test_odd_and_broken_files(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    outcome = run("predict", odd_files, *options(weights, tmp_path), *EVERYTHING)
    assert outcome.code == 1
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(BROKEN)
    for name, cause in BROKEN.items():
        [line] = [line for line in errors if str(odd_files / name) in line]
        assert cause in line
    assert "Traceback" not in outcome.err
    good = {path.name for path in odd_files.iterdir()} - set(BROKEN) - {"notes.txt"}
    assert f"{len(BROKEN)} of {len(good) + len(BROKEN)} images failed" in outcome.err
    assert f"{len(good)} of {len(good) + len(BROKEN)} images predicted" in outcome.out

    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {Path(line["file"]).name for line in lines} == good
    assert all(line["size"] == [24, 40] for line in lines)
    listed = read(tmp_path / "images.json")["images"]
    assert [image["id"] for image in listed] == list(range(1, len(good) + 1))
    assert {(image["height"], image["width"]) for image in listed} == {(24, 40)}
    rows = read(tmp_path / "predictions.json")
    assert {row["image_id"] for row in rows} == {image["id"] for image in listed}
    for row in rows:
        assert decode_rle(row["segmentation"]).shape == (24, 40)
        x, y, width, height = row["bbox"]
        assert 0 <= x <= x + width <= 40
        assert 0 <= y <= y + height <= 24
    overlays = [path for path in tmp_path.iterdir() if path.suffix == ".png"]
    assert {path.stem for path in overlays} == {Path(name).stem for name in good}
    assert {Image.open(path).size for path in overlays} == {(40, 24)}
    assert not list(tmp_path.rglob("*.tmp"))


def test_files_about_one_image_agree(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    assert run("predict", odd_files / "rgb.png", *options(weights, tmp_path), *EVERYTHING).code == 0
    line = json.loads((tmp_path / "predictions.jsonl").read_text())
    masks = [decode_rle(row["segmentation"]) for row in line["instances"]]
    assert len(masks) == 3
    assert [row["number"] for row in line["instances"]] == [1, 2, 3]
    coco = read(tmp_path / "predictions.json")
    assert [row["segmentation"] for row in coco] == [row["segmentation"] for row in line["instances"]]

    label_map = np.asarray(Image.open(tmp_path / "label_maps" / "rgb.png"))
    assert label_map.shape == (24, 40)
    expected = np.zeros((24, 40), dtype=label_map.dtype)
    for number in (3, 2, 1):
        expected[masks[number - 1]] = number
    np.testing.assert_array_equal(label_map, expected)
    described = read(tmp_path / "label_maps" / "rgb.json")["instances"]
    assert [row["pixels"] for row in described] == [int((expected == number).sum()) for number in (1, 2, 3)]

    features = read(tmp_path / "polygons" / "rgb.geojson")["features"]
    assert [feature["properties"]["number"] for feature in features] == [1, 2, 3]
    for feature, mask in zip(features, masks, strict=True):
        assert (feature["geometry"] is None) == (not mask.any())


def test_batches_change_nothing(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    lines = []
    for batch_size in (1, 4):
        output = tmp_path / str(batch_size)
        outcome = run(
            "predict", odd_files, *options(weights, output), "--save-jsonl", "--no-save-overlay", "--batch-size",
            batch_size,
        )  # fmt: skip
        assert outcome.code == 1
        lines.append([json.loads(line) for line in (output / "predictions.jsonl").read_text("utf-8").splitlines()])
    for one, four in zip(*lines, strict=True):
        assert one["file"] == four["file"]
        for first, second in zip(one["instances"], four["instances"], strict=True):
            assert first["label"] == second["label"]
            assert first["score"] == pytest.approx(second["score"], abs=1e-5)
            assert first["box"] == pytest.approx(second["box"], abs=1e-2)


def test_json_summary(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    outcome = run("predict", odd_files / "rgb.png", odd_files / "text.jpg", *options(weights, tmp_path), "--json")
    assert outcome.code == 1
    told = outcome.json
    assert told["failed"] == 1
    good, bad = told["images"]
    assert (good["instances"], good["written"]) == (3, [str(tmp_path / "rgb.png")])
    assert "not an image" in bad["error"]
    assert str(odd_files / "text.jpg") in outcome.err


def test_overlay_formats(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    arguments = [*options(weights, tmp_path), "--overlay-format", "jpg", "--color-by", "instance"]
    assert run("predict", odd_files / "rgb.png", *arguments).code == 0
    assert Image.open(tmp_path / "rgb.jpg").format == "JPEG"


def test_nothing_found_is_a_result(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    arguments = [*options(weights, tmp_path), "--score-threshold", "1", *EVERYTHING]
    outcome = run("predict", odd_files / "rgb.png", *arguments)
    assert outcome.code == 0
    assert "found nothing" in outcome.out
    assert read(tmp_path / "predictions.json") == []
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "rgb.png")), noise(24, 40))


def test_ids_of_an_annotation_file(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    annotations = scenes / "annotations" / "val.json"
    content = read(annotations)
    for image in content["images"]:
        image["id"] += 500
    for category in content["categories"]:
        category["id"] *= 7
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps({**content, "annotations": []}))
    arguments = [*options(weights, tmp_path / "out"), "--save-json", "--no-save-overlay", "--annotations", moved]
    assert run("predict", scenes / "images" / "val", *arguments).code == 0
    rows = read(tmp_path / "out" / "predictions.json")
    assert {row["image_id"] for row in rows} == {image["id"] for image in content["images"]}
    assert {row["category_id"] % 7 for row in rows} == {0}


def test_image_unknown_to_the_annotation_file(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8)).save(tmp_path / "stranger.png")
    annotations = scenes / "annotations" / "val.json"
    arguments = [*options(weights, tmp_path / "out"), "--save-json", "--annotations", annotations]
    outcome = run("predict", tmp_path / "stranger.png", scenes / "images" / "val", *arguments)
    assert outcome.code == 1
    assert f"{tmp_path / 'stranger.png'}: no image of this name" in outcome.err
    assert len({row["image_id"] for row in read(tmp_path / "out" / "predictions.json")}) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--weights", "nosuch.safetensors"], 1, "nosuch.safetensors: no such file"),
        (["--weights", "{text}"], 1, "text.jpg"),
        (["--score-threshold", "2"], 2, "score_threshold: expected a number from 0 to 1, got 2"),
        (["--iou-threshold", "-1"], 2, "iou_threshold"),
        (["--device", "toaster"], 2, "device: expected auto, cpu, cuda"),
        (["--annotations", "{text}"], 1, "text.jpg: line 1 column 1: not valid JSON"),
        (["--save-dir", "{text}"], 1, "text.jpg: cannot be written"),
        (["--save-dir", "{folder}"], 2, "save_dir: expected a folder other than that of the images"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_messages(
    run: Run, weights: Path, odd_files: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    before = sorted(odd_files.iterdir())
    filled = [item.format(text=odd_files / "text.jpg", folder=odd_files) for item in arguments]
    outcome = run("predict", odd_files / "rgb.png", *options(weights, tmp_path), *filled)
    assert outcome.code == code
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(odd_files.iterdir()) == before


@pytest.mark.parametrize("name", ["rgb.png", "predictions.json"])
def test_ctrl_c_leaves_complete_files_only(
    run: Run, weights: Path, odd_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Stopped while the second overlay, or the second image's JSON, is being written."""
    calls: list[object] = []

    def once_only(original: Any) -> Any:
        def stopping(*given: Any, **named: Any) -> Any:
            calls.append(given)
            result = original(*given, **named)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return result

        return stopping

    if name == "rgb.png":
        monkeypatch.setattr(Image.Image, "save", once_only(Image.Image.save))
    else:
        monkeypatch.setattr(Instances, "to_coco", once_only(Instances.to_coco))
    inputs = [odd_files / "rgb.png", odd_files / "gray.png", odd_files / "rgba.png"]
    outcome = run("predict", *inputs, *options(weights, tmp_path), "--save-json", "--save-jsonl")
    assert (outcome.code, outcome.err) == (1, "protomask predict: stopped\n")
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "predictions.json").exists()
    for path in tmp_path.glob("*.png"):
        Image.open(path).load()
    [line] = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["file"].endswith("rgb.png")


def test_tiles(run: Run, weights: Path, tmp_path: Path) -> None:
    Image.fromarray(noise(60, 90)).save(tmp_path / "large.png")
    arguments = [tmp_path / "large.png", *options(weights, tmp_path / "out"), *EVERYTHING, "--json"]
    outcome = run("predict", *arguments, "--tile", 48, "--tile-overlap", 0.5, "--batch-size", 3)
    assert outcome.code == 0
    assert outcome.json["images"][0]["instances"] == 3
    assert all(row["segmentation"]["size"] == [60, 90] for row in read(tmp_path / "out" / "predictions.json"))
    assert Image.open(tmp_path / "out" / "large.png").size == (90, 60)
    outcome = run("predict", *arguments, "--tile", 16)
    assert (outcome.code, outcome.out) == (2, "")
    assert "tile: expected a whole number of at least 32 pixels or none, got 16" in outcome.err
    outcome = run("predict", *arguments, "--tile", 48, "--tile-overlap", 50)
    assert "tile_overlap: " in outcome.err


@pytest.mark.slow
@pytest.mark.data
def test_photographs(run: Run, weights: Path, data_dir: Path, tmp_path: Path) -> None:
    outcome = run("predict", data_dir / "photos", *options(weights, tmp_path), *EVERYTHING)
    assert (outcome.code, outcome.err) == (0, "")
    assert "20 of 20 images predicted" in outcome.out
    for image in read(tmp_path / "images.json")["images"]:
        with Image.open(image["file_name"]) as photo:
            assert photo.size == (image["width"], image["height"])
        with Image.open(tmp_path / f"{Path(image['file_name']).stem}.png") as overlay:
            assert overlay.size == (image["width"], image["height"])


def test_classes_and_subfolders(run: Run, weights: Path, tmp_path: Path) -> None:
    for name in ("a.png", "deeper/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(24, 40)).save(tmp_path / "photos" / name)
    arguments = [*options(weights, tmp_path / "out"), "--save-jsonl", "--no-save-overlay", "--classes", "ring,star"]
    assert run("predict", tmp_path / "photos", "--recursive", *arguments).code == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["a.png", "b.png"]
    for line in lines:
        assert len(line["instances"]) == 3
        assert {row["class_name"] for row in line["instances"]} <= {"ring", "star"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "rong"], "classes: expected some of person"),
        (["--classes=Birds"], "did you mean 'bird'?"),
        (["--image-size", "31"], "image_size: expected a whole number of at least 32 pixels"),
        (["--model", "yolact_nano", "--image-size", "512"], "image_size: expected 256, the only size"),
    ],
)
def test_options_that_the_model_cannot_have_are_refused_first(
    run: Run, odd_files: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    outcome = run("predict", odd_files / "rgb.png", "--save-dir", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_crops(run: Run, weights: Path, odd_files: Path, tmp_path: Path) -> None:
    outcome = run("predict", odd_files / "rgb.png", *options(weights, tmp_path), "--save-crops", "--json")
    files = sorted((tmp_path / "crops").iterdir())
    assert set(map(str, files)) < set(outcome.json["images"][0]["written"])
    assert all(Image.open(file).mode == "RGBA" and file.name.startswith("rgb_00") for file in files)
    assert files


def test_show(run: Run, weights: Path, odd_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("protomask.structures.overlays.show_image", lambda pixels, title: shown.append(pixels))
    assert run("predict", odd_files / "rgb.png", *options(weights, tmp_path), "--show").code == 0
    np.testing.assert_array_equal(shown[0], np.asarray(Image.open(tmp_path / "rgb.png")))


def test_nothing_is_shown_without_a_display(
    run: Run, weights: Path, odd_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    outcome = run("predict", odd_files / "rgb.png", *options(weights, tmp_path), "--show")
    assert outcome.code == 0
    assert outcome.err.startswith("note: show: expected a display, found none")
    assert (tmp_path / "rgb.png").is_file()


def test_several_images_are_not_shown(run: Run, odd_files: Path, tmp_path: Path) -> None:
    outcome = run("predict", odd_files, "--save-dir", tmp_path / "out", "--show")
    assert outcome.code == 2
    assert "show: expected one image, got " in outcome.err
    assert not (tmp_path / "out").exists()


def test_data_sets_that_can_be_checked_and_learned_from(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    arguments = [*options(weights, tmp_path / "out"), "--save-coco-dataset", "--save-labelme", "--save-yolo", "--json"]
    outcome = run("predict", scenes / "images" / "val", *arguments)
    assert outcome.code == 0
    count = sum(image["instances"] for image in outcome.json["images"])
    assert {Path(file).parent.name for image in outcome.json["images"] for file in image["written"]} == {
        "out", "train", "labelme",
    }  # fmt: skip
    checked = run("data", "check", tmp_path / "out" / "coco", "--split", "train", "--json")
    assert (checked.code, checked.json["splits"]["train"]["images"]) == (0, 3)
    severities = {problem["severity"] for problem in checked.json["problems"] if "anchor" not in problem["kind"]}
    assert severities <= {"note"}
    objects = checked.json["splits"]["train"]["objects"]
    assert 0 < objects <= count  # those without a pixel are left out
    for kind in ("labelme", "yolo"):
        converted = run("data", "convert", tmp_path / "out" / kind, tmp_path / kind, "--split", "0.6,0.4", "--json")
        assert sum(converted.json["objects"].values()) == objects
    outcome = run("predict", scenes / "images" / "val", *options(weights, tmp_path / "out"), "--save-yolo")
    assert outcome.code == 2
    assert "yolo to be new or empty, as it may hold corrections" in outcome.err
