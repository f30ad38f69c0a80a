from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

if TYPE_CHECKING:
    from cli.conftest import Run


def truth_as_results(annotations: Path, path: Path) -> Path:
    """Ground truth as if a model had found it, with certainty."""
    content = json.loads(annotations.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rows: list[dict[str, Any]] = []
    for annotation in content["annotations"]:
        if annotation["iscrowd"]:
            continue
        rle = annotation["segmentation"]
        if isinstance(rle, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(rle, *sizes[annotation["image_id"]]))
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
        rows.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "bbox": annotation["bbox"],
                "segmentation": rle,
                "score": 1.0,
            }
        )
    path.write_text(json.dumps(rows))
    return path


def test_ground_truth_is_perfect(run: Run, scenes: Path, tmp_path: Path) -> None:
    results = truth_as_results(scenes / "annotations" / "val.json", tmp_path / "results.json")
    told = run("eval", "--data", scenes, "--results", results, "--json").json
    assert told["box"]["AP"] == told["mask"]["AP"] == 1.0
    assert told["num_images"] == 3
    outcome = run("eval", "--data", scenes, "--results", results, "--max-detections", 5)
    assert outcome.code == 0
    assert "at most 5 detections" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.data
def test_ground_truth_of_photographs_is_perfect(run: Run, data_dir: Path, tmp_path: Path) -> None:
    data = data_dir / "coco-mini"
    results = truth_as_results(data / "annotations" / "val.json", tmp_path / "results.json")
    told = run("eval", "--data", data, "--results", results, "--json").json
    assert told["box"]["AP"] == told["mask"]["AP"] == 1.0


def test_saved_results_are_what_official_evaluators_read(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    model = ["--weights", weights, "--num-workers", 0, "--device", "cpu", "--batch-size", 2]
    saved = tmp_path / "found.json"
    outcome = run("eval", "--data", scenes, *model, "--save-results", saved)
    assert outcome.code == 0
    told = run("eval", "--data", scenes, *model, "--json").json
    truth = COCO(str(scenes / "annotations" / "val.json"))
    for kind, table in (("bbox", "box"), ("segm", "mask")):
        path = tmp_path / f"found_{kind}.json"
        assert str(path) in outcome.out
        judge = COCOeval(truth, truth.loadRes(str(path)), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert told[table]["AP"] == pytest.approx(float(judge.stats[0]), abs=1e-12)
        alone = run("eval", "--data", scenes, "--results", path, "--json").json
        assert alone[table] == told[table]
        assert set(alone) & {"box", "mask"} == {table}
    both = run("eval", "--data", scenes, "--results", saved, "--json").json
    assert both == told


def test_train_split_of_a_data_yaml(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    parts = {
        f"{split}_{kind}": str(scenes / folder)
        for split in ("train", "val")
        for kind, folder in (("annotations", f"annotations/{split}.json"), ("images", f"images/{split}"))
    }
    (tmp_path / "data.yaml").write_text("".join(f"{name}: {path}\n" for name, path in parts.items()))
    arguments = ["--weights", weights, "--num-workers", 0, "--device", "cpu", "--split", "train", "--json"]
    assert run("eval", "--data", tmp_path / "data.yaml", *arguments).json["num_images"] == 6


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--results", "nosuch.json"], 1, "nosuch.json: cannot be read as JSON"),
        (["--results", "{annotations}"], 1, "expected a list of COCO result objects"),
        (["--results", "{annotations}", "--weights", "x"], 2, "results: expected alone"),
        (["--weights", "{weights}", "--batch-size", "0"], 2, "batch_size: expected at least 1, got 0"),
        (["--weights", "{weights}", "--num-workers", "-1"], 2, "num_workers"),
        (["--weights", "{weights}", "--max-detections", "0"], 2, "max_detections"),
        (["--weights", "nosuch.safetensors"], 1, "nosuch.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_messages(run: Run, weights: Path, scenes: Path, arguments: list[str], code: int, message: str) -> None:
    annotations = scenes / "annotations" / "val.json"
    filled = [item.format(annotations=annotations, weights=weights) for item in arguments]
    outcome = run("eval", "--data", scenes, "--device", "cpu", *filled)
    assert outcome.code == code
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_model_with_other_classes(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations" / "val.json").read_text())
    for category in content["categories"]:
        category["name"] = f"other {category['name']}"
    for part in ("annotations", "images/train", "images/val"):
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
    outcome = run("eval", "--data", tmp_path, "--weights", weights, "--device", "cpu")
    assert outcome.code == 1
    assert "other" in outcome.err
