"""The resizes of graphs, against those of NumPy, Pillow and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from padded_images import some_image
from protomask.exporting.resize import (
    interpolate_as_torch,
    resize_as_opencv,
    resize_as_pillow,
    resized_size,
    shortfalls,
)
from protomask.images.resize import resize_opencv, resize_pillow
from protomask.ops.geometry import ShortSideGeometry

GEOMETRIES = {
    rounding: ShortSideGeometry(
        image_size=800, max_image_size=1333, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), rounding=rounding
    )
    for rounding in ("floor", "half_up", "short_side")
}
SHORTFALLS = {rounding: shortfalls(geometry) for rounding, geometry in GEOMETRIES.items()}


@pytest.mark.parametrize("rounding", GEOMETRIES)
@given(size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
def test_sizes_are_worked_out_as_the_geometry_does(rounding: Any, size: tuple[int, int]) -> None:
    wanted = torch.tensor(GEOMETRIES[rounding].resized_size(size))
    found = resized_size(torch.tensor(size), GEOMETRIES[rounding], SHORTFALLS[rounding])
    short, long = sorted(size)
    basis, target = (long, 1333) if 800 * long > 1333 * short else (short, 800)
    # Where the exact quotient is a whole number or half of one, double precision may say less.
    is_tie = any(side != basis and 2 * side * target % basis == 0 for side in size)
    assert (found - wanted).abs().max() <= is_tie


@pytest.mark.parametrize("size", [(480, 640), (97, 97), (337, 337), (194, 300), (200, 640), (2000, 3000), (1, 3000)])
@pytest.mark.parametrize("rounding", GEOMETRIES)
def test_usual_sizes_are_exact(rounding: Any, size: tuple[int, int]) -> None:
    found = resized_size(torch.tensor(size), GEOMETRIES[rounding], SHORTFALLS[rounding])
    assert tuple(found.tolist()) == GEOMETRIES[rounding].resized_size(size)


sides = st.integers(100, 150)
scales = st.floats(0.3, 3)


def by_array(resize: Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]]) -> Any:
    """A resize of arrays (H, W, 3) as one of tensors (3, H, W)."""
    return lambda image, size: torch.from_numpy(resize(image.permute(1, 2, 0).numpy(), size)).permute(2, 0, 1).float()


by_opencv, by_pillow = by_array(resize_opencv), by_array(resize_pillow)


@pytest.mark.parametrize(
    ("resize", "reference"), [(resize_as_opencv, by_opencv), (resize_as_pillow, by_pillow)], ids=["opencv", "pillow"]
)
@settings(max_examples=25, deadline=None)
@given(size=st.tuples(sides, sides), scale=scales)
def test_a_resize_gives_the_same_pixels(resize: Any, reference: Any, size: tuple[int, int], scale: float) -> None:
    image, target = some_image(*size), (round(size[0] * scale), round(size[1] * scale))
    difference = (resize(image, target) - reference(image, target)).abs()
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@pytest.mark.usefixtures("two_threads")  # with one, and for small images, PyTorch rounds otherwise
@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(1, 1500), st.integers(1, 600)),
    target=st.tuples(st.integers(200, 500), st.integers(200, 500)),
)
def test_interpolation_of_torch_gives_the_same_values(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = some_image(*size)[None].float()
    wanted = F.interpolate(image, target, mode="bilinear", align_corners=False)
    # Samples in places that differ by the last digit alone would be a hundred times farther off.
    torch.testing.assert_close(interpolate_as_torch(image, target), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("resize", "reference"),
    [(resize_as_pillow, by_pillow), (resize_as_opencv, by_opencv)],
    ids=["pillow", "opencv"],
)
@pytest.mark.parametrize("target", [(800, 1066), (300, 400), (480, 640)])
def test_hardly_a_pixel_of_large_images_differs(resize: Any, reference: Any, target: tuple[int, int]) -> None:
    image = some_image(480, 640)
    assert (resize(image, target) != reference(image, target)).float().mean() < 1e-5
