from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

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
    told = run("eval", "--data", data, "--results", results, "--errors", "--json").json
    assert told["box"]["AP"] == told["mask"]["AP"] == told["errors"]["boundary"]["AP"] == 1.0
    assert {tally["count"] for tally in told["errors"]["faults"]["faults"].values()} == {0}


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


def test_quality_of_the_shipped_model(run: Run, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", scenes, "--model", "yolact_nano", "--num-workers", 0, "--device", "cpu"]
    plain = run("eval", *arguments, "--json").json
    assert "quality" not in plain
    assert list(tmp_path.iterdir()) == []
    arguments.append("--quality")
    outcome = run("eval", *arguments)
    assert outcome.code == 0
    assert "reliability diagram: reliability.svg" in outcome.out
    assert "the model has no mask scores" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert ElementTree.parse("reliability.svg").getroot().tag.endswith("svg")
    told = run("eval", *arguments, "--save-results", "out/found.json", "--json").json
    quality = told.pop("quality")
    assert told == plain
    assert quality["plot"] == str(Path("out/found_reliability.svg"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "found_bbox.json", "found_reliability.svg", "found_segm.json"
    ]  # fmt: skip
    assert quality["num_images"] == 3
    assert quality["all"]["count"] >= quality["matched"]["count"] > 0
    assert quality["all"]["class_score"]["spearman"] > 0
    assert quality["mask_ap"]["class_score"] == {name: told["mask"][name] for name in ("AP", "AP50", "AP75")}
    assert quality["mask_ap"]["product"] is quality["all"]["mask_score"] is quality["matched"]["product"] is None
    again = run("eval", "--data", scenes, "--results", "out/found.json", "--quality", "--json").json["quality"]
    assert {**again, "plot": None} == {**quality, "plot": None}


def test_quality_of_results_with_mask_scores(run: Run, scenes: Path, tmp_path: Path) -> None:
    rows = json.loads(truth_as_results(scenes / "annotations" / "val.json", tmp_path / "truth.json").read_text())
    for number, row in enumerate(rows):
        row["class_score"] = 0.9 - number / 100
        row["score"] = row["class_score"] * 0.5
    files = {name: tmp_path / f"{name}.json" for name in ("both", "pair_bbox", "pair_segm")}
    files["both"].write_text(json.dumps(rows))
    boxes = [{**row, "score": row["class_score"]} for row in rows]
    for row in (*boxes, *rows):
        del row["class_score"]
    files["pair_bbox"].write_text(json.dumps([{**row, "segmentation": None} for row in boxes]))
    files["pair_segm"].write_text(json.dumps([{**row, "bbox": None} for row in rows]))
    plot = tmp_path / "plots" / "quality.SVG"
    told = [
        run("eval", "--data", scenes, "--results", tmp_path / name, "--quality-plot", plot, "--json").json["quality"]
        for name in ("both.json", "pair.json")
    ]
    assert plot.is_file()
    assert told[0] == told[1]
    everything = told[0]["all"]
    assert everything["mean_iou"] == 1.0
    assert everything["mask_score"]["mean_absolute_error"] == pytest.approx(0.5)
    assert [one["AP"] for one in told[0]["mask_ap"].values()] == pytest.approx([1.0, 1.0])
    outcome = run(
        "eval", "--data", scenes, "--results", files["both"], "--quality-plot", plot, "--quality-min-score", 0.85
    )
    assert "product" in outcome.out
    assert f"all {sum(row['score'] > 0.85 for row in boxes)} detections, class score above 0.85" in outcome.out
    alone = run("eval", "--data", scenes, "--results", files["pair_segm"], "--quality-plot", plot)
    assert "the results hold one score for each mask" in alone.out
    files["pair_bbox"].write_text(json.dumps(boxes[::-1]))
    outcome = run("eval", "--data", scenes, "--results", tmp_path / "pair.json", "--quality-plot", plot)
    assert outcome.code == 1
    assert "do not list the same detections in one order" in outcome.err


@pytest.mark.parametrize("option", ["--quality-plot", "--save-results", "--errors-page"])
def test_folders_that_cannot_be_written_are_told_before_the_work(
    run: Run, scenes: Path, weights: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "name.svg"
    outcome = run("eval", "--data", scenes, "--weights", weights, option, target)
    assert outcome.code == 1
    assert f"{option[2:].replace('-', '_')}: cannot write to the folder of {target}" in outcome.err


def test_errors_of_the_shipped_model_and_of_its_results(run: Run, scenes: Path, tmp_path: Path) -> None:
    arguments = ["eval", "--data", scenes, "--model", "yolact_nano", "--num-workers", 0, "--device", "cpu"]
    saved, folder = tmp_path / "found.json", tmp_path / "page"
    outcome = run(*arguments, "--save-results", saved, "--errors-page", folder)
    assert outcome.code == 0
    assert "boundary only" in outcome.out
    assert f"errors: {folder / 'index.html'}" in outcome.out
    assert max(len(line) for line in outcome.out.splitlines() if str(tmp_path) not in line) <= 90
    numbers = json.loads((folder / "errors.json").read_text())
    told = run("eval", "--data", scenes, "--results", saved, "--errors", "--json").json
    assert told["errors"] == numbers
    for kind in ("box", "mask"):
        assert numbers[kind]["AP50"] == pytest.approx(told[kind]["AP50"], abs=1e-12)
    assert numbers["faults"]["AP"] == pytest.approx(told["mask"]["AP"], abs=1e-12)
    assert numbers["boundary"]["AP"] <= numbers["faults"]["AP"]
    strict = run("eval", "--data", scenes, "--results", saved, "--errors", "--errors-min-score", 0.9, "--json").json
    assert strict["errors"]["faults"]["examined"] < numbers["faults"]["examined"]
    assert strict["errors"]["boundary"] == numbers["boundary"]
    assert "errors" not in run("eval", "--data", scenes, "--results", saved, "--json").json


def test_perfect_results_have_no_errors(run: Run, scenes: Path, tmp_path: Path) -> None:
    results = truth_as_results(scenes / "annotations" / "val.json", tmp_path / "results.json")
    errors = run("eval", "--data", scenes, "--results", results, "--errors", "--json").json["errors"]
    for kind in ("box", "mask"):
        assert errors[kind]["correct"] == sum(errors["objects"]["by_size"].values())
        assert {tally["count"] for tally in errors[kind]["types"].values()} == {0}
    assert {tally["count"] for tally in errors["faults"]["faults"].values()} == {0}
    assert errors["boundary"]["AP"] == 1.0
    assert errors["worst_images"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--quality-plot", "plot.jpg"], 2, "quality_plot: expected a file name ending in .svg, got 'plot.jpg'"),
        (["--quality", "--quality-min-score", "1"], 2, "quality_min_score: expected a number from 0 to below 1"),
        (["--errors", "--errors-min-score", "-1"], 2, "errors_min_score: expected a number from 0 to below 1"),
        (["--results", "nosuch.json"], 1, "nosuch.json: no such file or folder"),
        (["--results", "{annotations}"], 1, "expected a list of COCO result objects"),
        (["--results", "{annotations}", "--weights", "x"], 2, "results: expected alone"),
        (
            ["--weights", "{weights}", "--batch-size", "0"],
            2,
            "batch_size: expected a whole number of at least 1, got 0",
        ),
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


def test_quality_of_boxes_alone(run: Run, scenes: Path, tmp_path: Path) -> None:
    results = tmp_path / "boxes.json"
    results.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}]))
    (tmp_path / "folder.svg").mkdir()
    for plot, message in (("plot.svg", "holds only boxes"), ("folder.svg", "is a folder")):
        outcome = run("eval", "--data", scenes, "--results", results, "--quality-plot", tmp_path / plot)
        assert outcome.code == 2
        assert message in outcome.err


def test_tiles(run: Run, weights: Path, scenes: Path) -> None:
    arguments = ["eval", "--data", scenes, "--weights", weights, "--device", "cpu", "--num-workers", 0, "--json"]
    whole, covering = run(*arguments), run(*arguments, "--tile", 64)
    assert covering.code == 0
    assert covering.json == whole.json
    tiled = run(*arguments, "--tile", 48, "--tile-overlap", 8)
    assert tiled.code == 0
    assert tiled.json["num_images"] == 3
    assert run(*arguments, "--tile", 48, "--tile-overlap", 48).code == 2
    outcome = run("eval", "--data", scenes, "--results", "none.json", "--tile", 64)
    assert "results: expected alone" in outcome.err


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


def test_model_that_knows_more_classes_than_the_data(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations" / "val.json").read_text())
    left = content["categories"].pop(2)
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] != left["id"]]
    (tmp_path / "val.json").write_text(json.dumps(content))
    paths = {"train_annotations": scenes / "annotations" / "train.json", "val_annotations": tmp_path / "val.json"}
    paths |= {"train_images": scenes / "images" / "train", "val_images": scenes / "images" / "val"}
    (tmp_path / "data.yaml").write_text("".join(f"{key}: {path}\n" for key, path in paths.items()))
    arguments = ["--weights", weights, "--device", "cpu", "--num-workers", 0, "--json"]
    fewer = run("eval", "--data", tmp_path / "data.yaml", *arguments)
    assert fewer.code == 0
    assert f"warning: not in the data, left out: {left['name']}\n" in fewer.err
    assert "DataWarning" not in fewer.err
    whole = run("eval", "--data", scenes, *arguments)
    rest = {name: row for name, row in whole.json["mask"]["per_class"].items() if name != left["name"]}
    assert fewer.json["mask"]["per_class"] == rest


@pytest.fixture
def with_test_split(scenes: Path, tmp_path: Path) -> Path:
    """A data set whose test split is the validation split of the scenes, and whose own has other images."""
    for kind in ("annotations", "images"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for split, source in (("train", "train"), ("val", "train"), ("test", "val")):
        (tmp_path / "data" / "annotations" / f"{split}.json").write_bytes(
            (scenes / "annotations" / f"{source}.json").read_bytes()
        )
        (tmp_path / "data" / "images" / split).symlink_to(scenes / "images" / source)
    return tmp_path / "data"


def found(run: Run, weights: Path, output: Path, *arguments: str | Path | int) -> tuple[Any, Any]:
    """What `eval` says, and what it found."""
    outcome = run(
        "eval", "--weights", weights, "--device", "cpu", "--num-workers", 0, "--json", "--save-results", output,
        *arguments,
    )  # fmt: skip
    assert outcome.code == 0
    return outcome.json, json.loads(output.with_name(f"{output.stem}_segm.json").read_text())


def test_another_split(run: Run, weights: Path, scenes: Path, with_test_split: Path, tmp_path: Path) -> None:
    expected = found(run, weights, tmp_path / "a.json", "--data", scenes)
    assert len(expected[1]) > 3
    assert found(run, weights, tmp_path / "b.json", "--data", with_test_split, "--split", "test") == expected
    assert found(run, weights, tmp_path / "c.json", "--data", with_test_split) != expected
    outcome = run("eval", "--data", with_test_split, "--split", "tset", "--weights", weights)
    assert outcome.code == 1
    assert "its splits are train, val, test; did you mean 'test'?" in outcome.err


def test_results_of_another_split(run: Run, weights: Path, with_test_split: Path, tmp_path: Path) -> None:
    arguments = ["--data", with_test_split, "--split", "test", "--json"]
    results = tmp_path / "results.json"
    model = ["--weights", weights, "--device", "cpu", "--num-workers", 0]
    measured = run("eval", *arguments, *model, "--save-results", results).json
    again = run("eval", *arguments, "--results", tmp_path / "results_segm.json").json
    assert again["mask"] == measured["mask"]


def test_another_input_size(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    own = found(run, weights, tmp_path / "a.json", "--data", scenes)
    assert found(run, weights, tmp_path / "b.json", "--data", scenes, "--image-size", 64) == own
    assert found(run, weights, tmp_path / "c.json", "--data", scenes, "--image-size", 96)[1] != own[1]
    outcome = run("eval", "--data", scenes, "--model", "yolact_nano", "--image-size", 512, "--num-workers", 0)
    assert outcome.code == 2
    assert "image_size: expected 256, the only size it was made for" in outcome.err


def test_some_of_the_classes(run: Run, weights: Path, scenes: Path, tmp_path: Path) -> None:
    names = [category["name"] for category in json.loads((scenes / "annotations/val.json").read_text())["categories"]]
    model = ["--weights", weights, "--num-workers", 0, "--device", "cpu"]
    told = run("eval", "--data", scenes, *model, "--classes", f"[{names[2]},{names[0]}]", "--json").json
    assert sorted(told["mask"]["per_class"]) == sorted([names[0], names[2]])
    outcome = run("eval", "--data", scenes, "--results", tmp_path / "x.json", "--classes", "[disk]")
    assert outcome.code == 2
    assert "expected alone" in outcome.err
