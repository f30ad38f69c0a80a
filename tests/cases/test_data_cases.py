"""Small inputs as tools write them and as users hand them over: what becomes of each, and of its variants."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.coco.schema import DataWarning
from protomask.data.doctor.check import check_dataset
from protomask.data.doctor.report import CheckReport
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError
from protomask.evaluation.coco import CocoEvaluator, evaluate_coco
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.truth import GroundTruth
from protomask.structures.coco_json import ImageIds, read_coco_ids

CASES = Path(__file__).parent / "data"
Content = dict[str, Any]


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(CASES / name, tmp_path / name))


def edit(folder: Path, change: Callable[[Content], Any], *, splits: tuple[str, ...] = ("train", "val")) -> Path:
    for split in splits:
        file = folder / "annotations" / f"{split}.json"
        content = json.loads(file.read_bytes())
        changed = change(content)
        file.write_bytes(changed if isinstance(changed, bytes) else json.dumps(content).encode())
    return folder


def mask_ap(folder: Path, *, results: str = "results.json") -> float | None:
    truth = folder / "annotations" / "val.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        metrics = evaluate_coco(truth, folder / results)
        table = metrics.mask
        dataset = CocoDataset.of_split(open_dataset(folder), "val")
        # What training is validated with says the same as the file.
        again = evaluate_coco(GroundTruth.load(dataset, masks=True), folder / results).mask
        rows = json.loads((folder / results).read_bytes())
        meter = QualityMeter(dataset)
        meter.update_rows(rows)
        judged = meter.compute().mask_ap["class_score"].AP
        assert (None if table is None else table.AP) == judged
    assert table is not None
    assert again is not None
    assert table.AP == again.AP
    return table.AP


def assert_one(value: float | None) -> None:
    assert value is not None
    assert abs(value - 1) < 1e-9


def errors(folder: Path, severity: Any = "error") -> str:
    return "\n".join(problem.message for problem in check_dataset(folder).of(severity))


def read_everything(folder: Path) -> list[int]:
    """Number of objects of each training and validation image, as training reads them."""
    paths = open_dataset(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        datasets = [CocoDataset.of_split(paths, split) for split in ("train", "val")]
        return [len(dataset[index][1].labels) for dataset in datasets for index in range(len(dataset))]


@pytest.mark.parametrize(
    "name",
    [
        "bom-annotations",
        "iscrowd-null",
        "area-null",
        "bbox-null",
        "size-as-float",
        "rle-of-double-size",
        "object-without-mask-in-val",
        "unused-category-of-same-name",
    ],
)
def test_what_check_accepts_training_and_evaluation_accept(name: str) -> None:
    assert errors(CASES / name) == ""
    assert min(read_everything(CASES / name)) > 0
    assert_one(mask_ap(CASES / name))


def with_keys(**changes: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        for entry in content["annotations"]:
            for key, value in changes.items():
                if value is ...:
                    entry.pop(key, None)
                else:
                    entry[key] = value

    return change


def _as_floats(content: Content) -> None:
    for entry in content["images"]:
        entry.update(id=float(entry["id"]), width=float(entry["width"]), height=float(entry["height"]))
    for entry in content["categories"]:
        entry["id"] = float(entry["id"])
    for entry in content["annotations"]:
        entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id", "iscrowd")})


def _wide(content: Content) -> None:
    for entry in content["annotations"]:
        entry["id"] += 10**30


def _in(encoding: str) -> Callable[[Content], bytes]:
    return lambda content: json.dumps(content, ensure_ascii=False).encode(encoding)


def _with_a_dropped_one(**changes: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["annotations"].append({**content["annotations"][0], "id": 999, **changes})

    return change


_HUGE = [-1e5, -1e5, 1e5, 1e5, 1e5, -1e5, -1e5, 1e5]
REPAIRED: dict[str, Callable[[Content], Any]] = {
    "iscrowd missing": with_keys(iscrowd=...),
    "iscrowd false": with_keys(iscrowd=False),
    "area missing": with_keys(area=...),
    "area not a number": with_keys(area="big"),
    "area NaN": with_keys(area=float("nan")),
    "bbox missing": with_keys(bbox=...),
    "bbox NaN": with_keys(bbox=[float("nan")] * 4),
    "bbox without area": with_keys(bbox=[0, 0, 0, 0]),
    "everything null": with_keys(iscrowd=None, area=None, bbox=None),
    "numbers as floats": _as_floats,
    "wide ids": _wide,
    "UTF-16": _in("utf-16"),
    "UTF-16 without a mark": _in("utf-16-le"),
    "UTF-32": _in("utf-32"),
    "UTF-8 with a mark": _in("utf-8-sig"),
    "one more without points": _with_a_dropped_one(segmentation=[]),
    "one more that is null": _with_a_dropped_one(segmentation=None),
    "one more that is an empty object": _with_a_dropped_one(segmentation={}),
    "one more of two points": _with_a_dropped_one(segmentation=[[1, 1, 5, 5]]),
    "one more that is NaN": _with_a_dropped_one(segmentation=[[1, 1, float("nan"), 5, 5, 1]]),
    "one more that is infinite": _with_a_dropped_one(segmentation=[[1, 1, float("inf"), 5, 5, 1]]),
    "one more of 1e9": _with_a_dropped_one(segmentation=[[1, 1, 1e9, 5, 5, 1]]),
    "one more of 1e300": _with_a_dropped_one(segmentation=[[1, 1, 1e300, 5, 5, -1e300]]),
    "one more of 400 digits": _with_a_dropped_one(segmentation=[[1, 1, 10**400, 5, 5, 1]]),
    "one more outside": _with_a_dropped_one(segmentation=[[200, 200, 220, 200, 220, 220]]),
    "one more of shares": _with_a_dropped_one(segmentation=[[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]),
}


@pytest.mark.parametrize("change", REPAIRED.values(), ids=REPAIRED.keys())
def test_repairs_are_the_same_everywhere(case: Callable[[str], Path], change: Callable[[Content], Any]) -> None:
    folder = edit(case("rle-of-double-size"), change)
    assert errors(folder) == ""
    assert read_everything(folder) == [2, 2, 2, 2]
    assert_one(mask_ap(folder))
    convert_dataset(folder, folder / "out", output_format="coco")
    assert read_everything(folder / "out") == [2, 2, 2, 2]


def _digits(key: str, count: int) -> Callable[[Content], bytes]:
    return lambda content: json.dumps(content).replace(f'"{key}": ', f'"{key}": {"9" * count}', 1).encode()


REFUSED: dict[str, tuple[Callable[[Content], Any], str]] = {
    "number of 5000 digits": (_digits("image_id", 5000), "not valid JSON"),
    "nested 100000 deep": (lambda _: b'{"images":' + b"[" * 100_000, "not valid JSON"),
    "not UTF-8": (lambda _: b'{"images": "\xff\xfe\xfa"}', "not valid JSON"),
    "empty": (lambda _: b"", "not valid JSON"),
    "bbox of 400 digits": (with_keys(bbox=[10**400, 1, 5, 5]), "expected a bbox of four numbers"),
    "bbox of text": (with_keys(bbox="5"), "expected a bbox of four numbers"),
    "iscrowd 2": (with_keys(iscrowd=2), "expected iscrowd 0 or 1"),
    "iscrowd of text": (with_keys(iscrowd="no"), "expected iscrowd 0 or 1"),
    "segmentation of text": (with_keys(segmentation="x"), "expected a segmentation"),
    "points as pairs": (with_keys(segmentation=[[[1, 1], [9, 1], [9, 9]]]), "expected polygons as lists"),
    "points as objects": (with_keys(segmentation=[{"x": 1, "y": 2}]), "expected polygons as lists"),
    "points of text": (with_keys(segmentation=[["1", "1", "5", "1", "5", "5"]]), "expected polygons as lists"),
    "RLE size of three": (with_keys(segmentation={"size": [60, 80, 1], "counts": "0"}), "expected an RLE size"),
    "RLE size of one": (with_keys(segmentation={"size": 60, "counts": "0"}), "expected an RLE size"),
    "RLE of a vast frame": (
        with_keys(segmentation={"size": [46340, 46340], "counts": [46340**2 - 9, 9]}),
        "expected an RLE",
    ),
    "RLE counts of another sum": (with_keys(segmentation={"size": [60, 80], "counts": [5, 5]}), "RLE counts that sum"),
    "RLE counts that end early": (
        with_keys(segmentation={"size": [60, 80], "counts": "oooo"}),
        "segmentation cannot be decoded",
    ),
    "RLE counts with a brace": (
        with_keys(segmentation={"size": [60, 80], "counts": "];:>0000{2"}),
        "segmentation cannot be decoded",
    ),
    "RLE counts as the text of bytes": (
        with_keys(segmentation={"size": [60, 80], "counts": "b'PPYo0'"}),
        "segmentation cannot be decoded",
    ),
    "category of text": (with_keys(category_id="x"), "unknown category_id"),
    "category as a list": (with_keys(category_id=[1]), "unknown category_id"),
    "vast image": (lambda content: content["images"][0].update(width=10**9), "expected the width and height"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_meant_is_refused_everywhere(
    case: Callable[[str], Path], change: Callable[[Content], Any], message: str
) -> None:
    folder = edit(case("rle-of-double-size"), change)
    assert message in errors(folder)
    truth = folder / "annotations" / "val.json"
    for attempt in (
        lambda: read_everything(folder),
        lambda: evaluate_coco(truth, folder / "results.json"),
        lambda: QualityMeter(truth),
        lambda: convert_dataset(folder, folder / "out", output_format="coco"),
    ):
        with pytest.raises(DataError) as caught:
            attempt()
        assert "train.json" in str(caught.value) or "val.json" in str(caught.value)


def test_an_outline_of_a_thousand_passages_takes_no_memory(case: Callable[[str], Path]) -> None:
    folder = edit(case("rle-of-double-size"), _with_a_dropped_one(segmentation=[_HUGE * 300]))
    assert errors(folder) == ""
    assert len(read_everything(folder)) == 4


def test_images_of_half_the_size_are_measured_in_the_frame_of_the_annotations() -> None:
    folder = CASES / "picture-of-half-size"
    assert "annotations are scaled" in errors(folder, "warning")
    dataset = CocoDataset.of_split(open_dataset(folder), "val")
    evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids)
    meter = QualityMeter(evaluator.truth, category_ids=dataset.category_ids)
    for index, image_id in enumerate(dataset.image_ids):
        image = dataset.load_pixels(index)
        target, _ = dataset.load_target(index, (image.shape[0], image.shape[1]))
        from protomask.structures.instances import Instances

        found = Instances(
            boxes=target.boxes.numpy(),
            labels=target.labels.numpy(),
            class_scores=np.full(len(target.labels), 0.9, dtype=np.float32),
            masks=target.masks.numpy(),
            image_size=(image.shape[0], image.shape[1]),
            class_names=dataset.class_names,
        )
        evaluator.update(image_id, found)
        meter.update(image_id, found)
    metrics = evaluator.evaluate()
    assert metrics.mask is not None
    assert_one(metrics.mask.AP75)
    assert metrics.box is not None
    assert_one(metrics.box.AP75)
    assert_one(meter.compute().mask_ap["class_score"].AP75)


def test_results_of_half_the_size_are_scaled_with_a_warning(case: Callable[[str], Path]) -> None:
    folder = case("rle-of-double-size")
    rows = json.loads((folder / "results.json").read_bytes())
    for row in rows:
        from protomask.data.coco.segmentation import fit_rle

        row["segmentation"] = {
            "size": [120, 160],
            "counts": fit_rle(row["segmentation"], (120, 160))["counts"].decode(),
        }
        row.pop("bbox", None)
    with pytest.warns(DataWarning, match="are scaled"):
        table = evaluate_coco(folder / "annotations" / "val.json", rows).mask
    assert table is not None
    assert_one(table.AP75)


@pytest.mark.parametrize("name", ["points-as-pairs"])
def test_points_as_pairs_are_named_everywhere(name: str) -> None:
    assert "pairs" in errors(CASES / name)
    with pytest.raises(DataError, match=r"annotation \d+: expected polygons as lists .* got pairs"):
        evaluate_coco(CASES / name / "annotations" / "val.json", CASES / name / "results.json")


def test_a_coordinate_that_is_no_number_costs_one_object(case: Callable[[str], Path]) -> None:
    folder = case("nan-coordinate")
    assert errors(folder) == ""
    assert "not finite" in errors(folder, "warning")
    with pytest.warns(DataWarning, match="not finite"):
        truth = GroundTruth.load(folder / "annotations" / "val.json", masks=True)
    assert len(truth.annotations) == sum(read_everything(folder)[2:])


@pytest.mark.parametrize(
    "name", ["name-composed-and-decomposed", "name-other-case", "name-percent-encoded", "predict-ids-backslash"]
)
def test_names_in_another_spelling_are_found(name: str) -> None:
    if name == "predict-ids-backslash":
        file = CASES / name / "annotations.json"
        names = [entry["name"] for entry in json.loads(file.read_bytes())["categories"]]
        ids = ImageIds(read_coco_ids(file, names).images)
        assert [ids.of(f"some/where/{image}.png") for image in ("p1", "p2")] == [41, 42]
        return
    assert errors(CASES / name) == ""
    assert len(read_everything(CASES / name)) == 4


@pytest.mark.parametrize(
    ("stated", "stored"),
    [
        ("a b.png", "a%20b.png"),
        ("./a.png", "a.png"),
        ("sub\\a.png", "sub/a.png"),
        ("SUB/A.PNG", "sub/a.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("\u1e69.png", "s\u0307\u0323.png"),
        ("STRASSE.png", "stra\u00dfe.png"),
        ("a%2Bb.png", "a+b.png"),
    ],
)
def test_spellings(tmp_path: Path, stated: str, stored: str) -> None:
    from protomask.data.coco.layout import find_images

    (tmp_path / stored).parent.mkdir(exist_ok=True)
    (tmp_path / stored).touch()
    found = find_images([stated], tmp_path, tmp_path / "a.json")
    assert found.faults == []
    assert unicodedata.normalize("NFC", found.files[0]) == unicodedata.normalize("NFC", stored)


def test_a_name_that_fits_two_files_is_missing_and_one_is_named(tmp_path: Path) -> None:
    from protomask.data.coco.layout import find_images

    for name in ("Photo.png", "photo.png", "other.png"):
        (tmp_path / name).touch()
    [fault] = find_images(["PHOTO.png"], tmp_path, tmp_path / "a.json").faults
    assert "(did you mean Photo.png?)" in str(fault)
    [fault] = find_images(["fother.png"], tmp_path, tmp_path / "a.json").faults
    assert "(did you mean other.png?)" in str(fault)


@pytest.mark.parametrize("name", ["segmentation-missing", "segmentation-null"])
def test_an_object_without_segmentation_is_dropped(case: Callable[[str], Path], name: str) -> None:
    folder = case(name)
    assert errors(folder) == ""
    assert "no segmentation, dropped" in errors(folder, "warning")
    done = convert_dataset(folder, folder / "out", output_format="coco")
    assert done.objects["train"] == 3


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation_is_warned_of_and_can_be_set(case: Callable[[str], Path], orientation: int) -> None:
    folder = case("exif-6-stored-size")
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = orientation
            image.save(path, exif=exif, quality=95)
    assert f"EXIF orientation {orientation}" in errors(folder, "warning")
    for choice in ("upright", "stored"):
        yaml = folder / f"{choice}.yaml"
        yaml.write_text(
            "train_annotations: annotations/train.json\ntrain_images: images/train\n"
            f"val_annotations: annotations/val.json\nval_images: images/val\nexif_orientation: {choice}\n"
        )
        assert "EXIF" not in errors(yaml, "warning")
        dataset = CocoDataset.of_split(open_dataset(yaml), "train")
        turned = choice == "upright" and orientation >= 5
        assert dataset.load_pixels(0).shape[:2] == dataset.image_size(0) == ((80, 60) if turned else (60, 80))
    yaml.write_text(yaml.read_text().replace("stored", "sideways"))
    with pytest.raises(DataError, match="exif_orientation: expected one of auto, upright, stored"):
        open_dataset(yaml)


@pytest.mark.parametrize("name", ["layout-cvat-default", "layout-images-train2017", "train-on-an-export-folder"])
def test_layouts_of_exports_are_converted(tmp_path: Path, name: str) -> None:
    done = convert_dataset(CASES / name, tmp_path / "out", output_format="coco")
    assert set(done.images.values()) == {2}
    with pytest.raises(DataError, match="protomask data convert"):
        open_dataset(CASES / name)
    assert "protomask data convert" in errors(CASES / name)


def _moved(folder: Path, annotations: str, images: str) -> Path:
    """A COCO export of one split in another layout."""
    source = CASES / "layout-cvat-default"
    (folder / annotations).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "annotations" / "instances_default.json", folder / annotations)
    shutil.copytree(source / "images" / "default", folder / images, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("labels.json", "data"),  # FiftyOne
        ("result.json", "images"),  # Label Studio
        ("train/_annotations.coco.json", "train"),  # Roboflow
        ("annotations/instances_Train.json", "images/Train"),  # CVAT with subsets
        ("annotations/instances_train2017.json", "train2017"),  # COCO
        ("annotations/train.json", "images"),
        ("export.json", "uploads/batch 1"),  # COCO Annotator
        ("via_export_coco.json", "."),  # VIA
    ],
)
def test_other_layouts_of_exports(tmp_path: Path, annotations: str, images: str) -> None:
    source = _moved(tmp_path / "in", annotations, images)
    assert convert_dataset(source, tmp_path / "out", output_format="coco").images == {"train": 2}
    assert "protomask data convert" in errors(source)


def test_regions_of_via(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "photo.png")
    shapes: list[dict[str, Any]] = [
        {"name": "polygon", "all_points_x": [2, 12, 12, 2], "all_points_y": [3, 3, 9, 9]},
        {"name": "rect", "x": 20, "y": 5, "width": 10, "height": 4},
        {"name": "circle", "cx": 20, "cy": 20, "r": 5},
        {"name": "ellipse", "cx": 20, "cy": 20, "rx": 5, "ry": 3, "theta": 0.3},
        {"name": "point", "cx": 2, "cy": 2},
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {"label": "cell"}} for shape in shapes]
    entry = {"filename": "photo.png", "size": 9, "regions": regions, "file_attributes": {}}
    for content in ({"photo.png9": entry}, {"_via_settings": {}, "_via_img_metadata": {"photo.png9": entry}}):
        (folder / "via.json").write_text(json.dumps(content))
        done = convert_dataset(folder, tmp_path / "out", output_format="coco")
        assert (done.source_format, done.class_names, done.objects) == ("via", ("cell",), {"train": 4})
        written = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
        assert [entry["area"] for entry in written["annotations"][:2]] == [60, 40]
        shutil.rmtree(tmp_path / "out")


def test_only_a_synthetic_set_is_overwritten(tmp_path: Path) -> None:
    from protomask.data.synthetic.write import write_dataset

    (tmp_path / "annotations").mkdir()
    own = tmp_path / "annotations" / "train.json"
    own.write_text("weeks of work")
    with pytest.raises(DataError, match="choose another folder"):
        write_dataset(tmp_path, images=1, seed=0, image_size=(64, 64), overwrite=True)
    assert own.read_text() == "weeks of work"
    own.unlink()
    write_dataset(tmp_path, images=2, seed=0, image_size=(64, 64), overwrite=True)
    mine = tmp_path / "images" / "train" / "000009.jpg"
    mine.write_text("mine")
    write_dataset(tmp_path, images=1, seed=1, image_size=(64, 64), overwrite=True)
    assert mine.read_text() == "mine"
    assert sorted(path.name for path in mine.parent.iterdir()) == ["000001.jpg", "000009.jpg"]
    own.write_text(json.dumps({"info": {}, "images": []}))
    with pytest.raises(DataError, match=r"train\.json is not of one"):
        write_dataset(tmp_path, images=1, seed=1, image_size=(64, 64), overwrite=True)


def test_archives_and_other_yaml_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(DataError, match="unpack the archive"):
        convert_dataset(tmp_path / "export.zip", tmp_path / "out", output_format="coco")
    with pytest.raises(DataError, match="unpack the archive"):
        open_dataset(tmp_path / "export.zip")
    with pytest.raises(DataError, match="protomask data convert"):
        open_dataset(CASES / "yolo-test-folder-absent" / "data.yaml")


def test_a_split_of_yolo_that_was_not_exported_is_noted(tmp_path: Path) -> None:
    done = convert_dataset(CASES / "yolo-test-folder-absent", tmp_path / "out", output_format="coco")
    assert done.images == {"train": 2, "val": 2}
    assert any("test folders or lists that are not there" in remark for remark in done.remarks)


@pytest.mark.parametrize("ending", [".TXT", ".Txt", ".txt"])
def test_label_files_are_found_whatever_their_ending(case: Callable[[str], Path], ending: str) -> None:
    folder = case("yolo-labels-upper-case")
    for path in list(folder.rglob("*.TXT")):
        path.rename(path.with_suffix(ending))
    done = convert_dataset(folder, folder / "out", output_format="coco")
    assert done.objects == {"train": 2, "val": 2}
    assert done.remarks == ()


def test_images_without_labels_are_noted(case: Callable[[str], Path]) -> None:
    folder = case("yolo-labels-upper-case")
    (folder / "labels" / "train" / "train0.TXT").unlink()
    done = convert_dataset(folder, folder / "out", output_format="coco")
    assert any("images without a label file" in remark for remark in done.remarks)


def test_brushed_masks_that_are_crowds(case: Callable[[str], Path]) -> None:
    folder = case("brush-masks-as-crowd")
    warned = errors(folder, "warning")
    assert "2 of 4 annotations are crowd regions" in warned
    assert "set iscrowd to 0" in warned
    done = convert_dataset(folder, folder / "coco", output_format="coco")
    assert any("crowd regions" in remark for remark in done.remarks)
    with pytest.raises(DataError, match=r"'leaf' are crowd regions .* set iscrowd to 0"):
        convert_dataset(folder, folder / "yolo", output_format="yolo")
    edit(folder, with_keys(iscrowd=1))
    assert "all 4 annotations are crowd regions" in errors(folder)


def test_a_category_of_the_same_name_without_objects_is_no_class(case: Callable[[str], Path]) -> None:
    folder = case("unused-category-of-same-name")
    assert "no object, left out" in errors(folder, "note")
    done = convert_dataset(folder, folder / "out", output_format="coco")
    assert len(done.class_names) == 2
    content = json.loads((folder / "annotations" / "val.json").read_bytes())
    names = {category["name"] for category in content["categories"]}
    assert set(read_coco_ids(folder / "annotations" / "val.json", sorted(names)).categories) <= {
        annotation["category_id"] for annotation in content["annotations"]
    }


def test_shares_of_the_image_are_named() -> None:
    warned = errors(CASES / "normalised-coordinates", "warning")
    assert "coordinates lie between 0 and 1" in warned


def test_results_with_the_text_of_bytes_name_their_row() -> None:
    folder = CASES / "results-counts-as-bytes-text"
    with pytest.raises(DataError, match=r"results\[0\] \(image id \d+\)"):
        evaluate_coco(folder / "annotations" / "val.json", folder / "results.json")


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [60, 80, 1], "counts": "0"},
        {"size": 3, "counts": "0"},
        {"size": [60, 80], "counts": "\u202e"},
        {"size": [60, 80], "counts": "];:>0000ID2<ND2<5000{0000000000k2"},
        {"size": [60, 80], "counts": 5},
        {"size": [60, 80], "counts": [1e300]},
        {"size": [10**6, 10**6], "counts": "0"},
        {"size": ["60", "80"], "counts": "0"},
        {"size": [60, 80]},
        [[1, 1, float("nan"), 5, 9, 9]],
        [[[1, 1], [5, 5], [1, 5]]],
        "x",
        5,
    ],
)
def test_odd_masks_of_results_name_their_row(segmentation: Any) -> None:
    truth = CASES / "rle-of-double-size" / "annotations" / "val.json"
    row = json.loads((CASES / "rle-of-double-size" / "results.json").read_bytes())[0]
    rows = [{**row, "segmentation": segmentation}]
    for attempt in (lambda: evaluate_coco(truth, rows), lambda: QualityMeter(truth).update_rows(rows)):
        with pytest.raises(DataError, match=r"results\[0\]"):
            attempt()


def test_results_that_are_numbered_otherwise_are_matched_by_name(case: Callable[[str], Path]) -> None:
    folder = case("results-numbered-otherwise")
    truth = folder / "annotations" / "val.json"
    with pytest.warns(DataWarning, match="numbered differently"):
        table = evaluate_coco(truth, folder / "predictions.json").mask
    assert table is not None
    assert_one(table.AP)
    index = json.loads((folder / "images.json").read_bytes())
    index["images"][0]["file_name"] = "of another data set.png"
    (folder / "images.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="of another data set"):
        evaluate_coco(truth, folder / "predictions.json")


def test_an_index_of_other_rows_is_not_used(case: Callable[[str], Path]) -> None:
    folder = case("results-numbered-otherwise")
    truth = folder / "annotations" / "val.json"
    index = json.loads((folder / "images.json").read_bytes())
    rows = json.loads((folder / "predictions.json").read_bytes())
    (folder / "images.json").write_text(json.dumps({**index, "images": [{"id": 777, "file_name": "x.png"}]}))
    evaluate_coco(truth, folder / "predictions.json")
    index["images"][0]["file_name"] = "of another data set.png"
    (folder / "images.json").write_text(json.dumps(index))
    (folder / "mine.json").write_text(json.dumps(rows))
    with pytest.warns(DataWarning, match="taken as they are"):
        evaluate_coco(truth, folder / "mine.json")
    index["images"][0]["file_name"] = index["images"][1]["file_name"]
    (folder / "images.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="several of its images have the name of one image"):
        evaluate_coco(truth, folder / "predictions.json")


def test_masks_that_no_machine_holds_are_refused(case: Callable[[str], Path]) -> None:
    def change(content: Content) -> None:
        content["images"][0].update(width=12000, height=12000)
        content["annotations"] += [{**content["annotations"][0], "id": 1000 + n} for n in range(100)]

    folder = edit(case("rle-of-double-size"), change, splits=("train",))
    assert "8 GiB" in errors(folder)
    with pytest.raises(DataError, match="8 GiB"):
        read_everything(folder)


LEAVING = ["../../../secret.png", "/etc/secret.png", "C:\\secret.png", "..\\..\\secret.png", "a\0b.png", "x" * 5000]


@pytest.mark.parametrize("name", [*LEAVING, "y" * 300 + ".png", "a/" * 3000 + "b.png", "\ud800.png"])
def test_names_that_leave_the_folder_are_errors(case: Callable[[str], Path], name: str) -> None:
    folder = case("rle-of-double-size")
    shutil.copy(folder / "images" / "train" / "train1.png", folder / "secret.png")
    edit(folder, lambda content: content["images"][0].update(file_name=name))
    assert "file_name" in {problem.kind for problem in check_dataset(folder).of("error")}
    with pytest.raises(DataError, match=r"train\.json"):
        convert_dataset(folder, folder / "out", output_format="coco")
    assert not (folder / "out").exists()
    evaluate_coco(folder / "annotations" / "val.json", [])


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/secret.png", "a\0.png", "x" * 5000 + ".png"])
def test_labelme_stays_inside(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "in" / "set"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    entry = {"shapes": [{"label": "a", "points": [[1, 1], [5, 1], [5, 5]]}], "imagePath": path, "imageData": None}
    (folder / "a.json").write_text(json.dumps(entry))
    with pytest.raises(DataError, match=r"a\.json: imagePath"):
        convert_dataset(folder, tmp_path / "out", output_format="coco")


@pytest.mark.parametrize("line", ["../secret.png", "/etc/secret.png", "a\0.png", "x" * 5000])
def test_yolo_lists_stay_inside(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "set"
    (folder / "labels").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    (folder / "data.yaml").write_text("train: train.txt\nnames: [a]\n")
    (folder / "train.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=r"train\.txt"):
        convert_dataset(folder, tmp_path / "out", output_format="coco")


def test_images_that_are_relative_links_can_be_linked(case: Callable[[str], Path], tmp_path: Path) -> None:
    folder = case("rle-of-double-size")
    (folder / "pool").mkdir()
    for path in list((folder / "images" / "train").iterdir()):
        path.rename(folder / "pool" / path.name)
        path.symlink_to(Path("../../pool") / path.name)
    convert_dataset(folder, tmp_path / "e" / "o", output_format="coco", link_images=True)
    made = list((tmp_path / "e" / "o").rglob("*.png"))
    assert len(made) == 4
    assert all(path.stat().st_size for path in made)


def test_a_report_of_a_damaged_set_is_plain_json(case: Callable[[str], Path]) -> None:
    folder = edit(case("rle-of-double-size"), with_keys(bbox=[10**400, 1, 5, 5]))
    report: CheckReport = check_dataset(folder)
    assert json.dumps(report.to_dict())
    assert os.fsencode(report.problems[0].message)
