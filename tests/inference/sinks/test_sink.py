from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protomask.errors import ConfigError, DataError, ProtomaskError
from protomask.inference.sinks.lists import CocoSink, JsonLinesSink, TableSink
from protomask.inference.sinks.pictures import LabelMapSink, OverlaySink, PolygonSink
from protomask.inference.sinks.sink import Names, Sink, Sinks
from protomask.masks.grids import interpolate_runs
from protomask.structures import mask_sources
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import GridMasks
from sample_frames import NAMES, SIZE, files_in, found, frame, pixels, read_json

KINDS: dict[str, Callable[[Path], Sink]] = {
    "coco": CocoSink,
    "json lines": JsonLinesSink,
    "csv": TableSink,
    "overlay": OverlaySink,
    "polygons": lambda folder: PolygonSink(folder / "polygons"),
    "label maps": lambda folder: LabelMapSink(folder / "label_maps"),
}
if find_spec("pyarrow"):
    KINDS["parquet"] = lambda folder: TableSink(folder, "parquet")


def every_kind(folder: Path) -> Sinks:
    return Sinks([make(folder) for make in KINDS.values()])


class Recorder(Sink):
    """Remembers what it was given."""

    def __init__(self, *, refuses: str = "", fails: str = "") -> None:
        self.refuses = refuses
        self.fails = fails
        self.frames: list[Frame] = []
        self.closed: list[bool] = []

    def check(self, frame: Frame) -> None:
        if frame.source == self.refuses:
            raise DataError(f"{frame.source}: refused")

    def write(self, frame: Frame) -> list[Path]:
        self.frames.append(frame)
        return [Path(frame.source)]

    def close(self, *, complete: bool) -> None:
        self.closed.append(complete)
        if self.fails:
            raise ProtomaskError(self.fails)


def test_nothing_asked_nothing_written(tmp_path: Path) -> None:
    with Sinks([]) as sink:
        assert sink.write(frame()) == []
    assert files_in(tmp_path) == []


def test_all_kinds_together_equal_each_kind_alone(tmp_path: Path) -> None:
    scores = [0.5, 0.9, 0.1]
    with every_kind(tmp_path / "all") as sink:
        for name in ("a/x.jpg", "b/x.jpg"):
            sink.write(frame(name, found(scores)))
    for make in KINDS.values():
        with make(tmp_path / "alone") as sink:
            for name in ("a/x.jpg", "b/x.jpg"):
                sink.write(frame(name, found(scores).best_first()))
    assert files_in(tmp_path / "all") == files_in(tmp_path / "alone")
    for name in files_in(tmp_path / "all"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


def test_files_about_one_frame_number_its_instances_alike(tmp_path: Path) -> None:
    with every_kind(tmp_path) as sink:
        written = sink.write(frame(instances=found([0.1, 0.9, 0.5])))
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "x.png", "polygons/x.geojson", "label_maps/x.png", "label_maps/x.json",
    ]  # fmt: skip
    names = ["ring", "disc", "disc"]
    features = read_json(tmp_path / "polygons" / "x.geojson")["features"]
    assert [feature["properties"]["class_name"] for feature in features] == names
    assert [row["class_name"] for row in read_json(tmp_path / "label_maps" / "x.json")["instances"]] == names
    assert [row["class_name"] for row in read_json(tmp_path / "predictions.jsonl")["instances"]] == names
    assert [row["category_id"] for row in read_json(tmp_path / "predictions.json")] == [2, 1, 1]
    table = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3:5] for line in table] == [["1", "ring"], ["2", "disc"], ["3", "disc"]]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_frame_that_one_refuses_is_written_by_none(place: int) -> None:
    sinks = [Recorder(refuses="bad.jpg" if number == place else "") for number in range(3)]
    with Sinks(sinks) as sink:
        assert sink.write(frame("good.jpg")) == [Path("good.jpg")] * 3
        with pytest.raises(DataError, match=r"bad\.jpg: refused"):
            sink.write(frame("bad.jpg"))
        sink.write(frame("also good.jpg"))
    for one in sinks:
        assert [written.source for written in one.frames] == ["good.jpg", "also good.jpg"]
        assert one.closed == [True]


def test_a_frame_that_the_lists_refuse_leaves_no_image(tmp_path: Path) -> None:
    sinks = [OverlaySink(tmp_path), JsonLinesSink(tmp_path), CocoSink(tmp_path, image_ids={"x.jpg": 5})]
    with Sinks(sinks) as sink:
        with pytest.raises(DataError, match=r"y\.jpg: no image of this name"):
            sink.write(frame("y.jpg"))
        assert files_in(tmp_path) == []
        sink.write(frame("x.jpg"))
    assert [row["image_id"] for row in read_json(tmp_path / "predictions.json")] == [5, 5, 5]
    assert "x.png" in files_in(tmp_path)
    assert "y.png" not in files_in(tmp_path)


def test_a_group_in_a_group() -> None:
    inner = [Recorder(), Recorder(refuses="bad.jpg")]
    outer = Recorder()
    with Sinks([outer, Sinks(inner)]) as sink:
        with pytest.raises(DataError):
            sink.write(frame("bad.jpg"))
        assert len(sink.write(frame())) == 3
    assert [len(one.frames) for one in (outer, *inner)] == [1, 1, 1]
    assert [one.closed for one in (outer, *inner)] == [[True]] * 3


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, None])
def test_sinks_are_told_whether_all_frames_have_come(kind: type[BaseException] | None) -> None:
    sinks = [Recorder(), Recorder()]

    def work() -> None:
        with Sinks(sinks) as sink:
            sink.write(frame())
            if kind is not None:
                raise kind

    if kind is None:
        work()
    else:
        with pytest.raises(kind):
            work()
    assert [one.closed for one in sinks] == [[kind is None]] * 2


def test_every_sink_is_closed_also_where_another_one_fails() -> None:
    sinks = [Recorder(), Recorder(fails="first"), Recorder(fails="second"), Recorder()]
    with pytest.raises(ProtomaskError, match="first"):
        Sinks(sinks).close(complete=True)
    assert [one.closed for one in sinks] == [[True], [True], [False], [False]]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_run_leaves_only_what_is_whole(tmp_path: Path, kind: type[BaseException]) -> None:
    def interrupted() -> None:
        with every_kind(tmp_path) as sink:
            sink.write(frame())
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert files_in(tmp_path) == [
        "label_maps/x.json", "label_maps/x.png", "polygons/x.geojson", "predictions.jsonl", "x.png",
    ]  # fmt: skip


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    contents: list[dict[str, bytes]] = []
    for _ in range(2):
        with every_kind(tmp_path) as sink:
            sink.write(frame())
        # Parquet files name the version of their writer, and are the same for one.
        contents.append({name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)})
    assert contents[0] == contents[1]
    assert set(contents[0]) >= {
        "images.json", "label_maps/x.json", "label_maps/x.png", "polygons/x.geojson", "predictions.csv",
        "predictions.json", "predictions.jsonl", "x.png",
    }  # fmt: skip
    assert not any(name.endswith(".tmp") for name in contents[0])


def test_a_sink_that_cannot_be_made_leaves_nothing_of_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "polygons").write_text("in the way")
    with pytest.raises(ProtomaskError, match="polygons"):
        every_kind(tmp_path)
    assert files_in(tmp_path) == ["polygons"]


def test_a_frame_that_was_not_predicted_is_named(tmp_path: Path) -> None:
    with every_kind(tmp_path) as sink, pytest.raises(ConfigError, match=r"x\.jpg: expected a frame that was predicted"):
        sink.write(Frame(pixels(), source="x.jpg"))


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    Image.fromarray(pixels()).save(tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    recorder = Recorder()
    with Sinks([recorder, OverlaySink(tmp_path)]) as sink, pytest.raises(ConfigError, match="save_dir"):
        sink.write(frame(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes() == before
    assert recorder.frames == []


@pytest.mark.parametrize("in_order", [True, False])
def test_masks_are_interpolated_once_however_many_sinks_want_them(
    tmp_path: Path, in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    probs = np.zeros((3, 8, 12), dtype=np.float32)
    for number, grid in enumerate(probs):
        grid[number : number + 4, 2:7] = 0.9
    scores = np.array([0.9, 0.8, 0.7] if in_order else [0.7, 0.8, 0.9], dtype=np.float32)
    lazy = Instances(
        boxes=np.array([[10, 0, 35, 30]] * 3, dtype=np.float32),
        labels=np.zeros(3, dtype=np.int64),
        class_scores=scores,
        masks=GridMasks(probs, SIZE),
        image_size=SIZE,
        class_names=NAMES,
    )
    calls: list[int] = []

    def counted(windows: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(windows))
        return interpolate_runs(windows, *args, **kwargs)

    monkeypatch.setattr(mask_sources, "interpolate_runs", counted)
    with every_kind(tmp_path) as sink:
        assert len(sink.sinks) >= 5
        sink.write(frame(instances=lazy))
    assert calls == [3]


def test_names_of_many_frames_of_one_source_are_found_fast() -> None:
    names = Names()
    given = [names.next(frame("video.mp4", found()[:0])) for _ in range(3000)]
    assert given[:3] == ["video", "video_2", "video_3"]
    assert given[-1] == "video_3000"
    assert names.next(frame("other/video_7.png")) == "video_7_2"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/b.c.jpg", "b.c"), ("stdin", "stdin"), (".png", ".png"), ("", "image"), ("/", "image"),
        ("https://example.org/a/b.jpg", "b"), ("https://example.org/b.jpg?size=1/2.5&x#y", "b"),
        ("http://[bad/c.jpg", "c"), ("rtsp://camera/stream", "stream"),
    ],
)  # fmt: skip
def test_names_of_sources(source: str, name: str) -> None:
    assert Names().next(frame(source)) == name
