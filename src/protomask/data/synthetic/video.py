"""Synthetic videos: the shapes of the scenes, moving, with exact visible masks and identities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.data.synthetic.options import Overlap, SyntheticVideoOptions
from protomask.data.synthetic.paint import (
    FloatArray,
    cast_shadow,
    lay_on,
    paint_background,
    paint_object,
    random_hues,
    random_light,
)
from protomask.data.synthetic.paths import Path, camera_path, random_path
from protomask.data.synthetic.plan import MIN_VISIBLE_AREA, BoolArray, ByteArray, PlacedObject, check_scene, rasterise
from protomask.data.synthetic.shapes import CLASS_NAMES, Points, deformed_rings

VIDEO_VERSION = 1
"""Raised whenever the pixels or masks of an existing (seed, index) change."""

_COUNTS: dict[Overlap, tuple[int, int]] = {"little": (3, 6), "heavy": (9, 14)}
_DIAMETERS = (34.0, 84.0)
"""px at 256 x 256: shapes that stay recognisable while they are partly hidden."""
_CLASSES = 4
"""Different classes in a video, so that objects of one class meet."""


class SyntheticFrame(NamedTuple):
    """One frame of a video and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, what is visible of each of the video's objects; disjoint. An object of which less than 24
            pixels are visible has an empty mask.

    """

    image: ByteArray
    masks: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Actor:
    """An object of a video: its shape around (0, 0), its colours in that frame, and its path."""

    label: int
    rings: tuple[Points, ...]
    diameter: float
    path: Path
    colours: Image.Image
    origin: tuple[float, float]  # px, place of (0, 0) in the colours

    def rings_at(self, seconds: float, shift: tuple[float, float]) -> tuple[Points, ...]:
        angle = self.path.turn * seconds
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        x, y = self.path.at(seconds)
        return tuple(ring @ turn + np.array([x + shift[0], y + shift[1]]) for ring in self.rings)

    def colours_at(self, seconds: float, item: PlacedObject) -> FloatArray:
        """Colours (3, h, w) of the window of the placed object."""
        angle = self.path.turn * seconds
        cos, sin = math.cos(angle), math.sin(angle)
        rows, columns = item.coverage.shape
        # From a pixel of the window back to the colours; Pillow asks for the place of its upper left corner.
        x, y = item.left - item.centre[0], item.top - item.centre[1]
        back = (cos, sin, cos * x + sin * y + self.origin[0], -sin, cos, -sin * x + cos * y + self.origin[1])
        turned = self.colours.transform((columns, rows), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
        planes: FloatArray = np.asarray(turned).transpose(2, 0, 1).astype(np.float32, order="C")
        return planes


class SyntheticVideo:
    """A video that is a pure function of its arguments.

    Args:
        seed: data set seed, 0 or more.
        index: video number, 0 or more.
        image_size: (H, W), each at least 32; objects scale with sqrt(H * W).
        options: see `SyntheticVideoOptions`.

    Raises:
        ConfigError: a negative seed or index, or an image side below 32.

    """

    def __init__(
        self,
        seed: int,
        index: int,
        *,
        image_size: tuple[int, int] = (240, 320),
        options: SyntheticVideoOptions | None = None,
    ) -> None:
        self.image_size = check_scene(seed, index, image_size)
        self.options = options or SyntheticVideoOptions()
        self._seed = (seed, index)
        rng = np.random.default_rng([seed, index, 2])
        self._light = random_light(self.image_size, rng)
        self._margin = math.ceil(self.options.shake) + 1
        height, width = (side + 2 * self._margin for side in self.image_size)
        self._background = paint_background((height, width), rng)
        self._noise = float(min(rng.gamma(2.0, 1.5), 8.0))
        self._camera = camera_path(self.options.frames, self.options.fps, self.options.shake, rng)
        hues = random_hues(rng)
        low, high = _COUNTS[self.options.overlap]
        count = int(rng.integers(low, high + 1))
        classes = rng.choice(len(CLASS_NAMES), size=_CLASSES, replace=False)
        self._actors = [
            self._cast(number, count, int(classes[rng.integers(_CLASSES)]), hues, rng) for number in range(count)
        ]

    @property
    def labels(self) -> tuple[int, ...]:
        """Class of each object, 0-based index into `protomask.data.synthetic.shapes.CLASS_NAMES`."""
        return tuple(actor.label for actor in self._actors)

    def _cast(
        self, number: int, count: int, label: int, hues: NDArray[np.float64] | None, rng: np.random.Generator
    ) -> _Actor:
        height, width = self.image_size
        options = self.options
        diameter = math.exp(rng.uniform(*np.log(_DIAMETERS))) * math.sqrt(height * width) / 256
        rings = deformed_rings(CLASS_NAMES[label], diameter, rng)
        path = random_path(
            number, count, diameter, overlap=options.overlap, image_size=self.image_size,
            seconds=options.frames / options.fps, rng=rng,
        )  # fmt: skip
        # Its colours are chosen against the background in the middle of the frame, and kept.
        side = max(self._background.shape[1:]) + 2 * math.ceil(diameter)
        canvas = np.pad(self._background, ((0, 0), (0, side), (0, side)), mode="reflect")
        x, y = (self._background.shape[2] / 2, self._background.shape[1] / 2)
        item = _placed(label, tuple(ring + np.array([x, y]) for ring in rings), canvas.shape[1:], (x, y), diameter)
        assert item is not None
        colours = paint_object(canvas, item, self._light, hues, rng)
        return _Actor(
            label=label,
            rings=tuple(rings),
            diameter=diameter,
            path=path,
            colours=Image.fromarray(colours.transpose(1, 2, 0).astype(np.uint8)),
            origin=(x - item.left, y - item.top),
        )

    def __len__(self) -> int:
        return self.options.frames

    def __iter__(self) -> Iterator[SyntheticFrame]:
        return map(self.frame, range(len(self)))

    def frame(self, index: int) -> SyntheticFrame:
        """One frame; objects with lower numbers lie in front."""
        height, width = self.image_size
        seconds = index / self.options.fps
        shift = tuple(self._camera[index].tolist())
        canvas = self._seen_background(shift)
        masks = np.zeros((len(self._actors), height, width), dtype=bool)
        items = []
        for number, actor in enumerate(self._actors):
            x, y = actor.path.at(seconds)
            centre = (x + shift[0], y + shift[1])
            item = _placed(actor.label, actor.rings_at(seconds, shift), (height, width), centre, actor.diameter)
            items.append(item)
            if item is not None:
                rows, columns = item.coverage.shape
                masks[number, item.top : item.top + rows, item.left : item.left + columns] = item.coverage >= 128
        for item, actor in zip(reversed(items), reversed(self._actors), strict=True):
            if item is not None:
                cast_shadow(canvas, item, self._light)
                lay_on(canvas, item, actor.colours_at(seconds, item))
        behind = np.zeros((height, width), dtype=bool)
        for mask in masks:
            mask &= ~behind
            behind |= mask
            if mask.sum() < MIN_VISIBLE_AREA:
                mask[:] = False
        return SyntheticFrame(self._exposed(canvas, index), masks)

    def _seen_background(self, shift: tuple[float, ...]) -> FloatArray:
        """The part of the background that the camera sees, between whole pixels."""
        height, width = self.image_size
        x, y = self._margin - shift[0], self._margin - shift[1]
        left, top = math.floor(x), math.floor(y)
        across, down = np.float32(x - left), np.float32(y - top)
        part = self._background[:, top : top + height + 1, left : left + width + 1]
        rows = part[:, :-1] + (part[:, 1:] - part[:, :-1]) * down
        seen: FloatArray = (rows[:, :, :-1] + (rows[:, :, 1:] - rows[:, :, :-1]) * across).astype(np.float32)
        return seen

    def _exposed(self, canvas: FloatArray, index: int) -> ByteArray:
        """Bytes (H, W, 3) with sensor noise."""
        rng = np.random.default_rng([*self._seed, 3, index])
        canvas += rng.standard_normal((1, *self.image_size), dtype=np.float32) * np.float32(self._noise)
        canvas += np.float32(0.5)
        return np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _placed(
    label: int,
    rings: tuple[Points, ...],
    image_size: tuple[int, ...],
    centre: tuple[float, float],
    diameter: float,
) -> PlacedObject | None:
    """An object at a place, None outside the frame."""
    window = rasterise(rings, image_size[0], image_size[1])
    if window is None:
        return None
    coverage, top, left, _ = window
    inside = coverage >= 128
    return PlacedObject(
        label=label,
        rings=rings,
        top=top,
        left=left,
        coverage=coverage,
        visible=inside,
        full_area=int(inside.sum()),
        centre=centre,
        diameter=diameter,
    )
