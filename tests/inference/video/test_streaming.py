"""`Predictor.stream` and `Predictor.track` of videos."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from blob_predictor import SIZE, BlobPredictor, two_blobs, write_blobs
from protomask import VideoOptions
from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.inference.pipeline import follow_frames
from protomask.inference.tracking.build import build_tracker
from protomask.inference.tracking.options import TrackOptions
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def tracks(frame: Frame) -> list[int]:
    assert frame.found is not None
    assert frame.found.track_ids is not None
    ids: list[int] = frame.found.track_ids.tolist()
    return ids


def test_a_video_is_a_stream_of_frames_in_which_something_is_found(tmp_path: Path) -> None:
    video = write_blobs(tmp_path / "a.mp4", 12)
    frames = list(BlobPredictor().stream(video, video=VideoOptions(every=5)))
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.2), (2, 0.4)]
    assert [len(frame.found or ()) for frame in frames] == [2, 2, 2]
    assert {frame.source for frame in frames} == {str(video)}


def test_track_adds_identities(tmp_path: Path) -> None:
    predictor = BlobPredictor()
    frames = list(predictor.track(write_blobs(tmp_path / "a.mp4", 12)))
    assert [tracks(frame) for frame in frames] == [[1, 2]] * 12
    # Everything that the tracker wants to see is found.
    assert {options.score_threshold for options in predictor.options} == {TrackOptions().low_score}


def test_each_video_has_tracks_of_its_own(tmp_path: Path) -> None:
    videos = [write_blobs(tmp_path / name, 4) for name in ("a.mp4", "b.mp4")]
    assert [tracks(frame) for frame in BlobPredictor().track(videos)] == [[1, 2]] * 8


def test_a_tracker_and_its_settings_can_be_chosen(tmp_path: Path) -> None:
    video = write_blobs(tmp_path / "a.mp4", 4)
    demanding = BlobPredictor().track(video, tracking=TrackOptions(new_score=0.95))
    assert [tracks(frame) for frame in demanding] == [[]] * 4
    given = BlobPredictor().track(video, tracker=build_tracker(new_score=0.95))
    assert [tracks(frame) for frame in given] == [[]] * 4
    with pytest.raises(ConfigError, match="tracker: expected one of mask"):
        BlobPredictor().track(video, tracker="sort")  # type: ignore[arg-type]


def test_a_folder_of_frames_can_be_tracked(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.fromarray(two_blobs(number, SIZE)).save(tmp_path / f"{number}.png")
    frames = list(BlobPredictor().track(tmp_path, video=VideoOptions(fps=10)))
    assert [(frame.time, tracks(frame)) for frame in frames] == [(0.0, [1, 2]), (0.1, [1, 2]), (0.2, [1, 2])]


def test_what_cannot_be_read_is_raised(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    for frames in (BlobPredictor().stream(tmp_path / "a.mp4"), BlobPredictor().track(tmp_path / "a.mp4")):
        with pytest.raises(DataError, match=r"a\.mp4: the file is empty"):
            next(frames)


def test_leaving_early_ends_all_threads(tmp_path: Path) -> None:
    frames = BlobPredictor().track(write_blobs(tmp_path / "a.mp4", 30))
    next(frames)
    frames.close()


class Recorder:
    """A tracker that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def update(self, found: Instances, time: float | None = None, *, image: Pixels | None = None) -> Instances:
        assert image is not None
        self.asked.append(f"{found.image_size[0]} at {time}")
        return found.replace(track_ids=np.zeros(len(found), dtype=np.int64))

    def reset(self) -> None:
        self.asked.append("reset")


def test_another_source_or_size_begins_anew_and_errors_pass() -> None:
    def frame(source: str, height: int, time: float) -> Frame:
        found = Instances.empty((height, 4), ("thing",))
        return Frame(np.zeros((height, 4, 3), dtype=np.uint8), source=source, time=time, found=found)

    failed = Frame.failed(DataError("no"), source="a")
    given = [frame("a", 2, 0.0), failed, frame("a", 2, 0.1), frame("a", 3, 0.2), frame("b", 3, 0.0)]
    tracker = Recorder()
    followed = list(follow_frames(given, tracker))
    assert followed[1] is failed
    assert tracker.asked == ["reset", "2 at 0.0", "2 at 0.1", "reset", "3 at 0.2", "reset", "3 at 0.0"]
