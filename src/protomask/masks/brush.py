"""The run-length code of Label Studio's brush masks: the RGBA bytes of an image, packed bit by bit.

The format is that of the JavaScript package rle-pack: the number of words (32 bits), their width less 1 (5 bits), four
widths of lengths less 1 (4 bits each); then runs. A run is a bit that says whether its word is repeated, 2 bits that
choose the width of its length, the length less 1, and its word or words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError
from protomask.masks.runs import MaskWindow, flat_ranges

_CHANNELS, _BITS = 4, 8
_HEADER_BITS = 32 + 5 + 4 * 4
_LENGTH_BITS = (3, 4, 8, 16)
"""Widths of lengths that are written."""
_WINDOW = 8  # bytes that hold the head of a run wherever it begins


def encode_brush(window: MaskWindow, size: tuple[int, int]) -> list[int]:
    """The code of a mask; its pixels are white and opaque, all others black and transparent.

    Args:
        window: of the mask.
        size: (H, W) of the image.

    Returns:
        List of bytes, as the JSON has it.

    """
    height, width = size
    words, lengths = _runs_of_words(window, width, _CHANNELS * height * width)
    most = 1 << _LENGTH_BITS[-1]
    pieces = -(-lengths // most)
    values = np.repeat(words, pieces)
    last = np.cumsum(pieces) - 1
    parts = np.full(len(values), most, dtype=np.int64)
    parts[last] = lengths - (pieces - 1) * most
    choice = np.searchsorted([1 << bits for bits in _LENGTH_BITS], parts)
    bits = np.asarray(_LENGTH_BITS)[choice]
    head = ((4 | choice) << bits | parts - 1) << _BITS | values  # the bit "repeats", the choice, the length, the word
    counts = 3 + bits + _BITS
    row, place = flat_ranges(np.zeros(len(counts), dtype=np.int64), counts)
    stream = (head[row] >> counts[row] - 1 - place & 1).astype(np.uint8)
    start = f"{_CHANNELS * height * width:032b}{_BITS - 1:05b}" + "".join(f"{bits - 1:04b}" for bits in _LENGTH_BITS)
    return np.packbits(np.concatenate([np.frombuffer(start.encode(), dtype=np.uint8) - ord("0"), stream])).tolist()


def _runs_of_words(window: MaskWindow, width: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words, 255 and 0 in turn, and how often each comes, row by row."""
    top, left, mask = window
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    row, column = np.nonzero(np.diff(padded, axis=1))
    turns, times = np.unique(_CHANNELS * ((row + top) * width + column + left), return_counts=True)
    turns = turns[times == 1]  # a run that ends where another begins goes on
    lengths = np.diff(turns, prepend=0, append=count)
    words = np.zeros(len(lengths), dtype=np.int64)
    words[1::2] = 255
    return words[lengths > 0], lengths[lengths > 0]


def decode_brush(code: Any, pixels: int) -> NDArray[np.bool_]:
    """The pixels that a brush has painted: those that are not wholly transparent.

    Args:
        code: list of bytes, as the JSON has it.
        pixels: H * W of the image.

    Returns:
        (H * W,) bool, row by row.

    Raises:
        DataError: the code is damaged, or of another number of pixels; nothing is made of that size then.

    """
    try:
        data = bytes(code) if isinstance(code, list) else b""
    except (TypeError, ValueError) as error:
        raise DataError(f"expected a list of bytes: {error}") from error
    if 8 * len(data) < _HEADER_BITS:
        raise DataError("expected a list of bytes with a run-length code")
    stream = data + bytes(_WINDOW)
    words, width = _bits(stream, 0, 32), _bits(stream, 32, 5) + 1
    sizes = [_bits(stream, 37 + 4 * index, 4) + 1 for index in range(4)]
    if words != _CHANNELS * pixels or width != _BITS:
        raise DataError(f"expected {_CHANNELS} x {pixels} words of {_BITS} bits, got {words} of {width}")
    mask = np.zeros(pixels, dtype=np.bool_)
    position, done = _HEADER_BITS, 0
    while done < words:
        window = int.from_bytes(stream[position >> 3 : (position >> 3) + _WINDOW], "big")
        left = 8 * _WINDOW - (position & 7)
        repeats, size = window >> (left - 1) & 1, sizes[window >> (left - 3) & 3]
        length = (window >> (left - 3 - size) & ((1 << size) - 1)) + 1
        position += 3 + size
        end = position + _BITS * (1 if repeats else length)
        if end > 8 * len(data) or done + length > words:
            raise DataError("the run-length code does not end with the last pixel")
        # The fourth byte of each pixel is its opacity.
        first = done // _CHANNELS
        if repeats:
            mask[first : (done + length) // _CHANNELS] = window >> (left - 3 - size - _BITS) & 255
        else:
            opacity = _words(stream, position, length)[(3 - done) % _CHANNELS :: _CHANNELS]
            mask[first : first + len(opacity)] = opacity
        position, done = end, done + length
    return mask


def _bits(stream: bytes, position: int, count: int) -> int:
    window = int.from_bytes(stream[position >> 3 : (position >> 3) + _WINDOW], "big")
    return window >> (8 * _WINDOW - (position & 7) - count) & ((1 << count) - 1)


def _words(stream: bytes, position: int, count: int) -> NDArray[np.integer[Any]]:
    """``count`` words that begin at any bit."""
    start, shift = position >> 3, position & 7
    found = np.frombuffer(stream, dtype=np.uint8, count=count + 1, offset=start).astype(np.uint16)
    return (found[:-1] << shift | found[1:] >> (8 - shift)) & 255
