from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from protomask.errors import ConfigError, ProtomaskError
from protomask.inference.video.encoding import CODECS, CodecName, VideoFileOptions, source_info
from protomask.inference.video.parts import Parts
from protomask.inference.video.writer import VideoWriter, suffix_of
from video_files import RATE, av, gray, read_back, write_video

SIZE = (48, 64)


def writer(path: Path, size: tuple[int, int] = SIZE, codec: CodecName = "h264", **more: Any) -> VideoWriter:
    options = VideoFileOptions(
        video_codec=codec, **{key: more.pop(key) for key in ("bit_rate", "keep_audio") if key in more}
    )
    return VideoWriter(path.with_suffix(suffix_of(options)), size, options, **more)


def write(video: VideoWriter, numbers: range, start: float = 0.0) -> VideoWriter:
    for number in numbers:
        video.write(gray(number, video.size), start + number / RATE)
    return video


def available(codec: CodecName) -> Any:
    missing = not any(name in av.codecs_available for name in CODECS[codec].encoders)
    return pytest.param(codec, marks=pytest.mark.skipif(missing, reason="this build of PyAV has no such encoder"))


each_codec = pytest.mark.parametrize("codec", [available(name) for name in CODECS])


@each_codec
@pytest.mark.parametrize("size", [SIZE, (47, 65)])
def test_frames_come_back_at_their_times(codec: CodecName, size: tuple[int, int], tmp_path: Path) -> None:
    video = write(writer(tmp_path / "a", size, codec), range(20), start=3.0)
    video.close(complete=True)
    numbers, times, sides = read_back(video.path)
    assert numbers == list(range(20))
    np.testing.assert_allclose(times, np.arange(20) / RATE, atol=0.001)
    assert sides == (48, size[1] + size[1] % 2)
    assert [path.name for path in tmp_path.iterdir()] == [video.path.name]


def test_a_variable_rate_is_kept(tmp_path: Path) -> None:
    video = writer(tmp_path / "a")
    times = [0.0, 0.04, 0.5, 0.51, 2.0]
    for number, time in enumerate(times):
        video.write(gray(number, SIZE), time)
    video.close(complete=True)
    assert read_back(video.path)[1] == pytest.approx(times, abs=0.001)


def test_colors_are_kept(tmp_path: Path) -> None:
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    image[:, :32], image[:, 32:] = (200, 30, 60), (20, 160, 220)
    video = writer(tmp_path / "a")
    video.write(image, 0.0)
    video.close(complete=True)
    with av.open(str(video.path)) as container:
        back = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(back[8:40, 4:28].astype(int) - image[8:40, 4:28]).max() < 12
    assert np.abs(back[8:40, 36:60].astype(int) - image[8:40, 36:60]).max() < 12


@each_codec
def test_a_part_plays_and_can_be_continued(codec: CodecName, tmp_path: Path) -> None:
    video = write(writer(tmp_path / "a", codec=codec), range(20), start=1.0)
    video.close(complete=False)
    part = Parts(video.path)
    assert not video.path.exists()
    assert read_back(part.growing)[0] == list(range(20))
    assert part.frames() == 20

    video = write(writer(tmp_path / "a", codec=codec, keep=15, first=1.0), range(15, 30), start=1.0)
    video.close(complete=True)
    numbers, times, _ = read_back(video.path)
    assert numbers == list(range(30))
    np.testing.assert_allclose(times, np.arange(30) / RATE, atol=0.001)
    assert [path.name for path in tmp_path.iterdir()] == [video.path.name]


def test_continuing_can_itself_be_interrupted(tmp_path: Path) -> None:
    write(writer(tmp_path / "a"), range(20)).close(complete=False)
    video = writer(tmp_path / "a", keep=20)
    parts = Parts(video.path)
    parts.growing.replace(tmp_path / "a.earlier.mp4")  # as a process leaves it that is killed while it copies
    parts.growing.write_bytes(b"")
    assert parts.frames() == 20
    write(video, range(20, 25)).close(complete=True)
    assert read_back(video.path)[0] == list(range(25))


def test_a_complete_file_can_be_continued_too(tmp_path: Path) -> None:
    write(writer(tmp_path / "a"), range(5)).close(complete=True)
    video = write(writer(tmp_path / "a", keep=4), range(4, 9))
    video.close(complete=True)
    assert read_back(video.path)[0] == list(range(9))
    assert [path.name for path in tmp_path.iterdir()] == [video.path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (48, 80)}, "expected a part of 80x48 h264 .*, got 64x48 h264"),
        ({"bit_rate": 100_000}, "by the same encoder with the same settings"),
        ({"keep": 30}, "expected a part of 30 frames, got 20"),
    ],
)
def test_a_part_that_does_not_fit_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(writer(tmp_path / "a"), range(20)).close(complete=False)
    video = writer(tmp_path / "a", **{"keep": 20, **change})
    with pytest.raises(ProtomaskError, match=message):
        video.write(gray(20, video.size), 20 / RATE)
    video.close(complete=False)
    assert Parts(video.path).frames() == 20


def test_no_frame_makes_no_file(tmp_path: Path) -> None:
    writer(tmp_path / "a").close(complete=True)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_run_is_replaced(tmp_path: Path) -> None:
    write(writer(tmp_path / "a"), range(20)).close(complete=False)
    video = write(writer(tmp_path / "a"), range(3))
    video.close(complete=True)
    assert read_back(video.path)[0] == [0, 1, 2]


def test_the_bit_rate_of_the_source_is_kept(tmp_path: Path) -> None:
    def noise(number: int, size: tuple[int, int]) -> Any:
        return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)

    def written(name: str, bit_rate: Any) -> int:
        video = writer(tmp_path / name, info=source_info(str(source)), bit_rate=bit_rate)
        for number in range(25):
            video.write(noise(number, SIZE), number / RATE)
        video.close(complete=True)
        return video.path.stat().st_size

    source = write_video(tmp_path / "source.mp4", 25, paint=noise)
    low, kept = written("low", 50_000), written("kept", "source")
    assert low < 0.4 * kept
    assert 0.5 < kept / source.stat().st_size < 1.5


def sound_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.pts is not None]


def test_sound_is_kept_when_asked_and_in_time(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", 50, audio=True)
    for name, start, end in (("all", 0, 50), ("part", 25, 40)):
        video = writer(tmp_path / name, source=str(source), info=source_info(str(source)), keep_audio=True)
        write(video, range(start, end)).close(complete=True)
        times = sound_of(video.path)
        assert times[0] == pytest.approx(0.0, abs=0.13)
        assert times[-1] == pytest.approx((end - start) / RATE, abs=0.15)
    write(video := writer(tmp_path / "mute", source=str(source)), range(5)).close(complete=True)
    with av.open(str(video.path)) as container:
        assert len(container.streams.audio) == 0


def test_sound_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", 5, audio=True)
    video = writer(tmp_path / "a", codec="vp9", source=str(source), keep_audio=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(video, range(5)).close(complete=True)
    assert [str(warning.message) for warning in caught] == [
        f"{source}: its sound cannot be kept: aac does not go into a webm file"
    ]
    assert read_back(video.path)[0] == list(range(5))


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    video = writer(tmp_path / "none" / "a")
    with pytest.raises(ProtomaskError, match=r"none/a.mp4: cannot be written: No such file or directory"):
        video.write(gray(0, SIZE), 0.0)


def test_a_codec_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"libvpx-vp9"})
    with pytest.raises(ConfigError, match=r"video_codec: expected one that .* can write \(vp9\), got 'h264'"):
        writer(tmp_path / "a").write(gray(0, SIZE), 0.0)
