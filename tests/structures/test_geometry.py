from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from protomask.errors import ConfigError, DataError
from protomask.structures.geometry import ImageGeometry


def make_geometry(**changes: Any) -> ImageGeometry:
    values: dict[str, Any] = {"image_size": (24, 32), "mean": (123.0, 116.0, 103.0), "std": (58.0, 57.0, 56.0)}
    return ImageGeometry(**values | changes)


def some_image(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(height))


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


def test_with_filter_the_resize_is_the_filtered_one_up_to_rounding() -> None:
    image = some_image(50, 40)
    wanted = F.interpolate(image[None].float(), (24, 32), mode="bilinear", align_corners=False, antialias=True)[0]
    assert (make_geometry(antialias=True).resize(image) - wanted).abs().max() <= 1.01


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
    ("field", "value"), [("image_size", (0, 8)), ("image_size", (8, -1)), ("std", (1.0, 0.0, 1.0))]
)
def test_settings_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}: expected"):
        make_geometry(**{field: value})
