"""Texts that lose their middle to fit; needs no package."""

from __future__ import annotations

from collections.abc import Callable


def shortened(words: str, room: float, measure: Callable[[str], float]) -> str:
    """The words, without their middle if they are too long: ``half-tim…window``.

    Args:
        words: plain text.
        room: longest length that the result may have; a single ellipsis may be longer.
        measure: length of a text.

    """
    if measure(words) <= room:
        return words
    for kept in range(len(words) - 1, 0, -1):
        shorter = f"{words[: (kept + 1) // 2].rstrip()}…{words[len(words) - kept // 2 :].lstrip()}"
        if measure(shorter) <= room:
            return shorter
    return "…"
