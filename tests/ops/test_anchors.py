from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from protomask.errors import ConfigError
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.proposals import anchors_of_levels
from protomask.models.yolact.config import YolactConfig
from protomask.models.zoo import ZOO
from protomask.ops.anchors import cell_anchors, level_anchors, pyramid_anchors, shifted_anchors

Golden = dict[str, NDArray[Any]]
COCO_SCALES = [[24.0], [48.0], [96.0], [192.0], [384.0]]
# official name: (square anchors, image size, scales); the ++ preset is here for its nine real-ratio anchors.
PUBLISHED = {
    "yolact_base": (True, 550, COCO_SCALES),
    "yolact_resnet50": (True, 550, COCO_SCALES),
    "yolact_im700": (True, 700, [[30.0], [61.0], [122.0], [244.0], [488.0]]),
    "yolact_resnet50_pascal": (False, 550, [[32.0], [64.0], [128.0], [256.0], [512.0]]),
    "yolact_plus_resnet50": (False, 550, [[s * 2 ** (i / 3) for i in range(3)] for (s,) in COCO_SCALES]),
}


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Golden:
    with np.load(golden_dir / "yolact" / "ops.npz") as file:
        return {key: file[key] for key in file.files if key.startswith("priors.")}


def check_grid(golden: Golden, name: str, anchors: torch.Tensor) -> None:
    def entry(key: str) -> NDArray[Any]:
        return golden[f"priors.{name}.{key}"]

    assert anchors.dtype == torch.float32
    assert anchors.shape == (int(entry("count")), 4)
    values = anchors.numpy()
    np.testing.assert_array_equal(values[:64], entry("first64"))
    np.testing.assert_array_equal(values[-64:], entry("last64"))
    starts = np.concatenate([[0], np.cumsum(entry("level_counts"))])
    assert starts[-1] == len(values)
    for level, start in enumerate(starts[:-1]):
        np.testing.assert_array_equal(values[start : start + 9], entry("level_first9")[level])
    np.testing.assert_allclose(values.astype(np.float64).sum(0), entry("sum"), rtol=1e-9)
    np.testing.assert_allclose((values.astype(np.float64) ** 2).sum(0), entry("sumsq"), rtol=1e-9)


@pytest.mark.parametrize("name", PUBLISHED)
def test_grids_equal_the_official_ones(golden: Golden, name: str) -> None:
    square, image_size, scales = PUBLISHED[name]
    np.testing.assert_allclose(golden[f"priors.{name}.scales"], scales, rtol=1e-15)
    sides = golden[f"priors.{name}.conv_sizes"].tolist()
    anchors = pyramid_anchors(
        [(side, side) for side in sides],
        scales=scales,
        aspect_ratios=(1.0, 0.5, 2.0),
        image_size=image_size,
        square=square,
    )
    check_grid(golden, name, anchors)


@pytest.mark.parametrize("preset", [name for name, entry in ZOO.items() if entry.official_name in PUBLISHED])
def test_presets_make_the_official_grids(golden: Golden, preset: str) -> None:
    name = str(ZOO[preset].official_name)
    sides = golden[f"priors.{name}.conv_sizes"].tolist()
    check_grid(golden, name, preset_anchors(preset, sides))


def preset_anchors(preset: str, sides: list[int]) -> torch.Tensor:
    config = ZOO[preset].preset()
    assert isinstance(config, YolactConfig)
    return pyramid_anchors(
        [(side, side) for side in sides],
        scales=config.anchor_scales,
        aspect_ratios=config.anchor_aspect_ratios,
        image_size=config.image_size,
        square=config.square_anchors,
    )


def test_presets_without_a_golden() -> None:
    # The facts known of them: scales cut to whole pixels, pyramid sides, and the COCO grid for Darknet.
    smaller = ZOO["yolact_resnet101_400"].preset()
    assert isinstance(smaller, YolactConfig)
    assert smaller.anchor_scales == ((17.0,), (34.0,), (69.0,), (139.0,), (279.0,))
    assert len(preset_anchors(smaller.name, [50, 25, 13, 7, 4])) == 3 * (50**2 + 25**2 + 13**2 + 7**2 + 4**2)
    sides = [69, 35, 18, 9, 5]
    assert torch.equal(preset_anchors("yolact_darknet53", sides), preset_anchors("yolact_resnet101", sides))


def test_order_is_row_column_scale_ratio(golden: Golden) -> None:
    rows, columns = golden["priors.nonsquare_conv_hw"].tolist()
    anchors = level_anchors(
        (rows, columns), scales=(24, 31), aspect_ratios=(1.0, 0.5, 2.0), image_size=550, square=False
    )
    np.testing.assert_array_equal(anchors.numpy(), golden["priors.nonsquare"])


def test_square_keeps_the_width_of_each_ratio() -> None:
    options: dict[str, Any] = {"scales": (50.0,), "aspect_ratios": (1.0, 0.5, 2.0), "image_size": 100}
    square = level_anchors((1, 1), square=True, **options)
    real = level_anchors((1, 1), square=False, **options)
    assert torch.equal(square[:, 2], square[:, 3])
    assert torch.equal(square[:, 2], real[:, 2])
    torch.testing.assert_close(real[:, 2] * real[:, 3], torch.full((3,), 0.25))


def test_anchors_may_reach_out_of_the_image() -> None:
    anchors = level_anchors((1, 1), scales=(300.0,), aspect_ratios=(1.0,), image_size=100, square=False)
    assert anchors.tolist() == [[0.5, 0.5, 3.0, 3.0]]


def test_every_level_needs_its_scales() -> None:
    with pytest.raises(ConfigError, match="each of 2 levels, got 1"):
        pyramid_anchors([(2, 2), (1, 1)], scales=[(8,)], aspect_ratios=(1.0,), image_size=16, square=True)


# Two stages


@pytest.mark.parametrize("padded_size", [(256, 352), (800, 1088), (64, 64)])
def test_rounded_anchors_are_torchvisions(padded_size: tuple[int, int]) -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
    height, width = padded_size
    grids = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32, 64)]
    features = [torch.zeros(1, 1, *grid) for grid in grids]
    images = ImageList(torch.zeros(1, 3, *padded_size), [padded_size])
    (wanted,) = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * 5)(images, features)
    config = ZOO["mask_rcnn_resnet50_fpn"].preset()
    assert isinstance(config, RCNNConfig)
    assert torch.equal(torch.cat(anchors_of_levels(grids, padded_size, config)), wanted)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("rounded", [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]),
        ("exact", [[-22.6274, -11.3137, 22.6274, 11.3137], [-16, -16, 16, 16], [-11.3137, -22.6274, 11.3137, 22.6274]]),
        ("legacy", [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]]),
    ],
)
def test_anchors_of_the_first_cell(kind: Literal["rounded", "exact", "legacy"], wanted: list[list[float]]) -> None:
    anchors = cell_anchors(32.0, (0.5, 1.0, 2.0), stride=4, kind=kind)
    torch.testing.assert_close(anchors, torch.tensor(wanted).float(), rtol=0, atol=1e-4)


def test_shifted_anchors_go_row_by_row() -> None:
    cell = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-2.0, -1.0, 2.0, 1.0]])
    anchors = shifted_anchors(cell, (2, 3), (10, 4))
    assert anchors.shape == (12, 4)
    assert torch.equal(anchors[:2], cell)
    assert torch.equal(anchors[2], cell[0] + torch.tensor([4.0, 0.0, 4.0, 0.0]))
    assert torch.equal(anchors[7], cell[1] + torch.tensor([0.0, 10.0, 0.0, 10.0]))
    assert shifted_anchors(cell, (0, 3), (4, 4)).shape == (0, 4)
