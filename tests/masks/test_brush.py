"""The run-length code of Label Studio's brush."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.masks.brush import decode_brush, encode_brush
from protomask.masks.runs import MaskWindow, mask_runs, runs_to_window

BLOB = drawn("........", "..###...", "..#.#...", "........", ".......#", "........")


def encode(mask: Bitmap) -> list[int]:
    return encode_brush(runs_to_window(mask_runs(mask), mask.shape[0]), (mask.shape[0], mask.shape[1]))


@given(bitmaps)
def test_masks_come_back_pixel_by_pixel(mask: Bitmap) -> None:
    assert (decode_brush(encode(mask), mask.size).reshape(mask.shape) == mask).all()


@pytest.mark.parametrize("fill", [0, 1])
def test_long_runs_are_cut(fill: int) -> None:
    """A run has 16 bits for its length at most, four words to a pixel."""
    mask = np.full((300, 400), fill, dtype=np.bool_)
    code = encode(mask)
    assert (decode_brush(code, mask.size).reshape(mask.shape) == mask).all()
    assert len(code) < 40


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 63, 64, 65, 4096, 16384, 16385])
def test_lengths_at_the_edges_of_their_widths(width: int) -> None:
    mask = np.ones((2, width), dtype=np.bool_)
    mask[1, : width // 2] = False
    assert (decode_brush(encode(mask), mask.size).reshape(mask.shape) == mask).all()


def test_the_code_of_a_small_mask() -> None:
    """Two pixels of which the second is painted: 8 words of 8 bits, lengths of 3, 4, 8 or 16 bits, two runs of four."""
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + f"100{3:03b}{0:08b}" + f"100{3:03b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    expected = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert encode_brush(MaskWindow(0, 1, np.ones((1, 1), dtype=np.bool_)), (1, 2)) == expected


def test_label_studio_reads_the_code() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    pixels = np.reshape(brush.decode_rle(encode(BLOB)), (*BLOB.shape, 4))
    assert (pixels[..., 3] == BLOB * 255).all()
