from __future__ import annotations

from typing import Any

import pytest
import torch

from protomask.ops.colors import srgb_to_lab


@pytest.mark.parametrize(
    ("color", "lab"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0.0, 0.0)),
    ],
)
def test_colours_of_the_standard(color: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert srgb_to_lab(torch.tensor(color)).tolist() == pytest.approx(lab, abs=0.03)


def test_dark_greys_have_finite_gradients() -> None:
    colors = torch.linspace(0, 0.05, 20)[:, None].repeat(1, 3).requires_grad_()
    lightness: Any = srgb_to_lab(colors)[:, 0]
    lightness.sum().backward()
    assert (lightness.diff() > 0).all()
    assert colors.grad is not None
    assert colors.grad.isfinite().all()
