from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from protomask.errors import DataError
from protomask.images.decode import Pixels
from protomask.inference.video.address import file_address
from protomask.inference.video.choice import Place
from protomask.inference.video.encoding import SourceInfo, source_info
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.reader import VideoFile
from protomask.structures.frame import Frame
from video_files import RATE, av, gray, number_of, set_rotation, write_sound, write_video


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def frames_of(path: Path, after: Place | None = None, **settings: Any) -> tuple[list[Frame], list[str]]:
    """All frames, read, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = [frame.read() for frame in VideoFile(file_address(path), VideoOptions(**settings), after=after)]
    return frames, [str(warning.message) for warning in caught]


def numbers(path: Path, **settings: Any) -> list[int]:
    frames, warned = frames_of(path, **settings)
    assert warned == []
    return [number_of(frame.image) for frame in frames]


def noisy(number: int, size: tuple[int, int]) -> Pixels:
    """A gray that does not vanish when it is compressed, so that a file can be cut."""
    noise = np.random.default_rng(number).integers(-20, 20, (*size, 3))
    image: Pixels = np.clip(gray(number + 3, size) + noise, 0, 255).astype(np.uint8)
    return image


CONTAINERS: dict[str, dict[str, Any]] = {
    "mp4": {}, "mkv": {}, "mov": {}, "ts": {}, "flv": {}, "h264": {}, "avi": {"codec": "mpeg4"},
    "webm": {"codec": "libvpx-vp9"}, "y4m": {"codec": "rawvideo"},
}  # fmt: skip


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_containers(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 8, **CONTAINERS[suffix])
    frames, warned = frames_of(path)
    assert warned == []
    assert [number_of(frame.image) for frame in frames] == list(range(8))
    assert [frame.index for frame in frames] == list(range(8))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(8) / RATE, atol=0.002)  # type: ignore[arg-type]
    assert {(frame.source, frame.image.shape, frame.captured) for frame in frames} == {(str(path), (48, 64, 3), None)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every": 5}, [0, 5, 10, 15, 20, 25]),
        ({"fps": 5}, [0, 5, 10, 15, 20, 25]),
        ({"start": 0.5, "end": "0.8"}, list(range(13, 20))),
        ({"start": "0:01", "every": 2}, [25, 27, 29]),
    ],
)
def test_what_is_read(settings: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    assert numbers(write_video(tmp_path / "a.mp4", 30), **settings) == expected


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_range_is_exact_and_need_not_be_decoded_from_the_beginning(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 30, times=[number / 2 for number in range(30)], gop=4)
    monkeypatch.setattr("protomask.inference.video.reader.choose", spy := _Spy())
    assert numbers(path, start=11.9, end=13.2) == [24, 25, 26]
    assert spy.times[0] > 1.5


class _Spy:
    """`choose` that remembers the times it was given."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, timed: Any, *more: Any) -> Any:
        from protomask.inference.video.choice import choose

        def watched() -> Iterator[Any]:
            for time, item in timed:
                self.times.append(time)
                yield time, item

        return choose(watched(), *more)


def test_going_on_after_a_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30)
    whole, _ = frames_of(path, every=4)
    rest, warned = frames_of(path, after=Place(2, 8 / RATE), every=4)
    assert warned == []
    assert [(frame.index, frame.time) for frame in rest] == [(frame.index, frame.time) for frame in whole[3:]]
    assert frames_of(path, after=Place(29, 29 / RATE)) == ([], [])


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.51, 2.0, 2.2]
    frames, warned = frames_of(write_video(tmp_path / "a.mp4", 6, times=times))
    assert warned == []
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv422p10le"), ("libx265", "yuv420p10le"), ("libx264", "yuv444p")]
)
def test_ten_bits_and_more_color(codec: str, pix_fmt: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 3, codec=codec, pix_fmt=pix_fmt)
    assert numbers(path) == [0, 1, 2]


def test_a_title_that_is_not_utf_8(tmp_path: Path) -> None:
    path = write_video(tmp_path / "named.avi", 2, codec="mpeg4", title="A STREET")
    path.write_bytes(path.read_bytes().replace(b"A STREET", b"\x82\xe8 \xff\xfe\x82\xe8 "))
    frames, warned = frames_of(path)
    assert (len(frames), warned) == (2, [])
    assert source_info(str(path)) != SourceInfo()  # it was read


def test_odd_sides(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 2, size=(33, 47), codec="libx264", pix_fmt="yuv444p")
    assert [frame.image.shape for frame in frames_of(path)[0]] == [(33, 47, 3)] * 2


def corner(number: int, size: tuple[int, int]) -> Pixels:
    """White in the upper left quarter, gray in the upper right one."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[: size[0] // 2, : size[1] // 2] = 255
    image[: size[0] // 2, size[1] // 2 :] = 128
    return image


TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = {
    "upright": ((1, 0, 0, 1), lambda image: image),
    "a quarter to the right": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "a quarter to the left": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(turn: str, tmp_path: Path) -> None:
    matrix, expected = TURNS[turn]
    path = write_video(tmp_path / "a.mp4", 2, paint=corner)
    set_rotation(path, matrix)
    frames, warned = frames_of(path)
    assert warned == []
    wanted = expected(corner(0, (48, 64)))
    assert frames[0].image.shape == wanted.shape
    assert frames[0].image.flags.c_contiguous
    assert np.abs(frames[0].image.astype(int) - wanted).mean() < 8


def test_one_frame(tmp_path: Path) -> None:
    assert numbers(write_video(tmp_path / "a.mp4", 1)) == [0]


@pytest.mark.parametrize(("suffix", "container"), [("mp4", {"movflags": "faststart"}), ("mkv", {}), ("ts", {})])
def test_a_file_that_is_cut_off_gives_all_it_has_and_says_so(
    suffix: str, container: dict[str, str], tmp_path: Path
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", 28, size=(96, 128), paint=noisy, container=container)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames, warned = frames_of(path)
    assert 8 <= len(frames) < 22
    assert [number_of(frame.image) for frame in frames[:8]] == list(range(3, 11))
    assert len(warned) >= 1
    assert all(text.startswith(f"{path}: ") for text in warned)
    assert any("cut off" in text or "damaged" in text for text in warned)


def test_a_damaged_file_goes_on_behind_the_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 28, size=(96, 128), paint=noisy)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = np.random.default_rng(0).bytes(1000)
    path.write_bytes(content)
    frames, warned = frames_of(path)
    assert len(frames) > 20
    assert number_of(frames[-1].image) == 30
    assert any("damaged" in text for text in warned)


def broken(folder: Path) -> dict[str, Path]:
    """Files that give no frame."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video " * 100)
    content = write_video(folder / "index.mp4", 20).read_bytes()
    (folder / "index.mp4").write_bytes(content[: len(content) // 2])
    write_sound(folder / "sound.m4a")
    return {name: folder / name for name in ("empty.mp4", "text.mp4", "index.mp4", "sound.m4a", "missing.mp4")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "it is damaged, cut off before its index, or no video"),
        ("index.mp4", "it is damaged, cut off before its index, or no video"),
        ("sound.m4a", "expected a video, got only sound"),
        ("missing.mp4", "No such file or directory"),
    ],
)
def test_what_gives_no_frame_is_one_error(name: str, message: str, tmp_path: Path) -> None:
    path = broken(tmp_path)[name]
    [frame], warned = frames_of(path)
    assert warned == []
    assert isinstance(frame.error, DataError)
    assert str(frame.error).startswith(f"{path}: ")
    assert message in str(frame.error)
    with pytest.raises(DataError):
        _ = frame.image


def test_a_range_outside_the_video_is_an_error(tmp_path: Path) -> None:
    [frame], _ = frames_of(write_video(tmp_path / "a.mp4", 10), start="0:05")
    assert "start: expected a time within the video, whose last frame is at 0.360 s, got none from 5 s on" in str(
        frame.error
    )


def test_leaving_early_ends_the_thread_and_frames_stay_readable(tmp_path: Path) -> None:
    with closing(iter(VideoFile(file_address(write_video(tmp_path / "a.mp4", 30))))) as frames:
        first = next(frames)
    assert number_of(first.image) == 0


def test_no_thread_at_all(tmp_path: Path) -> None:
    video = VideoFile(file_address(write_video(tmp_path / "a.mp4", 5)), ahead=0)
    assert [number_of(frame.image) for frame in video] == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_frames_of_8k(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2, size=(4320, 7680))
    frames, warned = frames_of(path)
    assert warned == []
    assert [(number_of(frame.image), frame.image.shape) for frame in frames] == [
        (0, (4320, 7680, 3)), (1, (4320, 7680, 3)),
    ]  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
def test_frames_are_let_go_without_a_search_for_cycles(turned: bool, tmp_path: Path) -> None:
    """Python does not know how large they are, and would look for cycles much too late."""
    path = write_video(tmp_path / "a.mp4", 30)
    if turned:
        set_rotation(path, (0, 1, -1, 0))
    gc.collect()
    gc.disable()
    try:
        for frame in VideoFile(file_address(path)):
            _ = frame.image
        alive = sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 6  # the last ones, and the one whose matrix was looked at
