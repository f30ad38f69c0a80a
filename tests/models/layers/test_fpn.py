from __future__ import annotations

from typing import Literal

import pytest
import torch

from protomask.models.layers.fpn import FeaturePyramid

CHANNELS = (4, 6, 8)


def features() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, width, side, side, generator=generator) for width, side in zip(CHANNELS, (9, 5, 3), strict=True)
    ]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("extra_from", ["P5", "C5"])
def test_levels_have_their_signs_sizes_and_sources(relu: bool, extra_from: Literal["P5", "C5"]) -> None:
    torch.manual_seed(0)
    pyramid = FeaturePyramid(CHANNELS, 5, relu=relu, extra_from=extra_from)
    given = features()
    levels = pyramid(given)
    assert [tuple(level.shape) for level in levels] == [(1, 5, side, side) for side in (9, 5, 3, 2, 1)]
    assert [bool((level >= 0).all()) for level in levels[:3]] == [relu] * 3
    assert bool((levels[3] < 0).any())
    assert torch.equal(levels[3], pyramid.extra[0](given[2] if extra_from == "C5" else levels[2]))
    assert torch.equal(levels[4], pyramid.extra[1](levels[3]))
