from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protomask.masks.outlines import MAX_COORDINATE, outline_runs
from protomask.masks.rle import encode_runs

mask_codec = pytest.importorskip("pycocotools.mask")
segmentation = pytest.importorskip("protomask.data.coco.segmentation")

near = st.one_of(st.integers(-30, 60), st.floats(-30, 60, width=32), st.integers(-300, 600).map(lambda n: n / 10))
far = st.floats(-3000, 3000, width=32)


@settings(max_examples=400, deadline=None)
@given(
    parts=st.lists(
        st.one_of(*(st.lists(one, min_size=6, max_size=24).map(lambda p: p[: len(p) // 2 * 2]) for one in (near, far))),
        min_size=1,
        max_size=3,
    ),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_pixel_for_pixel_as_the_coco_api(parts: list[list[float]], size: tuple[int, int]) -> None:
    expected = mask_codec.merge(mask_codec.frPyObjects(parts, *size))["counts"].decode()
    assert encode_runs([outline_runs(parts, size)], size)[0]["counts"] == expected
    assert segmentation.encode(parts, size, size)["counts"].decode() == expected


def test_a_large_outline_takes_the_other_way_to_the_same_mask() -> None:
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    radius = np.random.default_rng(0).uniform(800, 1500, 3000)
    points = np.stack([1000 + radius * np.cos(angles), 900 + radius * np.sin(angles)], axis=1).ravel().tolist()
    size = (1800, 2000)
    expected = mask_codec.merge(mask_codec.frPyObjects([points], *size))["counts"]
    assert segmentation.encode([points], size, size)["counts"] == expected


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), 1e9, 1e300, 10**400, MAX_COORDINATE * 1.01]
)
@pytest.mark.parametrize("place", range(6))
def test_coordinates_that_cannot_be_meant(value: Any, place: int) -> None:
    part: list[Any] = [1.0, 1, 9, 1, 9, 9]
    part[place] = value
    for parts in ([part], [[1.0, 1, 9, 1, 9, 9], part]):
        with pytest.raises(segmentation.NoMask, match="not finite or absurdly large"):
            segmentation.encode(parts, (20, 20), (20, 20))


def test_an_endless_outline_is_refused_at_once() -> None:
    points = [-1e5, -1e5, 1e5, 1e5, 1e5, -1e5, -1e5, 1e5] * 100_000
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(segmentation.NoMask, match="longer than any"):
        segmentation.encode([points], (32, 32), (32, 32))
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
