"""Colours as people tell them apart."""

from __future__ import annotations

import torch
from torch import Tensor

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
"""Linear sRGB to CIE XYZ (IEC 61966-2-1), white D65."""
_WHITE = (0.95047, 1.0, 1.08883)
_KNEE = 6 / 29
"""Below its cube, the root is continued by a line."""


def srgb_to_lab(colors: Tensor) -> Tensor:
    """CIELAB of sRGB colours: the distance of two says how different they look.

    Args:
        colors: (..., 3) in [0, 1]; other values are clipped.

    Returns:
        (..., 3): lightness 0..100, and two axes of about -100..100, green to red and blue to yellow.

    """
    colors = colors.clamp(0, 1)
    linear = torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    xyz = linear @ colors.new_tensor(_TO_XYZ).T / colors.new_tensor(_WHITE)
    roots = torch.where(xyz > _KNEE**3, xyz.clamp(min=_KNEE**3) ** (1 / 3), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = roots.unbind(dim=-1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-1)
