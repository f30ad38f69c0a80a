from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from local_stream import wait_until
from protomask.errors import ConfigError
from protomask.inference.sinks.drawing import DrawOnce
from protomask.inference.sinks.preview import PreviewSink
from protomask.structures.frame import Frame
from sample_frames import SIZE, frame


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_until(lambda: threading.active_count() <= before)  # those of earlier tests may end meanwhile


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
        content: bytes = answer.read()
    return content


def next_picture(stream: Any) -> Image.Image:
    """The next part of a stream of JPEG files."""
    length = 0
    while (line := stream.readline().strip()) or not length:
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return Image.open(io.BytesIO(stream.read(length)))


def test_the_newest_frame_is_shown() -> None:
    drawn: list[int] = []

    def draw(one: Frame) -> Any:
        drawn.append(one.index)
        return np.full((*SIZE, 3), 50 * one.index, dtype=np.uint8)

    with PreviewSink(draw) as sink:
        sink.write(frame(index=0, time=0.0))
        assert drawn == []  # nobody looks
        with urllib.request.urlopen(f"{sink.url}stream.mjpg", timeout=5) as stream:
            wait_until(lambda: sink._shown.watchers == 1)
            for index in (1, 2):
                sink.write(frame(index=index, time=0.5))
                picture = next_picture(stream)
                assert picture.size == SIZE[::-1]
                assert abs(int(np.asarray(picture).mean()) - 50 * index) < 3
        status = json.loads(get(f"{sink.url}status.json"))
        assert status["frames"] == 3
        assert status["text"].startswith("x.jpg at 0.50 s: 3 found, ")
        assert b"stream.mjpg" in get(sink.url)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{sink.url}other")


def test_pages_of_other_sites_are_refused() -> None:
    with PreviewSink() as sink, pytest.raises(urllib.error.HTTPError, match="403"):
        get(sink.url, Host="evil.example:80")


def test_who_looks_is_let_go_at_the_end() -> None:
    with PreviewSink() as sink:
        stream = urllib.request.urlopen(f"{sink.url}stream.mjpg", timeout=5)
        wait_until(lambda: sink._shown.watchers == 1)
    assert stream.read() == b""
    stream.close()


def test_large_frames_are_shown_smaller() -> None:
    with (
        PreviewSink(lambda one: np.zeros((2000, 3000, 3), dtype=np.uint8)) as sink,
        urllib.request.urlopen(f"{sink.url}stream.mjpg", timeout=5) as stream,
    ):
        wait_until(lambda: sink._shown.watchers == 1)
        sink.write(frame())
        assert next_picture(stream).size == (1280, 853)


def test_a_port_that_is_taken_is_named() -> None:
    with PreviewSink() as sink:
        port = int(sink.url.rpartition(":")[2].strip("/"))
        with pytest.raises(ConfigError, match=f"show_port: expected a port that is free, got {port}"):
            PreviewSink(port=port)


def test_a_frame_is_drawn_once_for_all_sinks() -> None:
    drawn: list[Frame] = []

    def draw(one: Frame) -> Any:
        drawn.append(one)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    shared, first, second = DrawOnce(draw), frame(), frame()
    assert shared(first) is shared(first)
    assert shared(second) is not shared(first)
    assert drawn == [first, second, first]
