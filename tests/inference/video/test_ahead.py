from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from protomask.inference.video.ahead import advance_ahead


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() <= before


def test_items_come_in_order_and_the_thread_keeps_its_distance() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with closing(advance_ahead(items(), 2)) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]  # one is taken, two wait, one more waits for room
        assert list(ahead) == list(range(1, 50))


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    ahead = advance_ahead(items(), 3)
    assert next(ahead) == 1
    with pytest.raises(RuntimeError, match="no more"):
        next(ahead)


def test_leaving_early_closes_what_is_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    with closing(advance_ahead(items(), 1)) as ahead:
        next(ahead)
    assert closed.wait(5)


def test_nothing_gives_nothing() -> None:
    assert list(advance_ahead([], 1)) == []
