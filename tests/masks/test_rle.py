from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_masks import Bitmap, bitmaps, drawn
from protomask.errors import DataError
from protomask.masks.rle import decode_rle, encode_rle, encode_runs, rle_area


@given(bitmaps)
@settings(max_examples=200)
def test_codes_equal_those_of_the_coco_api(bitmap: Bitmap) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    (rle,) = encode_rle(bitmap[None])
    assert rle == {"size": list(bitmap.shape), "counts": expected["counts"].decode()}
    assert np.array_equal(decode_rle(expected), bitmap)


@given(bitmaps)
@settings(max_examples=200)
def test_codes_give_the_mask_back(bitmap: Bitmap) -> None:
    (rle,) = encode_rle(bitmap[None])
    decoded = decode_rle(rle)
    assert decoded.dtype == np.bool_
    assert decoded.flags["C_CONTIGUOUS"]
    assert np.array_equal(decoded, bitmap)
    assert rle_area(rle) == bitmap.sum()


def large_masks() -> Bitmap:
    """Long runs, which shrink and grow."""
    random = np.random.default_rng(0)
    masks = np.zeros((6, 700, 900), dtype=np.bool_)
    for mask in masks[:5]:
        for y, x, h, w in random.integers(0, 600, (4, 4)):
            mask[y : y + h, x : x + w] ^= True
    masks[4] = True
    return masks


def test_large_masks() -> None:
    masks = large_masks()
    codes = encode_rle(masks)
    assert np.array_equal(np.stack([decode_rle(code) for code in codes]), masks)
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    assert [code["counts"] for code in codes] == [code["counts"].decode() for code in expected]


def test_known_codes() -> None:
    masks = np.stack([drawn("...", "..."), drawn("###", "###"), drawn(".#.", "#..")])
    assert [code["counts"] for code in encode_rle(masks)] == ["6", "06", "123"]


def test_views_and_nothing() -> None:
    masks = np.random.default_rng(0).random((9, 14, 8)) > 0.5
    view = masks.transpose(2, 0, 1)[:, ::2, 1:]
    assert np.array_equal(np.stack([decode_rle(code) for code in encode_rle(view)]), view)
    assert encode_rle(np.zeros((0, 4, 5), dtype=np.bool_)) == []
    assert encode_runs([], (7, 9)) == []
    (blank,) = encode_rle(np.zeros((1, 0, 5), dtype=np.bool_))
    assert decode_rle(blank).shape == (0, 5)


@pytest.mark.parametrize("counts", [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3], dtype=np.uint32)])
def test_uncompressed_counts(counts: Any) -> None:
    rle = {"size": [2, 3], "counts": counts}
    assert np.array_equal(decode_rle(rle), drawn(".#.", "#.."))
    assert rle_area(rle) == 2


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"counts": "0"}, "'size' and 'counts'"),
        ("52203", "'size' and 'counts'"),
        ({"size": [2], "counts": "6"}, "height, width"),
        ({"size": None, "counts": "6"}, "height, width"),
        ({"size": [-2, -3], "counts": "6"}, "at least 0"),
        ({"size": [2, 3], "counts": "5"}, "2 x 3 = 6 pixels in total, got 5"),
        ({"size": [2, 3], "counts": ""}, "got 0"),
        ({"size": [2, 3], "counts": "7"}, "within 2 x 3"),
        ({"size": [2, 3], "counts": "6 "}, "got ' ' at position 1"),
        ({"size": [2, 3], "counts": b"6\xff"}, "at position 1"),
        ({"size": [2, 3], "counts": "6é"}, "ASCII"),
        ({"size": [2, 3], "counts": "1P"}, "complete last number"),
        ({"size": [2, 3], "counts": "PPPPPPPP0"}, "at most 7"),
        ({"size": [2, 3], "counts": "O7"}, "run lengths of at least 0, got -1"),
        ({"size": [2, 3], "counts": [7, -1]}, "at least 0, got -1"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "list of integers"),
        ({"size": [2, 3], "counts": [[6]]}, "list of integers"),
        ({"size": [2, 3], "counts": [[6], [1, 2]]}, "flat list"),
        ({"size": [2, 3], "counts": None}, "NoneType"),
    ],
)
def test_malformed_codes_say_what_was_expected(rle: Any, message: str) -> None:
    for read in (decode_rle, rle_area):
        with pytest.raises(DataError, match=message):
            read(rle)


@given(st.text(alphabet=[chr(code) for code in range(48, 112)], max_size=30), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=200)
def test_any_counts_decode_or_raise_data_error(counts: str, height: int, width: int) -> None:
    try:
        mask = decode_rle({"size": [height, width], "counts": counts})
    except DataError:
        return
    assert mask.shape == (height, width)
