from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.sinks.video import VideoSink
from protomask.inference.video.encoding import VideoFileOptions
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from sample_frames import files_in, frame
from video_files import RATE, gray, read_back, write_video

SIZE = (48, 64)


def plain(source: str, index: int, size: tuple[int, int] = SIZE) -> Frame:
    found = Instances.empty(size, ("thing",))
    return Frame(gray(index, size), source=source, index=index, time=index / RATE, found=found)


def image_of(one: Frame) -> Pixels:
    return one.image


def test_each_video_becomes_a_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path, draw=image_of) as sink:
        written = [sink.write(plain(source, index)) for source in ("in/a.mp4", "b.avi", "a.mkv") for index in range(4)]
    assert files_in(tmp_path) == ["a.mp4", "a_2.mp4", "b.mp4"]
    assert [paths[0].name for paths in written if paths] == ["a.mp4", "b.mp4", "a_2.mp4"]
    assert {tuple(read_back(tmp_path / name)[0]) for name in files_in(tmp_path)} == {(0, 1, 2, 3)}


def test_what_is_found_is_drawn(tmp_path: Path) -> None:
    one = frame("a.mp4", index=0, time=0.0)
    with VideoSink(tmp_path) as sink:
        sink.write(one)
    assert one.found is not None
    assert read_back(tmp_path / "a.mp4")[2] == (40, 60)


def test_frames_of_another_size_become_another_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path, draw=image_of) as sink:
        for index in range(4):
            sink.write(plain("camera:0", index, SIZE if index < 2 else (32, 32)))
    assert [read_back(tmp_path / name)[2] for name in files_in(tmp_path)] == [SIZE, (32, 32)]


def test_the_clock_and_rate_of_the_source_are_taken_over(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 3)
    out = tmp_path / "out"
    with VideoSink(out, VideoFileOptions(video_codec="h264"), draw=image_of) as sink:
        for index in range(3):
            sink.write(plain(str(source), index))
    assert read_back(out / "a.mp4")[1] == read_back(source)[1]


def test_an_error_leaves_a_part_that_plays(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path, draw=image_of)
    for index in range(5):
        sink.write(plain("a.mp4", index))
    sink.close(complete=False)
    assert files_in(tmp_path) == ["a.part.mp4"]
    assert read_back(tmp_path / "a.part.mp4")[0] == [0, 1, 2, 3, 4]


def test_the_folder_of_the_videos_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", 1)
    with pytest.raises(ConfigError, match="save_dir: expected a folder other than that of the images"):
        VideoSink(tmp_path).check(plain(str(source), 0))


def test_a_still_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a frame of a video, got a still image"):
        VideoSink(tmp_path).write(frame("a.png"))


def test_arrays_that_are_not_contiguous_are_written(tmp_path: Path) -> None:
    with VideoSink(tmp_path, draw=lambda one: np.flip(one.image, axis=1)) as sink:
        sink.write(plain("a.mp4", 3))
    assert read_back(tmp_path / "a.mp4")[0] == [3]
