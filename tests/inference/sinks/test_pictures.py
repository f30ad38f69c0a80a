from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.errors import ConfigError, DataError, ProtomaskError
from protomask.inference.sinks.pictures import CropSink, LabelMapSink, OverlaySink, PolygonSink
from protomask.inference.sinks.sink import Sink
from protomask.masks.polygons import Polygon, polygons_to_mask
from protomask.structures.frame import Frame
from sample_frames import NAMES, SIZE, files_in, found, frame, pixels, read_json

KINDS: list[type[Sink]] = [OverlaySink, PolygonSink, LabelMapSink, CropSink]


def test_overlays_are_lossless_and_names_stay_apart(tmp_path: Path) -> None:
    with OverlaySink(tmp_path / "out") as sink:
        written = [sink.write(frame(name)) for name in ("a/x.jpg", "b/x.jpg", "b/X.png", "x_2.jpg")]
    assert [path.name for paths in written for path in paths] == ["x.png", "x_2.png", "X_3.png", "x_2_2.png"]
    assert files_in(tmp_path / "out") == sorted(["x.png", "x_2.png", "X_3.png", "x_2_2.png"])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "x_2.png")), found().draw(pixels()))


def test_jpeg_overlays(tmp_path: Path) -> None:
    gray = np.full((*SIZE, 3), 90, np.uint8)
    with OverlaySink(tmp_path, format="jpg") as sink:
        sink.write(Frame(gray, source="x.png", found=found()[:0]))
    assert files_in(tmp_path) == ["x.jpg"]
    assert (np.asarray(Image.open(tmp_path / "x.jpg")) == 90).all()


@pytest.mark.parametrize("color_by", ["auto", "class", "instance"])
def test_colours_stand_for_what_was_asked(tmp_path: Path, color_by: Any) -> None:
    with OverlaySink(tmp_path, color_by=color_by) as sink:
        [path] = sink.write(frame())
    np.testing.assert_array_equal(np.asarray(Image.open(path)), found().draw(pixels(), color_by=color_by))


def test_unknown_overlay_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="overlay_format: expected png or jpg, got 'bmp'"):
        OverlaySink(tmp_path / "out", format="bmp")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    with OverlaySink(tmp_path) as sink, pytest.raises(DataError, match=r"expected \(H, W\) = \(40, 60\)"):
        sink.write(Frame(pixels()[:-1], source="x.png", found=found()))
    assert files_in(tmp_path) == []


def test_polygons_keep_parts_and_holes(tmp_path: Path) -> None:
    with PolygonSink(tmp_path / "polygons") as sink:
        assert sink.write(frame()) == [tmp_path / "polygons" / "x.geojson"]
    content = read_json(tmp_path / "polygons" / "x.geojson")
    assert list(content) == ["type", "file", "size", "features"]
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
        np.testing.assert_array_equal(polygons_to_mask(polygons, SIZE), mask)


@pytest.mark.parametrize(("mask_scores", "first"), [(None, 0), ([0.1, 0.9, 0.9], 1)])
def test_label_map_gives_shared_pixels_to_the_higher_score(
    tmp_path: Path, mask_scores: list[float] | None, first: int
) -> None:
    with LabelMapSink(tmp_path / "label_maps") as sink:
        paths = sink.write(frame(instances=found(mask_scores).best_first()))
    assert [path.name for path in paths] == ["x.png", "x.json"]
    numbers = np.asarray(Image.open(paths[0]))
    assert numbers.dtype == np.uint16
    legend = read_json(paths[1])
    assert (legend["file"], legend["size"]) == ("x.jpg", [40, 60])
    rows, masks = legend["instances"], found().masks
    assert rows[0]["number"] == 1
    assert rows[0]["class_name"] == NAMES[first]
    np.testing.assert_array_equal(numbers == 1, masks[first])
    assert [row["pixels"] for row in rows] == [int((numbers == row["number"]).sum()) for row in rows]
    np.testing.assert_array_equal(numbers > 0, masks.any(axis=0))


def test_nothing_found(tmp_path: Path) -> None:
    for kind in KINDS:
        with kind(tmp_path / kind.__name__) as sink:  # type: ignore[call-arg]
            sink.write(frame(instances=found()[:0]))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "OverlaySink" / "x.png")), pixels())
    assert read_json(tmp_path / "PolygonSink" / "x.geojson")["features"] == []
    assert not np.asarray(Image.open(tmp_path / "LabelMapSink" / "x.png")).any()
    assert read_json(tmp_path / "LabelMapSink" / "x.json")["instances"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_never_overwritten(tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels()).save(tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    monkeypatch.chdir(tmp_path.parent)
    with kind(tmp_path) as sink:
        for source in (
            tmp_path / "x.png",
            Path(tmp_path.name) / "x.png",
            tmp_path / "." / ".." / tmp_path.name / "x.png",
        ):
            with pytest.raises(ConfigError, match="save_dir: expected a folder other than that of the images"):
                sink.check(frame(source))
        sink.check(frame("x.png"))
        sink.check(frame(tmp_path / "gone.png"))
        sink.check(frame("nul\0.png"))
    assert (tmp_path / "x.png").read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_disk_errors_name_the_path(tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtomaskError, match="file"):
        kind(tmp_path / "file")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with kind(tmp_path / "out") as sink:
        monkeypatch.setattr(Image.Image, "save", full)
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(ProtomaskError, match=r"x\w*\.\w+: cannot be written: No space left on device"):
            sink.write(frame())
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_that_was_not_predicted_is_named(tmp_path: Path, kind: Any) -> None:
    with kind(tmp_path) as sink, pytest.raises(ConfigError, match=r"x\.jpg: expected a frame that was predicted"):
        sink.write(Frame(pixels(), source="x.jpg"))
    assert files_in(tmp_path) == []


def test_crops(tmp_path: Path) -> None:
    with CropSink(tmp_path) as sink:
        written = sink.write(frame("photos/x.jpg"))
    assert [path.name for path in written] == ["x_001_disc.png", "x_002_ring.png"]  # the third has no pixel
    assert files_in(tmp_path) == [path.name for path in written]
    for path, one in zip(written, found(), strict=False):
        crop = np.asarray(Image.open(path))
        top, left, mask = one.window
        assert crop.shape == (*mask.shape, 4)
        np.testing.assert_array_equal(crop[:, :, 3] == 255, mask)
        assert set(np.unique(crop[:, :, 3])) <= {0, 255}
        part = pixels()[top : top + mask.shape[0], left : left + mask.shape[1]]
        np.testing.assert_array_equal(crop[mask][:, :3], part[mask])
        assert not crop[~mask].any()


@pytest.mark.parametrize(
    ("class_names", "names"),
    [
        (("traffic light", "a/b"), ["x_001_traffic-light", "x_002_a-b"]),
        (("../..", "猫"), ["x_001_object", "x_002_猫"]),
    ],
)
def test_names_of_crops(tmp_path: Path, class_names: tuple[str, str], names: list[str]) -> None:
    renamed = found().replace(class_names=class_names)
    assert [path.stem for path in CropSink(tmp_path).write(frame(instances=renamed))] == names


def test_crops_of_images_whose_names_run_together_stay_apart(tmp_path: Path) -> None:
    sink = CropSink(tmp_path)
    first = sink.write(frame("x.jpg", found().replace(class_names=("001_a", "b"))))
    second = sink.write(frame("x_001.jpg", found().replace(class_names=("a", "b"))))
    third = sink.write(frame("y/x.jpg", found().replace(class_names=("a", "b"))))
    assert len({path.name for path in (*first, *second, *third)}) == 6
    assert third[0].name == "x_2_001_a.png"
