from __future__ import annotations

import pytest

from protomask.images.captions import shortened


@pytest.mark.parametrize("room", [0, 1, 5, 12, 30, 31])
@pytest.mark.parametrize("words", ["window shutter (wooden, closed)", "", "a", "ab", "  ", "犬" * 40])
def test_shortened_words_fit_and_keep_both_ends(words: str, room: int) -> None:
    short = shortened(words, room, len)
    assert short in (words, "…") or len(short) <= room
    assert (short == words) == (len(words) <= room or words == "…")
    if len(words) > room > 4 and words.strip():
        start, _, end = short.partition("…")
        assert words.startswith(start)
        assert words.endswith(end)
        assert start
        assert end


def test_shortened_words_have_no_space_beside_the_ellipsis() -> None:
    assert shortened("ground floor shop window", 14, len) == "ground…window"
