"""Memory that a training gives back and asks for again in every step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Names and numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_WITHIN = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
_AFTERWARDS = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}
"""What glibc arrives at by itself, once large blocks have been given back."""


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Within it, glibc keeps what tensors on the CPU give back, and hands it out again.

    By default large blocks go back to the system at once, and the next step begins with pages that the system has to
    clear first, a tenth of the time of a step. Afterwards everything goes back. Without glibc nothing happens.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    assert library is not None
    try:
        _set(library, _WITHIN)
        yield
    finally:
        _set(library, _AFTERWARDS)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: Mapping[int, int]) -> None:
    for name, value in options.items():
        library.mallopt(name, value)
