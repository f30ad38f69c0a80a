from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL import __version__ as pillow_version

from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels, read_image
from protomask.images.resize import Rounding, resize_bilinear, resize_opencv, resize_pillow, short_side_size
from short_sides import SHORT_SIDES

Resize = Callable[[Pixels, tuple[int, int]], Pixels]
METHODS: dict[str, Resize] = {"opencv": resize_opencv, "pillow": resize_pillow, "bilinear": resize_bilinear}
every_method = pytest.mark.parametrize("resize", METHODS.values(), ids=METHODS)


def noise(height: int, width: int) -> Pixels:
    channels_first = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    return channels_first.transpose(1, 2, 0)


def checksum(image: Pixels) -> int:
    """Of the bytes with the channels first."""
    return zlib.crc32(np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes())


# Of cv2.resize(..., interpolation=cv2.INTER_LINEAR) on noise; OpenCV 4.14 and 5.0 agree.
OPENCV = [
    ((1, 1), (5, 7), 954820957),
    ((1, 9), (4, 3), 1660651823),
    ((9, 1), (3, 5), 1067629827),
    ((2, 2), (7, 7), 2952937627),
    ((30, 40), (1, 1), 2752312654),
    ((30, 40), (15, 20), 2437514597),
    ((30, 40), (60, 80), 2628641091),
    ((37, 53), (101, 64), 2659639796),
    ((211, 97), (55, 55), 4073308716),
    ((1200, 900), (55, 64), 4087070686),
    ((40, 30), (40, 17), 2193199125),
    ((40, 30), (33, 30), 2589090390),
]
every_size = pytest.mark.parametrize(("source", "size"), [case[:2] for case in OPENCV])


@pytest.mark.parametrize(("source", "size", "wanted"), OPENCV)
def test_resizing_as_opencv_gives_its_very_bytes(source: tuple[int, int], size: tuple[int, int], wanted: int) -> None:
    assert checksum(resize_opencv(noise(*source), size)) == wanted


# What MMDetection fed its networks with, blue first.
IMAGES = [
    (1, (550, 550), 4089094376),
    (2, (550, 550), 1564279827),
    (1, (800, 1067), 1444942701),
    (2, (800, 1199), 2036619125),
]


@pytest.mark.parametrize(("number", "size", "wanted"), IMAGES)
def test_resized_images_are_those_of_mmdetection(
    number: int, size: tuple[int, int], wanted: int, golden_dir: Path
) -> None:
    image = read_image(golden_dir / "yolact" / "inputs" / f"image{number}.png")
    assert checksum(resize_opencv(image, size)[:, :, ::-1]) == wanted


@every_size
def test_whole_grey_levels_are_those_of_bilinear_interpolation_or_next_to_them(
    source: tuple[int, int], size: tuple[int, int]
) -> None:
    image = noise(*source)
    wanted = resize_bilinear(image, size).astype(int)
    assert np.abs(resize_opencv(image, size) - wanted).max() <= 1


@every_size
def test_resizing_by_pillow_is_pillows_rows_first(source: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*source)
    whole = Image.fromarray(np.ascontiguousarray(image))
    wide = whole.resize((size[1], source[0]), Image.Resampling.BILINEAR)
    found = resize_pillow(image, size)
    np.testing.assert_array_equal(found, np.array(wide.resize(size[::-1], Image.Resampling.BILINEAR)))
    if int(pillow_version.partition(".")[0]) < 13:  # which chooses the order by the sizes
        np.testing.assert_array_equal(found, np.array(whole.resize(size[::-1], Image.Resampling.BILINEAR)))


def interpolated(image: Pixels, size: tuple[int, int]) -> Any:
    """(h, w, 3) float32, by PyTorch."""
    torch = pytest.importorskip("torch")
    channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()
    resize = torch.nn.functional.interpolate
    return resize(channels_first, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


@every_size
def test_bilinear_interpolation_is_pytorchs_rounded(source: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*source)
    # Halves between two grey levels go either way.
    assert np.abs(resize_bilinear(image, size) - interpolated(image, size)).max() <= 0.5 + 1e-3


sides = st.tuples(*[st.integers(1, 40)] * 2)


@given(sides, sides)
def test_bilinear_interpolation_is_pytorchs_at_any_size(source: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*source)
    assert np.abs(resize_bilinear(image, size) - interpolated(image, size)).max() <= 0.5 + 1e-3


@every_method
@given(source=sides, size=sides)
def test_any_size_becomes_any_other_and_no_level_is_made_up(
    resize: Resize, source: tuple[int, int], size: tuple[int, int]
) -> None:
    image = noise(*source)
    before = image.copy()
    resized = resize(image, size)
    assert resized.dtype == np.uint8
    assert resized.shape == (*size, 3)
    assert resized.flags["C_CONTIGUOUS"] or size == source
    lowest = image.min(axis=(0, 1)).astype(int) - (resize is resize_opencv)
    assert (resized.min(axis=(0, 1)) >= lowest).all()
    assert (resized.max(axis=(0, 1)) <= image.max(axis=(0, 1))).all()
    np.testing.assert_array_equal(image, before)


@every_method
def test_an_image_of_the_right_size_is_itself(resize: Resize) -> None:
    image = noise(6, 5)
    np.testing.assert_array_equal(resize(image, (6, 5)), image)


@every_method
@given(size=sides)
def test_an_even_image_stays_even(resize: Resize, size: tuple[int, int]) -> None:
    image = np.full((9, 7, 3), 200, dtype=np.uint8)
    # OpenCV cuts at the upper and lower edge, which can cost a level there.
    assert np.abs(resize(image, size).astype(int) - 200).max() <= (resize is resize_opencv)


@every_method
def test_images_need_not_be_contiguous_and_channels_have_no_order(resize: Resize) -> None:
    image = noise(9, 7)
    for other in (np.ascontiguousarray(image), np.asfortranarray(image), image[::-1][::-1]):
        np.testing.assert_array_equal(resize(other, (5, 11)), resize(image, (5, 11)))
    np.testing.assert_array_equal(resize(image[:, :, ::-1], (5, 11)), resize(image, (5, 11))[:, :, ::-1])


WRONG: list[Any] = [
    np.zeros((4, 4, 3)),
    np.zeros((4, 4), dtype=np.uint8),
    np.zeros((4, 4, 1), dtype=np.uint8),
    np.zeros((3, 4, 4), dtype=np.uint8),
    np.zeros((4, 0, 3), dtype=np.uint8),
]


@every_method
def test_other_images_and_sizes_are_refused(resize: Resize) -> None:
    for image in WRONG:
        with pytest.raises(DataError, match=r"^image: expected .* got"):
            resize(image, (4, 4))
    for size in ((0, 4), (4, -1)):
        with pytest.raises(ConfigError, match=r"^size: expected two positive numbers, got"):
            resize(noise(4, 4), size)


@pytest.mark.parametrize(("rounding", "size", "wanted"), SHORT_SIDES)
def test_size_of_the_short_side(rounding: Rounding, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert short_side_size(size, 800, 1333, rounding=rounding) == wanted


@given(sides, st.sampled_from(["floor", "half_up", "short_side"]))
def test_sides_turn_with_the_image(size: tuple[int, int], rounding: Any) -> None:
    height, width = short_side_size(size, 64, 107, rounding=rounding)
    assert short_side_size(size[::-1], 64, 107, rounding=rounding) == (width, height)
    assert min(height, width) >= 1
    assert max(height, width) <= 107 or rounding == "short_side"  # whose long side follows the rounded short one
