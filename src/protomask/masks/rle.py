"""COCO run-length codes: encode, decode, measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError
from protomask.masks.runs import Runs, mask_runs, unite_runs

_MAX_PIXELS = 2**31 - 1  # what other readers of run-length codes can count


class Rle(TypedDict):
    """COCO run-length code of one mask: column-major runs, background first, as a compressed string."""

    size: list[int]
    counts: str


def encode_runs(runs: Sequence[Runs], size: tuple[int, int]) -> list[Rle]:
    """COCO compressed run-length codes, byte for byte those of the COCO API, of masks in a frame `size` = (H, W)."""
    if not runs:
        return []
    end = np.array([size[0] * size[1]])
    counts = np.array([2 * len(mask) + 1 for mask in runs])
    turns = np.concatenate([part for mask in runs for part in (mask.ravel(), end)])
    last = np.cumsum(counts) - 1
    lengths = np.diff(turns, prepend=0)
    lengths[last[:-1] + 1] = turns[last[:-1] + 1]
    # A code ends with the mask where no background follows it.
    complete = (lengths[last] == 0) & (counts > 1)
    lengths = np.delete(lengths, last[complete])
    counts -= complete
    first = np.cumsum(counts) - counts
    characters, per_run = _runs_to_characters(lengths, np.repeat(first, counts))
    text = characters.tobytes().decode("ascii")
    ends = np.cumsum(np.add.reduceat(per_run, first)).tolist()
    starts = [0, *ends[:-1]]
    return [{"size": list(size), "counts": text[start:end]} for start, end in zip(starts, ends, strict=True)]


def encode_rle(masks: NDArray[np.bool_]) -> list[Rle]:
    """COCO compressed run-length codes, byte for byte those of the COCO API.

    Args:
        masks: (N, H, W) bool (or 0/1).

    Returns:
        N dicts with `size` [H, W] and `counts` (ASCII string), ready for JSON.
    """
    return encode_runs([mask_runs(mask) for mask in masks], (masks.shape[1], masks.shape[2]))


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Mask of a COCO run-length code.

    Args:
        rle: `size` [H, W] and `counts`, either compressed (str or bytes) or a list of run lengths.

    Returns:
        (H, W) bool.

    Raises:
        DataError: the code is malformed or its runs do not add up to H * W.
    """
    (height, width), runs = parse_rle(rle)
    values = (np.arange(len(runs)) & 1).astype(np.bool_)
    flat = np.repeat(values, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def rle_area(rle: Mapping[str, Any]) -> int:
    """Number of foreground pixels of a COCO run-length code (compressed or not), without decoding the mask.

    Raises:
        DataError: as `decode_rle`.
    """
    _, runs = parse_rle(rle)
    return int(runs[1::2].sum())


def rle_to_runs(rle: Mapping[str, Any]) -> tuple[Runs, tuple[int, int]]:
    """Runs and frame size (H, W) of a COCO run-length code, without decoding the mask.

    Raises:
        DataError: as `decode_rle`.
    """
    size, lengths = parse_rle(rle)
    turns = np.cumsum(lengths)
    runs = np.stack([turns[: len(turns) // 2 * 2 : 2], turns[1::2]], axis=1)
    return unite_runs([runs[runs[:, 1] > runs[:, 0]]]), size


def _runs_to_characters(
    runs: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Characters of concatenated codes and how many each run takes; `first` is where the code of each run begins.

    From its fourth run on a code stores differences to the run two before. Numbers are written five bits at a time, low
    bits first, with bit 5 as "more follows" and bit 4 of the last group as sign, offset by 48.
    """
    values = runs.copy()
    later = np.flatnonzero(np.arange(len(runs)) - first > 2)
    values[later] -= runs[later - 2]
    # A group of n digits holds a signed number of 5 n bits.
    magnitude = np.where(values < 0, ~values, values)
    per_run = np.ones(len(values), dtype=np.int64)
    limit = 16
    while (larger := magnitude >= limit).any():
        per_run += larger
        limit <<= 5
    place = np.cumsum(per_run) - per_run
    characters = np.empty(per_run.sum(), dtype=np.uint8)
    left = per_run - 1
    while len(place):
        more = left > 0
        characters[place] = (values & 31) + 32 * more + 48
        values, place, left = values[more] >> 5, place[more] + 1, left[more] - 1
    return characters, per_run


def _characters_to_runs(counts: bytes) -> NDArray[np.int64]:
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if digits.size == 0:
        return digits
    if digits.min() < 0 or digits.max() > 63:
        wrong = int(np.flatnonzero((digits < 0) | (digits > 63))[0])
        raise DataError(f"RLE counts: expected characters '0' to 'o', got {chr(counts[wrong])!r} at position {wrong}")
    last = np.flatnonzero(digits < 32)
    if last.size == 0 or last[-1] != digits.size - 1:
        raise DataError("RLE counts: expected a complete last number, but the string stops in the middle of one")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 7:
        raise DataError(f"RLE counts: expected numbers of at most 7 characters, got one of {lengths.max()}")
    place = np.arange(digits.size) - np.repeat(first, lengths)
    values = np.add.reduceat((digits & 31) << (5 * place), first)
    values -= np.where(digits[last] & 16, 1 << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def parse_rle(rle: Mapping[str, Any]) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """Frame size (H, W) and validated run lengths of a COCO run-length code; nothing as large as the frame is made.

    Raises:
        DataError: as `decode_rle`.
    """
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        got = sorted(map(str, rle)) if isinstance(rle, Mapping) else type(rle).__name__
        raise DataError(f"RLE: expected a mapping with 'size' and 'counts', got {got}")
    size, counts = rle["size"], rle["counts"]
    try:
        height, width = (int(side) for side in size)
        whole = all(side == whole for side, whole in zip(size, (height, width), strict=True))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"RLE size: expected [height, width], got {str(size)[:60]}") from error
    if not whole or height < 0 or width < 0 or height * width > _MAX_PIXELS:
        raise DataError(f"RLE size: expected [height, width] of at least 0, got {str(size)[:60]}")
    if isinstance(counts, str):
        try:
            runs = _characters_to_runs(counts.encode("ascii"))
        except UnicodeEncodeError as error:
            raise DataError(f"RLE counts: expected ASCII, got {counts[error.start]!r}") from error
    elif isinstance(counts, bytes):
        runs = _characters_to_runs(counts)
    else:
        try:
            numbers = np.asarray(counts)
        except (ValueError, OverflowError) as error:
            raise DataError("RLE counts: expected a flat list of integers, got nested lists") from error
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DataError(f"RLE counts: expected str, bytes or a list of integers, got {type(counts).__name__}")
        runs = numbers.astype(np.int64)
    if runs.size and runs.min() < 0:
        raise DataError(f"RLE counts: expected run lengths of at least 0, got {int(runs.min())}")
    if runs.size and runs.max() > height * width:
        raise DataError(f"RLE counts: expected runs within {height} x {width} pixels, got one of {int(runs.max())}")
    if (total := int(runs.sum())) != height * width:
        raise DataError(f"RLE counts: expected {height} x {width} = {height * width} pixels in total, got {total}")
    return (height, width), runs
