from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from golden_values import read_picture
from protomask.errors import ConfigError, DataError
from protomask.images.resize import resize_opencv, resize_pillow


def noise(height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8))


def checksum(image: Tensor) -> int:
    return zlib.crc32(image.contiguous().numpy().tobytes())


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


@pytest.mark.parametrize(("source", "size", "wanted"), OPENCV)
def test_resizing_as_opencv_gives_its_very_bytes(source: tuple[int, int], size: tuple[int, int], wanted: int) -> None:
    image = noise(*source)
    before = image.clone()
    resized = resize_opencv(image, size)
    assert resized.dtype == torch.uint8
    assert resized.shape == (3, *size)
    assert checksum(resized) == wanted
    assert torch.equal(image, before)


# What MMDetection fed its networks with, blue first.
PICTURES = [
    (1, (550, 550), 4089094376),
    (2, (550, 550), 1564279827),
    (1, (800, 1067), 1444942701),
    (2, (800, 1199), 2036619125),
]


@pytest.mark.parametrize(("number", "size", "wanted"), PICTURES)
def test_resized_pictures_are_those_of_mmdetection(
    number: int, size: tuple[int, int], wanted: int, golden_dir: Path
) -> None:
    assert checksum(resize_opencv(read_picture(golden_dir, number), size).flip(0)) == wanted


@pytest.mark.parametrize(("source", "size"), [case[:2] for case in OPENCV])
def test_whole_grey_levels_are_those_of_bilinear_interpolation_or_next_to_them(
    source: tuple[int, int], size: tuple[int, int]
) -> None:
    image = noise(*source)
    wanted = F.interpolate(image[None].float(), size, mode="bilinear", align_corners=False)[0].round()
    assert (resize_opencv(image, size) - wanted).abs().max() <= 1


@pytest.mark.parametrize(("source", "size"), [case[:2] for case in OPENCV])
def test_resizing_by_pillow_is_pillows(source: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*source)
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    wanted = np.array(picture.resize(size[::-1], Image.Resampling.BILINEAR))
    resized = resize_pillow(image, size)
    assert resized.is_contiguous()
    assert np.array_equal(resized.permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("resize", [resize_opencv, resize_pillow])
def test_an_image_of_the_right_size_is_copied(resize: type) -> None:
    image = noise(6, 5)
    resized = resize(image, (6, 5))
    assert torch.equal(resized, image)
    resized.zero_()
    assert image.any()


@pytest.mark.parametrize("resize", [resize_opencv, resize_pillow])
def test_images_need_not_be_contiguous(resize: type) -> None:
    image = noise(9, 7)
    by_pixel = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(resize(by_pixel, (5, 11)), resize(image, (5, 11)))


@pytest.mark.parametrize("resize", [resize_opencv, resize_pillow])
def test_other_images_and_sizes_are_refused(resize: type) -> None:
    for image in (torch.zeros(3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(3, 0, 4).byte()):
        with pytest.raises(DataError, match=r"image: expected .* got"):
            resize(image, (4, 4))
    with pytest.raises(ConfigError, match=r"size: expected .* got"):
        resize(noise(4, 4), (0, 4))
