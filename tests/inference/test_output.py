from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from protomask.errors import ConfigError, DataError, ProtomaskError
from protomask.inference.draw import draw_instances
from protomask.inference.output import PredictionWriter, read_coco_ids
from protomask.ops.masks import Polygon, decode_rle, polygons_to_mask
from protomask.structures.instances import Instances

SIZE = (40, 60)
NAMES = ("disc", "ring")


def found(mask_scores: list[float] | None = None) -> Instances:
    """A disc in two parts, a ring with a hole that overlaps it, and an instance without a single pixel."""
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[0, 5:15, 5:20] = True
    masks[0, 30:35, 40:50] = True
    masks[1, 10:30, 10:30] = True
    masks[1, 15:20, 15:20] = False
    return Instances(
        boxes=torch.tensor([[5, 5, 50, 35], [10, 10, 30, 30], [1, 1, 2, 2]], dtype=torch.float32),
        labels=torch.tensor([0, 1, 0]),
        class_scores=torch.tensor([0.75, 0.5, 0.25]),
        mask_scores=None if mask_scores is None else torch.tensor(mask_scores),
        masks=masks,
        image_size=SIZE,
        class_names=NAMES,
    )


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_overlays_are_lossless_and_names_stay_apart(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "out") as writer:
        written = [writer.write(name, image(), found()) for name in ("a/x.jpg", "b/x.jpg", "b/X.png", "x_2.jpg")]
    assert [path.name for paths in written for path in paths] == ["x.png", "x_2.png", "X_3.png", "x_2_2.png"]
    assert names(tmp_path / "out") == sorted(["x.png", "x_2.png", "X_3.png", "x_2_2.png"])
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out" / "x_2.png")), draw_instances(image(), found())
    )


def test_jpeg_overlays_and_draw_options(tmp_path: Path) -> None:
    options = {"masks": False, "boxes": False, "labels": False}
    with PredictionWriter(tmp_path, overlay_format="jpg", draw_options=options) as writer:
        writer.write("x.png", np.full((*SIZE, 3), 90, np.uint8), found())
    assert names(tmp_path) == ["x.jpg"]
    assert (np.asarray(Image.open(tmp_path / "x.jpg")) == 90).all()


def test_nothing_asked_nothing_written(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "out", overlay=False) as writer:
        assert writer.write("x.png", image(), found()) == []
    assert names(tmp_path) == []


def test_coco_results(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, overlay=False, coco_json=True) as writer:
        writer.write("a/x.jpg", image(), found())
        writer.write("a/empty.jpg", image(), found()[:0])
        writer.write("b/x.jpg", image(), found())
        assert "predictions.json" not in names(tmp_path)
    assert names(tmp_path) == ["images.json", "predictions.json"]
    rows = read(tmp_path / "predictions.json")
    assert [(row["image_id"], row["category_id"], row["score"]) for row in rows] == [
        (1, 1, 0.75), (1, 2, 0.5), (1, 1, 0.25), (3, 1, 0.75), (3, 2, 0.5), (3, 1, 0.25),
    ]  # fmt: skip
    assert rows[0]["bbox"] == [5, 5, 45, 30]
    for row, mask in zip(rows, [*found().masks, *found().masks], strict=True):
        assert torch.equal(decode_rle(row["segmentation"]), mask)
    listing = read(tmp_path / "images.json")
    assert listing["images"][2] == {"id": 3, "file_name": "b/x.jpg", "height": 40, "width": 60}
    assert listing["categories"] == [{"id": 1, "name": "disc"}, {"id": 2, "name": "ring"}]


def test_official_reader_takes_both_files(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    with PredictionWriter(tmp_path, overlay=False, coco_json=True) as writer:
        writer.write("x.jpg", image(), found())
    results = coco.COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "predictions.json"))
    annotation = results.loadAnns([1])[0]
    np.testing.assert_array_equal(results.annToMask(annotation).astype(bool), found().masks[0].numpy())


def test_all_kinds_together_equal_each_kind_alone(tmp_path: Path) -> None:
    kinds = ("overlay", "coco_json", "jsonl", "polygons", "label_map")
    scores = [0.5, 0.9, 0.1]
    with PredictionWriter(tmp_path / "all", **dict.fromkeys(kinds, True)) as writer:
        writer.write("x.jpg", image(), found(scores))
    for kind in kinds:
        with PredictionWriter(tmp_path / "alone", **{**dict.fromkeys(kinds, False), kind: True}) as writer:
            writer.write("x.jpg", image(), found(scores))
    assert names(tmp_path / "all") == names(tmp_path / "alone")
    for name in names(tmp_path / "all"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


@pytest.mark.parametrize("images", [0, 1])
def test_empty_results_are_an_empty_list(tmp_path: Path, images: int) -> None:
    with PredictionWriter(tmp_path, coco_json=True, jsonl=True, polygons=True, label_map=True) as writer:
        for _ in range(images):
            writer.write("x.jpg", image(), found()[:0])
    assert read(tmp_path / "predictions.json") == []
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == images
    if images:
        assert read(tmp_path / "polygons" / "x.geojson")["features"] == []
        assert not np.asarray(Image.open(tmp_path / "label_maps" / "x.png")).any()


def test_an_interrupted_run_leaves_no_list_that_looks_complete(tmp_path: Path) -> None:
    def interrupted() -> None:
        with PredictionWriter(tmp_path, overlay=False, coco_json=True, jsonl=True) as writer:
            writer.write("x.jpg", image(), found())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["predictions.jsonl"]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 1


def test_json_lines_appear_as_images_finish(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, overlay=False, jsonl=True) as writer:
        for count, name in enumerate(("ä/x.jpg", "y.jpg"), start=1):
            writer.write(name, image(), found([0.5, 0.9, 0.1]))
            lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
            assert len(lines) == count
    first = json.loads(lines[0])
    assert (first["file"], first["size"]) == ("ä/x.jpg", [40, 60])
    # Ranked by class score x mask score, which turns the first two round.
    assert [row["class_name"] for row in first["instances"]] == ["ring", "disc", "disc"]
    top = first["instances"][0]
    assert (top["number"], top["label"], top["class_score"], top["box"]) == (1, 1, 0.5, [10, 10, 30, 30])
    assert top["score"] == pytest.approx(0.45)
    assert top["mask_score"] == pytest.approx(0.9)
    assert torch.equal(decode_rle(top["segmentation"]), found().masks[1])


def test_polygons_keep_parts_and_holes(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path, overlay=False, polygons=True) as writer:
        assert writer.write("x.jpg", image(), found()) == [tmp_path / "polygons" / "x.geojson"]
    content = read(tmp_path / "polygons" / "x.geojson")
    assert (content["type"], content["file"], content["size"]) == ("FeatureCollection", "x.jpg", [40, 60])
    assert [feature["properties"]["number"] for feature in content["features"]] == [1, 2, 3]
    assert [(feature["geometry"] or {}).get("type") for feature in content["features"]] == [
        "MultiPolygon", "Polygon", None,
    ]  # fmt: skip
    assert content["features"][1]["properties"]["mask_score"] is None
    for feature, mask in zip(content["features"][:2], found().masks, strict=False):
        geometry = feature["geometry"]
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        assert all(ring[0] == ring[-1] for part in parts for ring in part)
        polygons = [
            Polygon(np.array(part[0][:-1]), tuple(np.array(hole[:-1]) for hole in part[1:])) for part in parts
        ]  # fmt: skip
        assert torch.equal(polygons_to_mask(polygons, SIZE), mask)


@pytest.mark.parametrize(("mask_scores", "first"), [(None, 0), ([0.1, 0.9, 0.9], 1)])
def test_label_map_gives_shared_pixels_to_the_higher_score(
    tmp_path: Path, mask_scores: list[float] | None, first: int
) -> None:
    with PredictionWriter(tmp_path, overlay=False, label_map=True) as writer:
        paths = writer.write("x.jpg", image(), found(mask_scores))
    assert [path.name for path in paths] == ["x.png", "x.json"]
    numbers = np.asarray(Image.open(paths[0]))
    assert numbers.dtype == np.uint16
    rows = read(paths[1])["instances"]
    masks = found().masks.numpy()
    number_of_first = rows[0]["number"]
    assert number_of_first == 1
    assert rows[0]["class_name"] == NAMES[first]
    np.testing.assert_array_equal(numbers == 1, masks[first])
    assert [row["pixels"] for row in rows] == [int((numbers == row["number"]).sum()) for row in rows]
    np.testing.assert_array_equal(numbers > 0, masks.any(axis=0))


def test_ids_of_an_annotation_file(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 17, "file_name": "val/x.jpg"}, {"id": 4, "file_name": "x.jpg"}],
        "categories": [{"id": 90, "name": "ring"}, {"id": 3, "name": "disc"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(truth))
    image_ids, category_ids = read_coco_ids(tmp_path / "val.json", NAMES)
    assert category_ids == [3, 90]
    with PredictionWriter(
        tmp_path / "out", overlay=False, coco_json=True, image_ids=image_ids, category_ids=category_ids
    ) as writer:
        writer.write("/data/val/x.jpg", image(), found()[:2])
        writer.write("/data/train/x.jpg", image(), found()[:1])
        with pytest.raises(DataError, match=r"y\.jpg"):
            writer.write("/data/val/y.jpg", image(), found())
    rows = read(tmp_path / "out" / "predictions.json")
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(17, 3), (17, 90), (4, 3)]
    assert read(tmp_path / "out" / "images.json")["categories"][1] == {"id": 90, "name": "ring"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read as JSON"),
        ("[]", "expected COCO"),
        ('{"images": []}', "categories"),
        ('{"images": [], "categories": [{"id": 1, "name": "disc"}]}', "lacks ring"),
    ],
)
def test_bad_annotation_files(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "val.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco_ids(tmp_path / "val.json", NAMES)
    assert "val.json" in str(caught.value)


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    Image.fromarray(image()).save(tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    with PredictionWriter(tmp_path) as writer, pytest.raises(ConfigError, match="save_dir"):
        writer.write(tmp_path / "x.png", image(), found())
    assert (tmp_path / "x.png").read_bytes() == before


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        with PredictionWriter(tmp_path, coco_json=True, jsonl=True, polygons=True, label_map=True) as writer:
            writer.write("x.jpg", image(), found())
    assert names(tmp_path) == sorted(
        ["images.json", "label_maps/x.json", "label_maps/x.png", "polygons/x.geojson", "predictions.json",
         "predictions.jsonl", "x.png"]
    )  # fmt: skip
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 1


def test_disk_errors_name_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtomaskError, match="file"):
        PredictionWriter(tmp_path / "file")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with PredictionWriter(tmp_path / "out") as writer:
        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(ProtomaskError, match=r"x\.png: cannot be written: No space left on device"):
            writer.write("x.jpg", image(), found())
    assert names(tmp_path / "out") == []


def test_unknown_overlay_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overlay_format"):
        PredictionWriter(tmp_path, overlay_format="bmp")  # type: ignore[arg-type]
