from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("av")

from fake_predictor import FakePredictor
from local_stream import LocalStream, closed_port, wait_until
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError, DataError
from protomask.inference.pipeline import predict_frames
from protomask.inference.sources import open_source
from protomask.inference.video.address import Address
from protomask.inference.video.delays import Delays
from protomask.inference.video.library import VideoWarning
from protomask.inference.video.live import LiveStream
from protomask.inference.video.options import VideoOptions
from protomask.structures.frame import Frame
from video_files import number_of, write_video


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A transport stream of 30 frames."""
    return write_video(tmp_path_factory.mktemp("clip") / "a.ts", 30, gop=5).read_bytes()


def stream(url: str, give_up: float = 0.0) -> LiveStream:
    return LiveStream(Address(url, url, live=True), VideoOptions(give_up=give_up))


def test_the_newest_frame_is_used_and_what_came_before_is_dropped_and_counted(clip: bytes) -> None:
    with LocalStream([clip], pause=0.5) as server, closing(iter(source := stream(server.url))) as frames:
        first = next(frames)
        wait_until(lambda: source.captured >= 29)
        newest = next(frames)
        assert first.captured is not None
        assert newest.captured is not None
        assert newest.captured >= first.captured
        assert number_of(newest.image) == newest.index >= 28
        wait_until(lambda: source.captured == 30)
        assert source.dropped == 30 - 2 - (newest.index < 29)
        assert newest.source == server.url


def test_a_lost_stream_is_looked_for_again_and_said_to_be_back(clip: bytes) -> None:
    with (
        LocalStream([clip, clip]) as server,
        warnings.catch_warnings(record=True) as caught,
        closing(iter(stream(server.url, give_up=5.0))) as frames,
    ):
        warnings.simplefilter("always")
        taken = []
        for frame in frames:
            taken.append(frame)
            if len(caught) > 1:
                break
    times = [frame.time for frame in taken if frame.time is not None]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    said = [str(warning.message) for warning in caught if warning.category is VideoWarning]
    assert said[0] == f"{server.url}: lost after 30 frames (it ended); looking for it again"
    assert said[1].startswith(f"{server.url}: back after ")


def test_a_stream_that_does_not_come_back_ends_in_an_error(clip: bytes) -> None:
    with LocalStream([clip]) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *good, last = stream(server.url, give_up=0.5)
    assert good[-1].index == 29
    assert all(frame.error is None for frame in good)
    assert f"{server.url}: lost after 30 frames, and not back within 0.5 s" in str(last.error)


def test_a_stream_that_was_never_there_is_one_error() -> None:
    [frame] = stream(f"tcp://127.0.0.1:{closed_port()}", give_up=60)
    assert isinstance(frame.error, DataError)
    assert "cannot be opened as a video: Connection refused" in str(frame.error)


def test_it_can_be_stopped_while_nothing_comes(clip: bytes) -> None:
    with LocalStream([clip], pause=20) as server:
        source = stream(server.url)
        threading.Timer(0.5, source.stop).start()
        started = time.monotonic()
        assert all(frame.error is None for frame in source)
        assert time.monotonic() - started < 5
        server.__exit__(None, None, None)


def test_every_and_end_hold_for_streams_too(clip: bytes) -> None:
    with LocalStream([clip], pause=1.0) as server:
        source = LiveStream(Address(server.url, server.url, live=True), VideoOptions(every=10, end=1))
        frames = list(source)
    assert source.captured == 3
    assert {number_of(frame.image) for frame in frames} <= {0, 10, 20}


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = "testsrc=size=64x48:rate=100,format=yuv420p,trim=end_frame={}5"
    monkeypatch.setattr("protomask.inference.video.address._CAMERAS", {"linux": ("lavfi", pattern)})
    monkeypatch.setattr("sys.platform", "linux")
    source = open_source(1, video=VideoOptions(give_up=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *frames, last = source
    assert last.error is not None
    assert frames[0].image.shape == (48, 64, 3)
    assert {frame.source for frame in frames} == {"camera:1"}


def test_a_stream_is_no_source_among_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a camera or stream by itself, got 2 sources"):
        open_source(["rtsp://host/a", write_video(tmp_path / "a.mp4", 1)])


def test_nothing_of_a_stream_is_decoded_ahead() -> None:
    """Each frame is asked for when the network is free, so that it is the newest."""
    events: list[str] = []

    class Live:
        live = True

        def __iter__(self) -> Iterator[Frame]:
            for number in range(3):
                events.append(f"asked for {number}")
                yield Frame(lambda: __import__("numpy").zeros((4, 4, 3), "uint8"), source="live", index=number)

    predictor = FakePredictor(before=lambda: events.append("network"))
    assert len(list(predict_frames(predictor, Live(), PredictOptions()))) == 3
    assert events == ["asked for 0", "network", "asked for 1", "network", "asked for 2", "network"]


def test_delays() -> None:
    delays = Delays()
    assert (str(delays), delays.percentile(50)) == ("", None)
    delays.add(Frame(lambda: None, source="file"))  # type: ignore[arg-type, return-value]
    assert delays.count == 0
    for back in (0.1, 0.2, 0.3):
        delays.add(Frame(lambda: None, source="live", captured=time.monotonic() - back))  # type: ignore[arg-type, return-value]
    assert delays.percentile(50) == pytest.approx(0.2, abs=0.05)
    assert str(delays).startswith("delay p50 2")
