"""An iterator that a thread advances ahead of who uses it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar, cast

Item = TypeVar("Item")

_END = object()
_JOIN_SECONDS = 2.0
"""A read that hangs in a pipe or a network must not hang the program: the thread dies with the process."""


def advance_ahead(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """The items, each made by a thread while the caller works on earlier ones.

    Args:
        items: advanced and closed by the thread.
        ahead: maximum number of items that wait.

    Raises:
        Exception: what ``items`` raises, in its place.

    """
    waiting: queue.Queue[object] = queue.Queue(maxsize=ahead)
    left = threading.Event()

    def put(item: object) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def advance() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
                del item  # a frame may be large
            put(_END)
        except BaseException as error:
            put(_Failure(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=advance, name="protomask-video", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield cast("Item", item)
            del item
    finally:
        left.set()
        thread.join(_JOIN_SECONDS)


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
