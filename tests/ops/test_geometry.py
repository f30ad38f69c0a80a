from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.images.resize import resize_bilinear, resize_opencv, resize_pillow
from protomask.ops.geometry import (
    Geometry,
    ImageGeometry,
    PaddedImages,
    ShortSideGeometry,
    padded_size,
    preprocess_pixels,
)
from short_sides import SHORT_SIDES

CPU = torch.device("cpu")


def make_geometry(**changes: Any) -> ImageGeometry:
    values: dict[str, Any] = {"image_size": (24, 32), "mean": (123.0, 116.0, 103.0), "std": (58.0, 57.0, 56.0)}
    return ImageGeometry(**values | changes)


def some_image(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(height))


def pixels_of(image: torch.Tensor) -> Pixels:
    """(3, H, W) to (H, W, 3)."""
    pixels: Pixels = image.permute(1, 2, 0).contiguous().numpy()
    return pixels


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(24, 32), (1, 1), (1, 5000), (5000, 1), (7, 9), (100, 60)])
def test_any_image_becomes_one_of_the_networks_size(size: tuple[int, int], antialias: bool) -> None:
    image = some_image(*size)
    before = image.clone()
    resized = make_geometry(antialias=antialias).resize(image)
    assert resized.shape == (3, 24, 32)
    assert resized.dtype == torch.float32
    assert float(image.min()) <= float(resized.min()) + 1e-3
    assert float(resized.max()) <= float(image.max()) + 1e-3
    assert torch.equal(image, before)


def test_without_filter_the_resize_is_plain_bilinear_in_float() -> None:
    image = some_image(50, 40)
    wanted = F.interpolate(image[None].float(), (24, 32), mode="bilinear", align_corners=False)[0]
    assert torch.equal(make_geometry().resize(image), wanted)


def test_with_filter_the_resize_is_pillows() -> None:
    image = some_image(50, 40)
    resized = make_geometry(antialias=True).resize(image)
    assert resized.dtype == torch.float32
    assert np.array_equal(pixels_of(resized), resize_pillow(pixels_of(image), (24, 32)))


def test_with_filter_the_resize_is_pytorchs_filtered_one_up_to_rounding() -> None:
    image = some_image(50, 40)
    wanted = F.interpolate(image[None].float(), (24, 32), mode="bilinear", align_corners=False, antialias=True)[0]
    assert (make_geometry(antialias=True).resize(image) - wanted).abs().max() <= 1.01


def test_resizing_as_opencv_gives_its_grey_levels_as_floats() -> None:
    image = some_image(50, 40)
    resized = make_geometry(resize_method="opencv").resize(image)
    assert resized.dtype == torch.float32
    assert np.array_equal(pixels_of(resized), resize_opencv(pixels_of(image), (24, 32)))


def test_opencv_has_no_filter() -> None:
    with pytest.raises(ConfigError, match="antialias: expected False with resize_method opencv"):
        make_geometry(resize_method="opencv", antialias=True)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = some_image(24, 32)
    assert torch.equal(make_geometry(antialias=True).resize(image), image.float())


def test_normalize_works_on_channels_of_batches_and_images() -> None:
    geometry = make_geometry()
    batch = torch.stack([some_image(24, 32), some_image(24, 32).flip(1)])
    normal = geometry.normalize(batch)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal[1, 2], (batch[1, 2].float() - 103.0) / 56.0)
    torch.testing.assert_close(geometry.normalize(batch[0]), normal[0])


def test_preprocess_is_resize_then_normalize() -> None:
    geometry, image = make_geometry(), some_image(48, 48)
    assert torch.equal(geometry.preprocess(image), geometry.normalize(geometry.resize(image)))


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 4, 4),
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(1, 4, 4, dtype=torch.uint8),
        torch.zeros(4, 4, 3, dtype=torch.uint8),
        torch.zeros(3, 0, 4, dtype=torch.uint8),
    ],
    ids=["float", "two dimensions", "gray", "channels last", "no pixels"],
)
def test_other_images_are_refused(image: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"image: expected .* got"):
        make_geometry().resize(image)


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", (0, 8)), ("image_size", (8, -1)), ("std", (1.0, 0.0, 1.0)), ("resize_method", "cubic")],
)
def test_settings_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}: expected"):
        make_geometry(**{field: value})


# Short side


def make_short_side(**changes: Any) -> ShortSideGeometry:
    values: dict[str, Any] = {"image_size": 64, "max_image_size": 107, "mean": (123.0, 116.0, 103.0)}
    return ShortSideGeometry(**values | {"std": (58.0, 57.0, 56.0)} | changes)


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=60)
def test_sizes_are_torchvisions(height: int, width: int) -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    scale = min(64 / min(height, width), 107 / max(height, width))
    got = make_short_side().resized_size((height, width))
    if min(height, width) * scale < 1:
        assert min(got) == 1
        return
    transform = GeneralizedRCNNTransform(64, 107, [0.0] * 3, [1.0] * 3)
    image, _ = transform.resize(torch.zeros(3, height, width), None)
    # Torchvision multiplies in float32: where the product is a whole number up to rounding it may be one less.
    products = [side * scale for side in (height, width)]
    for mine, theirs, product in zip(got, image.shape[1:], products, strict=True):
        assert mine == theirs or (abs(mine - theirs) == 1 and abs(product - round(product)) < 1e-4)


@pytest.mark.parametrize(("rounding", "size", "wanted"), SHORT_SIDES)
def test_size_of_the_short_side(rounding: Any, size: tuple[int, int], wanted: tuple[int, int]) -> None:
    geometry = make_short_side(image_size=800, max_image_size=1333, rounding=rounding)
    assert geometry.resized_size(size) == wanted


@pytest.mark.parametrize("resizing", ["float", "pillow", "opencv"])
@pytest.mark.parametrize("size", [(50, 40), (1, 1), (3, 400), (200, 90)])
def test_preprocessed_images_have_their_size(size: tuple[int, int], resizing: Any) -> None:
    geometry = make_short_side(resize_method=resizing)
    image = geometry.preprocess(some_image(*size))
    assert image.shape == (3, *geometry.resized_size(size))
    assert image.dtype == torch.float32
    assert image.isfinite().all()


def test_unfiltered_short_side_is_plain_bilinear_of_normalised_values() -> None:
    geometry, image = make_short_side(), some_image(50, 40)
    wanted = F.interpolate(geometry.normalize(image)[None], (80, 64), mode="bilinear", align_corners=False)[0]
    assert torch.equal(geometry.preprocess(image), wanted)


@pytest.mark.parametrize("resizing", ["float", "pillow", "opencv"])
def test_bgr_is_rgb_flipped(resizing: Any) -> None:
    image = some_image(50, 40)
    rgb, bgr = (make_short_side(channel_order=order, resize_method=resizing) for order in ("RGB", "BGR"))
    assert torch.equal(bgr.preprocess(image), rgb.preprocess(image).flip(0))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_batch_is_padded_with_zeros_right_and_below(order: Any) -> None:
    geometry = make_short_side(channel_order=order)
    images = [geometry.preprocess(some_image(64, 90)), geometry.preprocess(some_image(100, 64))]
    batch = geometry.batch(images)
    assert batch.sizes == ((64, 90), (100, 64))
    assert batch.tensors.shape == (2, 3, 128, 96)
    for padded, image, (height, width) in zip(batch.tensors, images, batch.sizes, strict=True):
        assert torch.equal(padded[:, :height, :width], image)
        assert not padded[:, height:].any()
        assert not padded[:, :, width:].any()


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_normalising_a_batch_equals_a_batch_of_normalised_images(order: Any) -> None:
    geometry = make_short_side(channel_order=order)
    images = [some_image(64, 90), some_image(100, 64)]
    wanted = geometry.batch([geometry.preprocess(image) for image in images])
    frame = torch.full((2, 3, *padded_size(wanted.sizes, geometry.pad_multiple)), 200, dtype=torch.uint8)
    for image, out in zip(images, frame, strict=True):
        out[:, : image.shape[1], : image.shape[2]] = image
    got = geometry.normalize_batch(frame, wanted.sizes)
    assert got.sizes == wanted.sizes
    assert torch.equal(got.tensors, wanted.tensors)


def test_padded_images_move_like_a_tensor() -> None:
    images = PaddedImages(torch.zeros(1, 3, 32, 32), ((20, 30),))
    moved = images.to(torch.float64).contiguous(memory_format=torch.channels_last)
    assert moved.tensors.dtype == torch.float64
    assert moved.tensors.is_contiguous(memory_format=torch.channels_last)
    assert moved.sizes == images.sizes


def test_short_side_refuses_other_images() -> None:
    with pytest.raises(DataError, match=r"image: expected .* got"):
        make_short_side().preprocess(torch.zeros(3, 4, 4))


# Images as they are read

GEOMETRIES: dict[str, Geometry] = {
    "fixed": make_geometry(),
    "fixed, filtered": make_geometry(antialias=True),
    "fixed, opencv": make_geometry(resize_method="opencv"),
    "short side": make_short_side(),
    "short side, pillow": make_short_side(resize_method="pillow"),
    "short side, opencv, BGR": make_short_side(resize_method="opencv", channel_order="BGR", rounding="half_up"),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("size", [(24, 32), (1, 1), (50, 40), (3, 400), (200, 90), (64, 64), (1, 13)])
def test_pixels_are_preprocessed_as_the_tensor_is(geometry: Geometry, size: tuple[int, int]) -> None:
    image = some_image(*size)
    wanted = geometry.preprocess(image)
    pixels = pixels_of(image)
    before = pixels.copy()
    for layout in (pixels, np.asfortranarray(pixels), pixels[::-1][::-1]):
        got = preprocess_pixels(layout, geometry, CPU)
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@given(height=st.integers(1, 120), width=st.integers(1, 120))
@settings(max_examples=20)
def test_pixels_of_any_size_get_the_size_that_is_announced(geometry: Geometry, height: int, width: int) -> None:
    got = preprocess_pixels(pixels_of(some_image(height, width)), geometry, CPU)
    assert got.shape == (3, *geometry.resized_size((height, width)))
    assert got.isfinite().all()


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_pixels_may_be_read_only_and_keep_apart(geometry: Geometry) -> None:
    """An input that shared the memory of an image of the right size would change with it."""
    height, width = geometry.resized_size((24, 32))
    pixels = pixels_of(some_image(height, width))
    pixels.flags.writeable = False
    got = preprocess_pixels(pixels, geometry, CPU)
    got.zero_()
    assert pixels.any()


def test_floats_are_next_to_whole_grey_levels() -> None:
    """Exported files may be fed with the rounded result: it differs by half a grey level at most."""
    image = some_image(50, 40)
    whole = resize_bilinear(pixels_of(image), (24, 32))
    assert np.abs(make_geometry().resize(image).permute(1, 2, 0).numpy() - whole).max() <= 0.5 + 1e-3
