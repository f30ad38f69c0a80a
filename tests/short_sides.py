"""Sizes of images that are resized to a short side of 800 px, the long one at most 1333."""

from __future__ import annotations

from protomask.images.resize import Rounding

Size = tuple[int, int]

SHORT_SIDES: list[tuple[Rounding, Size, Size]] = [
    ("floor", (480, 640), (800, 1066)),
    ("half_up", (480, 640), (800, 1067)),
    ("short_side", (480, 640), (800, 1066)),
    ("short_side", (352, 640), (733, 1332)),
    ("short_side", (640, 200), (1334, 417)),
    ("floor", (1, 5000), (1, 1333)),
    ("half_up", (5000, 1), (1333, 1)),
    ("floor", (800, 800), (800, 800)),
]
"""Rounding, size (H, W) of the image, and the size that it gets."""
