from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fake_predictor import CLASS_NAMES, Box, FakePredictor, scene
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.inference.predictor import STAGES, Clock, Predictor
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

NUT: tuple[Box, int, int] = ((2, 3, 10, 9), 0, 204)
BOLT: tuple[Box, int, int] = ((12, 20, 30, 28), 1, 102)
IMAGE = scene((40, 50), NUT, BOLT)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def assert_equal(one: Instances, other: Instances) -> None:
    assert one.image_size == other.image_size
    for field in ("boxes", "labels", "scores", "masks"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def write_images(folder: Path) -> list[Path]:
    """Three images of widths 9, 10 and 11, each with one object of that width."""
    paths = [folder / f"b{width}.png" for width in (9, 10, 11)]
    for width, path in zip((9, 10, 11), paths, strict=True):
        Image.fromarray(scene((5, width), ((0, 0, width, 4), 0, 255))).save(path)
    return paths


def test_the_base_class_is_no_predictor() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Predictor()  # type: ignore[abstract]
    assert FakePredictor().most_detections is None


def test_one_image_gives_its_instances() -> None:
    found = FakePredictor().predict(IMAGE)
    assert isinstance(found, Instances)
    assert found.class_names == CLASS_NAMES
    assert found.image_size == (40, 50)
    assert found.names == ["nut", "bolt"]
    np.testing.assert_allclose(found.scores, [0.8, 0.4])
    np.testing.assert_array_equal(found.boxes, np.array([NUT[0], BOLT[0]]))


def test_every_kind_of_image_gives_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    wanted = FakePredictor().predict(IMAGE)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), Image.fromarray(IMAGE),
                   torch.from_numpy(IMAGE).permute(2, 0, 1)):  # fmt: skip
        assert_equal(FakePredictor().predict(source), wanted)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (8, [3])])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_gives_a_list(tmp_path: Path, kind: type[Any], batch_size: int, sizes: list[int]) -> None:
    predictor, paths = FakePredictor(), write_images(tmp_path)
    found = predictor.predict(kind(paths), batch_size=batch_size)
    assert isinstance(found, list)
    assert [one.image_size for one in found] == [(5, 9), (5, 10), (5, 11)]
    assert [int(one.boxes[0, 2]) for one in found] == [9, 10, 11]
    assert [len(batch) for batch in predictor.batches] == sizes


def test_no_images() -> None:
    predictor = FakePredictor()
    assert predictor.predict([]) == predictor.predict(()) == predictor.predict_images([]) == []
    assert predictor.predict_images([], PredictOptions(tile=64)) == []
    assert predictor.batches == []


def test_changes_come_on_top_of_options() -> None:
    options = PredictOptions(score_threshold=0.5, max_detections=7)
    wanted: dict[PredictOptions, tuple[dict[str, Any], PredictOptions | None]] = {
        PredictOptions(): ({}, None),
        options: ({}, options),
        PredictOptions(score_threshold=0.1): ({"score_threshold": 0.1}, None),
        PredictOptions(score_threshold=0.5, max_detections=3): ({"max_detections": 3}, options),
        PredictOptions(score_threshold=0.5): ({"max_detections": None}, options),
    }
    for expected, (changes, given) in wanted.items():
        predictor = FakePredictor()
        predictor.predict(IMAGE, given, **changes)
        predictor.predict([IMAGE], given, **changes)
        list(predictor.stream(IMAGE, given, **changes))
        assert predictor.options == [expected] * 3
    assert options == PredictOptions(score_threshold=0.5, max_detections=7)


def test_options_reach_the_network() -> None:
    assert len(FakePredictor().predict(IMAGE, score_threshold=0.5)) == 1
    assert len(FakePredictor().predict(IMAGE, PredictOptions(max_detections=1))) == 1
    assert FakePredictor().predict_images([IMAGE], PredictOptions(score_threshold=0.9))[0].names == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 2}, "^score_threshold: expected"),
        ({"score_threshold": "0.3"}, "^score_threshold: expected"),
        ({"score_threshold": None}, "^score_threshold: expected"),
        ({"score_threshold": True}, "^score_threshold: expected"),
        ({"iou_threshold": -1}, "^iou_threshold: expected"),
        ({"candidate_threshold": float("nan")}, "^candidate_threshold: expected"),
        ({"max_detections": 0}, "^max_detections: expected"),
        ({"max_detections": 2.5}, "^max_detections: expected"),
        ({"nms": "greedy"}, "^nms: expected one of fast, .*got 'greedy'"),
        ({"batch_size": 0}, "^batch_size: expected"),
        ({"tile": 31}, "^tile: expected"),
        ({"tile": 64, "tile_overlap": 64}, "^tile_overlap: expected"),
        ({"score_treshold": 0.5}, "^score_treshold: no such option, did you mean score_threshold?; expected some of "),
        ({"colour": "red"}, "^colour: no such option; expected some of score_threshold, threshold_for, "),
        ({"options": {"score_threshold": 0.5}}, "^options: expected PredictOptions, got dict"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    predictor = FakePredictor()
    message = message.replace("?;", r"\?;")
    with pytest.raises(ConfigError, match=message):
        predictor.predict(IMAGE, **options)
    with pytest.raises(ConfigError, match=message):
        predictor.predict([], **options)
    # At once, not with the first frame.
    with pytest.raises(ConfigError, match=message):
        predictor.stream("no such file.png", **options)
    assert predictor.batches == []


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    images: list[Any] = [IMAGE, tmp_path / "gone.png"]
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        FakePredictor().predict(images)
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        FakePredictor().predict(tmp_path / "gone.png")
    with pytest.raises(DataError, match="image: expected a path"):
        FakePredictor().predict(5)  # type: ignore[call-overload]


def test_a_stream_gives_frames_in_order(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    for source in (tmp_path, str(tmp_path / "b*.png"), paths, iter(paths)):
        predictor = FakePredictor()
        frames = list(predictor.stream(source, batch_size=2, score_threshold=0.7))
        assert [frame.source for frame in frames] == [str(path) for path in paths]
        assert [(frame.index, frame.time) for frame in frames] == [(0, None), (1, None), (2, None)]
        for width, frame in zip((9, 10, 11), frames, strict=True):
            assert frame.image.shape == (5, width, 3)
            assert frame.found is not None
            assert frame.found.boxes.tolist() == [[0, 0, width, 4]]
        assert [len(batch) for batch in predictor.batches] == [2, 1]
        assert {options.score_threshold for options in predictor.options} == {0.7}


def test_a_stream_of_one_image() -> None:
    [frame] = FakePredictor().stream(IMAGE)
    assert frame.found is not None
    assert_equal(frame.found, FakePredictor().predict(IMAGE))


def test_a_stream_of_frames_keeps_their_times() -> None:
    video = [Frame(IMAGE, source="v.mp4", index=number, time=number / 25) for number in range(3)]
    frames = list(FakePredictor().stream(video))
    assert [(frame.index, frame.time, frame.source) for frame in frames] == [
        (0, 0.0, "v.mp4"), (1, 0.04, "v.mp4"), (2, 0.08, "v.mp4"),
    ]  # fmt: skip
    assert all(frame.found is not None for frame in frames)


def test_a_stream_takes_from_a_generator_only_what_it_needs() -> None:
    made: list[int] = []

    def camera() -> Iterator[Pixels]:
        for number in range(1000):
            made.append(number)
            yield IMAGE

    frames = FakePredictor().stream(camera())
    assert made == []
    assert next(frames).index == 0
    assert next(frames).index == 1
    assert len(made) <= 6
    frames.close()


def test_a_stream_ends_with_the_first_image_that_cannot_be_read(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    paths[1].write_bytes(b"no image")
    before = threading.active_count()
    frames = FakePredictor().stream(paths)
    assert next(frames).source == str(paths[0])
    with pytest.raises(DataError, match=r"b10\.png: not an image") as caught:
        next(frames)
    # Nothing runs on, though the error still knows where it came from.
    assert threading.active_count() <= before
    assert caught.value.__traceback__ is not None
    assert list(frames) == []


def test_a_stream_of_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        list(FakePredictor().stream(tmp_path / "gone"))


def test_several_streams_at_once() -> None:
    predictor = FakePredictor()
    streams = [predictor.stream([IMAGE] * 5) for _ in range(3)]
    for together in zip(*streams, strict=True):
        assert len({frame.index for frame in together}) == 1
    assert len(predictor.batches) == 15


def test_stages_add_up() -> None:
    timings: dict[str, float] = {}
    FakePredictor().predict_images([IMAGE], timings=timings)
    assert set(timings) <= set(STAGES)
    once = dict(timings)
    FakePredictor().predict_images([IMAGE], timings=timings)
    assert all(timings[stage] > once[stage] > 0 for stage in once)


def test_a_clock_waits_only_for_those_who_want_to_know() -> None:
    waited: list[int] = []
    Clock(None, lambda: waited.append(1)).stage("network")
    assert waited == []
    timings = {"network": 5.0}
    clock = Clock(timings, lambda: waited.append(1))
    clock.stage("network")
    clock.stage("postprocess")
    assert waited == [1, 1]
    assert timings["network"] > 5
    assert set(timings) == {"network", "postprocess"}


def test_the_image_is_known_where_it_can_be_read_again(tmp_path: Path) -> None:
    predictor = FakePredictor()
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    found = predictor.predict(path)
    assert found.image_source == str(path)
    np.testing.assert_array_equal(found.draw(), found.draw(IMAGE))
    assert predictor.predict(IMAGE).image_source is None
    assert predictor.predict(path.read_bytes()).image_source is None
    several: list[Any] = [path, IMAGE, str(path)]
    batches = predictor.predict(several, batch_size=2)
    assert [one.image_source for one in batches] == [str(path), None, str(path)]
    streamed = [frame.found.image_source for frame in predictor.stream([path, IMAGE]) if frame.found is not None]
    assert streamed == [str(path), None]
    frames = [Frame(IMAGE, source=str(path), time=0.5)]  # of a video, whose path gives no image
    assert [frame.found.image_source for frame in predictor.stream(frames) if frame.found is not None] == [None]
