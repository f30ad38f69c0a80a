"""Synthetic instance-segmentation scenes: textured shapes that overlap, as images with exact visible masks.

A scene is a pure function of ``(seed, index, image_size)``. It is made in two steps: :func:`plan_scene` decides what
lies where (shapes, stacking order, visible masks), and the painter gives the plan colours, textures, light and noise.
Texture and colour are drawn independently of the class, so only shape tells classes apart.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from protomask.errors import ConfigError, DataError
from protomask.files import replacing
from protomask.structures.instances import Target

GENERATOR_VERSION = 1
"""Raised whenever the pixels or masks of an existing (seed, index) change."""

VAL_INDEX_START = 1_000_000_000
"""Index of the first validation scene: far behind any training index, so the two splits never share a scene."""

EMPTY_SCENE_SHARE = 0.02
MIN_OBJECTS, MAX_OBJECTS = 3, 14
MIN_VISIBLE_SHARE = 0.2
MIN_VISIBLE_SHARE_SMALL = 0.6
SMALL_DIAMETER = 20.0
MIN_VISIBLE_AREA = 24
MIN_IMAGE_SIDE = 32
JPEG_QUALITY = 92

_SETTINGS_FILE = "synthetic.json"

# Shares and diameters (px at 256 x 256) of tiny, small, medium and large objects.
_SIZE_SHARES = (0.06, 0.17, 0.44, 0.33)
_SIZE_RANGES = ((9.0, 13.0), (14.0, 28.0), (28.0, 60.0), (60.0, 120.0))
# Below these diameters (px) a shape can no longer be told from its neighbours: a ring's hole closes, a bar is a line.
_MIN_DIAMETER = {"ring": 13.0, "star": 11.0, "crescent": 13.0, "heart": 11.0, "arrow": 15.0, "bar": 24.0}
# Thin shapes are drawn longer, so that their areas are like those of compact ones.
_LENGTH_FACTOR = {"bar": 1.45, "arrow": 1.2, "crescent": 1.1}
_MAX_ASPECT = {"square": 1.25, "bar": 1.0, "arrow": 1.15}

_PLACEMENT_ATTEMPTS = 10
_CLUSTER_SHARE = 0.74
_MIN_IN_FRAME_SHARE = 0.6

# Weighted RGB distance (0..255) below which two colours are taken to blend into each other.
_MIN_CONTRAST = 52.0
_COLOUR_WEIGHTS = np.array([0.28, 0.50, 0.22], dtype=np.float32)

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Points = NDArray[np.float64]


# --------------------------------------------------------------------------------------------------------------------
# Shapes: closed polygons in a unit frame, inside the circle of radius 1 around the origin
# --------------------------------------------------------------------------------------------------------------------


def _arc(start: float, stop: float, count: int, radius: float = 1.0) -> Points:
    angles = np.linspace(start, stop, count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(radius: float = 1.0) -> Points:
    return _arc(0.0, 2 * math.pi, 49, radius)[:-1]


def _subdivide(corners: Points, parts: int) -> Points:
    """Cut every edge into equal parts, so that a warp bends edges rather than only moving corners."""
    following = np.roll(corners, -1, axis=0)
    steps = np.arange(parts)[None, :, None] / parts
    return (corners[:, None] + (following - corners)[:, None] * steps).reshape(-1, 2)


def _disk(rng: np.random.Generator) -> list[Points]:
    return [_circle()]


def _ring(rng: np.random.Generator) -> list[Points]:
    return [_circle(), _circle(rng.uniform(0.45, 0.68))]


def _square(rng: np.random.Generator) -> list[Points]:
    half = math.sqrt(0.5)
    return [_subdivide(np.array([[-half, -half], [half, -half], [half, half], [-half, half]]), 8)]


def _triangle(rng: np.random.Generator) -> list[Points]:
    angles = np.array([0.0, 2.0, 4.0]) * math.pi / 3 + rng.uniform(-0.16, 0.16, 3)
    return [_subdivide(np.stack([np.cos(angles), np.sin(angles)], axis=1), 10)]


def _star(rng: np.random.Generator) -> list[Points]:
    tips = int(rng.integers(5, 7))
    radii = np.where(np.arange(2 * tips) % 2 == 0, 1.0, rng.uniform(0.38, 0.5))
    angles = np.arange(2 * tips) * math.pi / tips
    return [_subdivide(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1), 3)]


def _cross(rng: np.random.Generator) -> list[Points]:
    half = rng.uniform(0.24, 0.36)
    reach = math.sqrt(1 - half * half)
    arm = np.array([[reach, -half], [reach, half], [half, half]])
    arms = [arm]
    for _ in range(3):
        arm = np.stack([-arm[:, 1], arm[:, 0]], axis=1)
        arms.append(arm)
    return [_subdivide(np.concatenate(arms), 4)]


def _crescent(rng: np.random.Generator) -> list[Points]:
    """Between the unit circle and a second circle through both tips that bulges towards its middle, the waist."""
    opening = rng.uniform(0.75, 1.15)
    tip_x, tip_y = math.cos(opening), math.sin(opening)
    waist_x = rng.uniform(-0.5, -0.25)
    centre_x = (1 - waist_x * waist_x) / (2 * (tip_x - waist_x))
    half_angle = math.atan2(tip_y, tip_x - centre_x)
    outer = _arc(opening, 2 * math.pi - opening, 40)
    inner = _arc(2 * math.pi - half_angle, half_angle, 32, centre_x - waist_x) + np.array([centre_x, 0.0])
    return [np.concatenate([outer, inner[1:-1]])]


def _heart(rng: np.random.Generator) -> list[Points]:
    angle = np.linspace(0, 2 * math.pi, 57)[:-1]
    x = 16 * np.sin(angle) ** 3
    y = -(13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle))
    return [np.stack([x, y - 2.5], axis=1) / 16.5]


def _arrow(rng: np.random.Generator) -> list[Points]:
    shaft, head = rng.uniform(0.15, 0.22), rng.uniform(0.46, 0.6)
    neck, tail = rng.uniform(0.0, 0.3), -math.sqrt(1 - shaft * shaft)
    lower = np.array([[neck, head], [neck, shaft], [tail, shaft]])
    corners = np.concatenate([np.array([[1.0, 0.0]]), lower, lower[::-1] * np.array([1.0, -1.0])])
    return [_subdivide(corners, 5)]


def _bar(rng: np.random.Generator) -> list[Points]:
    half = 1 / rng.uniform(4.0, 7.5)
    if rng.random() < 0.5:
        return [_subdivide(np.array([[-1.0, -half], [1.0, -half], [1.0, half], [-1.0, half]]), 12)]
    cap = _arc(-math.pi / 2, math.pi / 2, 9, half) + np.array([1 - half, 0.0])
    return [_subdivide(np.concatenate([cap, -cap]), 2)]


_SHAPES: dict[str, Callable[[np.random.Generator], list[Points]]] = {
    "disk": _disk,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "bar": _bar,
}
"""One random member of each class: its exterior (K, 2), then its holes, x right and y down, within radius 1."""

CLASS_NAMES: tuple[str, ...] = tuple(_SHAPES)


# --------------------------------------------------------------------------------------------------------------------
# Plan: what lies where
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PlacedObject:
    """One object of a planned scene. Windows are clipped to the image; ``top``/``left`` place them in it (px).

    Attributes:
        label: 0-based index into ``CLASS_NAMES``.
        rings: closed polygons (K, 2), x and y in image px: the exterior, then holes.
        top, left: image row and column of the window's first pixel.
        coverage: (h, w) uint8, share of each pixel inside the shape, 0..255.
        visible: (h, w) bool, pixels that show this object.
        full_area: in-frame area in px, were nothing in front of it.
        centre, diameter: position (x, y) and size of the shape in px.

    """

    label: int
    rings: tuple[Points, ...]
    top: int
    left: int
    coverage: ByteArray
    visible: BoolArray
    full_area: int
    centre: tuple[float, float]
    diameter: float

    @property
    def occluded_share(self) -> float:
        """Share of the in-frame area hidden by objects in front, 0..1."""
        return 1.0 - int(self.visible.sum()) / self.full_area


def plan_scene(seed: int, index: int, *, image_size: tuple[int, int] = (256, 256)) -> list[PlacedObject]:
    """Choose and stack the objects of one scene, without painting it.

    Objects are placed from the front to the back, each keeping what the ones before it leave visible; a place that
    leaves too little (``MIN_VISIBLE_SHARE``, ``MIN_VISIBLE_AREA``) is tried again elsewhere and finally given up.

    Returns: objects from front to back; their visible masks are disjoint and not empty. About 2 % of scenes have none.

    Raises: ConfigError for a negative seed or index or an image side below 32.

    """
    height, width = _check_scene(seed, index, image_size)
    rng = np.random.default_rng([seed, index])
    if rng.random() < EMPTY_SCENE_SHARE:
        return []
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    labels = rng.integers(len(CLASS_NAMES), size=count)
    diameters = np.array([_random_diameter(int(label), rng, height, width) for label in labels])
    # Small things tend to lie in front, or large ones would bury them; the jitter keeps the rule loose.
    order = np.argsort(np.log(diameters) + rng.normal(0.0, 1.0, count))
    taken = np.zeros((height, width), dtype=bool)
    placed: list[PlacedObject] = []
    for position in order:
        item = _place(int(labels[position]), float(diameters[position]), placed, taken, rng)
        if item is not None:
            placed.append(item)
            rows, columns = item.visible.shape
            taken[item.top : item.top + rows, item.left : item.left + columns] |= item.visible
    return placed


def _check_scene(seed: int, index: int, image_size: tuple[int, int]) -> tuple[int, int]:
    if seed < 0 or index < 0:
        raise ConfigError(f"seed and index must be 0 or more, got seed {seed}, index {index}")
    height, width = image_size
    if min(height, width) < MIN_IMAGE_SIDE:
        raise ConfigError(f"image_size (H, W) must be at least {MIN_IMAGE_SIDE} on each side, got {image_size}")
    return height, width


def _random_diameter(label: int, rng: np.random.Generator, height: int, width: int) -> float:
    name = CLASS_NAMES[label]
    low, high = _SIZE_RANGES[int(rng.choice(len(_SIZE_SHARES), p=_SIZE_SHARES))]
    scale = math.sqrt(height * width) / 256 * _LENGTH_FACTOR.get(name, 1.0)
    diameter = math.exp(rng.uniform(math.log(low), math.log(high))) * scale
    return max(min(diameter, 0.62 * min(height, width)), _MIN_DIAMETER.get(name, 9.0))


def _place(
    label: int, diameter: float, placed: list[PlacedObject], taken: BoolArray, rng: np.random.Generator
) -> PlacedObject | None:
    height, width = taken.shape
    rings = _deformed_rings(CLASS_NAMES[label], diameter, rng)
    margin = 0.35 * diameter
    # A corner of a small shape is a few pixels that could be anything.
    least_share = MIN_VISIBLE_SHARE_SMALL if diameter < SMALL_DIAMETER else MIN_VISIBLE_SHARE
    for _ in range(_PLACEMENT_ATTEMPTS):
        x, y = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
        if placed and rng.random() < _CLUSTER_SHARE:
            front = placed[_pick_by_size(placed, rng)]
            distance = rng.uniform(0.35, 0.9) * (front.diameter + diameter) / 2
            direction = rng.uniform(0, 2 * math.pi)
            x = front.centre[0] + distance * math.cos(direction)
            y = front.centre[1] + distance * math.sin(direction)
            if not (margin <= x <= width - margin and margin <= y <= height - margin):
                continue
        moved = tuple(ring + np.array([x, y]) for ring in rings)
        window = _rasterise(moved, height, width)
        if window is None:
            continue
        coverage, top, left, in_frame_share = window
        inside = coverage >= 128
        rows, columns = inside.shape
        visible = inside & ~taken[top : top + rows, left : left + columns]
        full_area, visible_area = int(inside.sum()), int(visible.sum())
        if (
            in_frame_share >= _MIN_IN_FRAME_SHARE
            and visible_area >= MIN_VISIBLE_AREA
            and visible_area >= least_share * full_area
        ):
            return PlacedObject(
                label=label,
                rings=moved,
                top=top,
                left=left,
                coverage=coverage,
                visible=visible,
                full_area=full_area,
                centre=(x, y),
                diameter=diameter,
            )
    return None


def _pick_by_size(placed: list[PlacedObject], rng: np.random.Generator) -> int:
    """Index of a random object, the larger the likelier: piles of small things would be unreadable."""
    reach = np.cumsum([item.diameter**2 for item in placed])
    return int(np.searchsorted(reach, rng.uniform(0, reach[-1])))


def _deformed_rings(name: str, diameter: float, rng: np.random.Generator) -> list[Points]:
    """A random member of the class at its size, stretched, sheared, gently bent and rotated around the origin."""
    shape = _SHAPES[name](rng)
    stretch = math.sqrt(rng.uniform(1.0, _MAX_ASPECT.get(name, 1.35)))
    shear = rng.uniform(-0.12, 0.12)
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = np.array([[stretch, 0.0], [shear, 1 / stretch]]) @ turn
    phase = rng.uniform(0, 2 * math.pi, 2)
    frequency = rng.uniform(1.5, 3.0, 2)
    amount = rng.uniform(0.0, 0.06, 2)

    def bend(points: Points) -> Points:
        return points + amount * np.sin(frequency * points[:, ::-1] + phase)

    return [bend(ring) @ matrix * (diameter / 2) for ring in shape]


def _rasterise(rings: tuple[Points, ...], height: int, width: int) -> tuple[ByteArray, int, int, float] | None:
    """Antialiased coverage of polygons inside the image.

    Returns: coverage (h, w) uint8 0..255, its top row and left column, and the share of the whole shape's area that
    lies in the image; None if nothing does.
    """
    low = np.floor(rings[0].min(axis=0)).astype(int) - 1
    high = np.ceil(rings[0].max(axis=0)).astype(int) + 1
    columns, rows = (int(side) for side in high - low)
    factor = 4 if max(columns, rows) <= 48 else 2
    picture = Image.new("L", (columns * factor, rows * factor), 0)
    draw = ImageDraw.Draw(picture)
    for number, ring in enumerate(rings):
        # Pillow puts pixel centres on whole numbers; ours lie at .5.
        corners = (ring - low) * factor - 0.5
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=255 if number == 0 else 0)
    whole = np.asarray(picture.reduce(factor))
    left, top = max(int(low[0]), 0), max(int(low[1]), 0)
    right, bottom = min(int(high[0]), width), min(int(high[1]), height)
    if right <= left or bottom <= top:
        return None
    part = whole[top - low[1] : bottom - low[1], left - low[0] : right - low[0]]
    total = int(whole.sum(dtype=np.int64))
    share = int(part.sum(dtype=np.int64)) / total if total else 0.0
    return part.copy(), top, left, share


# --------------------------------------------------------------------------------------------------------------------
# Paint: colours, textures, light, noise. Canvases are (3, H, W) float32, 0..255: grey layers broadcast fast over planes
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Light:
    direction: tuple[float, float]  # unit (x, y), from the light into the scene
    shadow_strength: float  # 0 where the scene casts none
    shadow_length: float  # px
    shadow_blur: float  # px


def render_scene(seed: int, index: int, *, image_size: tuple[int, int] = (256, 256)) -> tuple[ByteArray, Target]:
    """Render one scene; the same arguments always give the same pixels.

    Args:
        seed: data set seed, 0 or more.
        index: scene number, 0 or more; validation scenes start at ``VAL_INDEX_START``.
        image_size: (H, W), each at least 32; objects scale with sqrt(H * W).

    Returns: the image (H, W, 3) uint8 RGB, and its truth in the same frame: masks are the visible parts, disjoint,
    each of at least 24 px; boxes are tight around them; ``image_id`` is ``index``.

    Raises: ConfigError for a negative seed or index or an image side below 32.

    """
    image, placed = _render(seed, index, image_size)
    if not placed:
        return image, Target.empty(image_size, image_id=index)
    masks, boxes = _masks_and_boxes(placed, image_size)
    return image, Target(
        boxes=torch.from_numpy(boxes).to(torch.float32),
        labels=torch.tensor([item.label for item in placed], dtype=torch.int64),
        masks=torch.from_numpy(masks),
        is_crowd=torch.zeros(len(placed), dtype=torch.bool),
        image_size=image_size,
        image_id=index,
    )


def _masks_and_boxes(placed: list[PlacedObject], image_size: tuple[int, int]) -> tuple[BoolArray, NDArray[np.int64]]:
    """Full-frame visible masks (N, H, W) bool and their tight xyxy boxes (N, 4) px."""
    masks = np.zeros((len(placed), *image_size), dtype=bool)
    boxes = np.zeros((len(placed), 4), dtype=np.int64)
    for number, item in enumerate(placed):
        rows, columns = item.visible.shape
        masks[number, item.top : item.top + rows, item.left : item.left + columns] = item.visible
        ys = np.flatnonzero(item.visible.any(axis=1)) + item.top
        xs = np.flatnonzero(item.visible.any(axis=0)) + item.left
        boxes[number] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return masks, boxes


def _render(seed: int, index: int, image_size: tuple[int, int]) -> tuple[ByteArray, list[PlacedObject]]:
    placed = plan_scene(seed, index, image_size=image_size)
    rng = np.random.default_rng([seed, index, 1])
    unit = math.sqrt(image_size[0] * image_size[1]) / 256
    angle = rng.uniform(0, 2 * math.pi)
    light = _Light(
        direction=(math.cos(angle), math.sin(angle)),
        shadow_strength=rng.uniform(0.25, 0.6) if rng.random() < 0.7 else 0.0,
        shadow_length=rng.uniform(1.5, 5.0) * unit,
        shadow_blur=rng.uniform(1.0, 3.0) * unit,
    )
    canvas = _paint_background(image_size, rng)
    hues = rng.uniform(0, 1, int(rng.integers(3, 6))) if rng.random() < 0.6 else None
    for item in reversed(placed):
        _cast_shadow(canvas, item, light)
        _paint_object(canvas, item, light, hues, rng)
    return _expose(canvas, light, rng), placed


def _rgb(hue: FloatArray, saturation: FloatArray, value: FloatArray) -> FloatArray:
    """Hue, saturation, value in 0..1, each (N,), to (N, 3) RGB in 0..255."""
    sector = (np.array([5.0, 3.0, 1.0]) + hue[:, None] * 6) % 6
    ramp = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    rgb: FloatArray = (255 * value[:, None] * (1 - saturation[:, None] * ramp)).astype(np.float32)
    return rgb


def _random_colours(count: int, hues: NDArray[np.float64] | None, rng: np.random.Generator) -> FloatArray:
    hue = rng.uniform(0, 1, count)
    if hues is not None:
        hue = (hues[rng.integers(len(hues), size=count)] + rng.normal(0, 0.025, count)) % 1
    return _rgb(
        hue.astype(np.float32),
        rng.beta(2.2, 1.8, count).astype(np.float32) * 0.9,
        rng.uniform(0.22, 1.0, count).astype(np.float32),
    )


def _paint_background(image_size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Muted gradient with soft blobs, then clutter that is no object: fine texture, thin lines, scribbles."""
    height, width = image_size
    hue = (rng.uniform() + rng.normal(0, 0.09, 4)) % 1
    value = rng.uniform(0.2, 0.9) + rng.normal(0, 0.09, 4)
    corners = _rgb(
        hue.astype(np.float32),
        rng.uniform(0.03, 0.42, 4).astype(np.float32),
        np.clip(value, 0.1, 0.97).astype(np.float32),
    )
    # Everything soft is made on a coarse grid and enlarged: smooth, and almost free.
    grid = 28
    ramp = np.linspace(0, 1, grid, dtype=np.float32)
    across, down = ramp[None, :, None], ramp[:, None, None]
    coarse = (corners[0] * (1 - across) + corners[1] * across) * (1 - down)
    coarse = coarse + (corners[2] * (1 - across) + corners[3] * across) * down
    coarse += rng.normal(0, rng.uniform(0, 7), (grid, grid, 1)).astype(np.float32)
    soft = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(soft)
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(-2, grid, 2)
        across_px, down_px = rng.uniform(2, 12, 2)
        row, column = (int(np.clip(c, 0, grid - 1)) for c in (y, x))
        colour = np.clip(coarse[row, column] + rng.normal(0, 26), 0, 255)
        draw.ellipse((x, y, x + across_px, y + down_px), fill=tuple(int(c) for c in colour))
    canvas = _planar(soft.filter(ImageFilter.BoxBlur(2)).resize((width, height), Image.Resampling.BICUBIC))
    x, y = _frame_axes(height, width)
    for _ in range(int(rng.choice(3, p=(0.6, 0.25, 0.15)))):
        angle = rng.uniform(0, 2 * math.pi)
        past = (x * np.float32(math.cos(angle)))[None] + (y * np.float32(math.sin(angle)))[:, None]
        step = rng.normal(0, 16) + rng.normal(0, 5, 3)
        edge = _clip_weights((past - np.float32(rng.uniform(-0.7, 0.7))) * (width / 2))
        canvas += edge * step.astype(np.float32)[:, None, None]
    if rng.random() < 0.45:
        canvas += _weave(height, width, rng)
    for draw_clutter, share in ((_draw_lines, 0.5), (_draw_scribbles, 0.5)):
        if rng.random() < share:
            layer = Image.new("L", (width * 2, height * 2), 0)
            draw_clutter(ImageDraw.Draw(layer), width * 2, height * 2, rng)
            cover = np.asarray(layer.reduce(2), dtype=np.float32) * (rng.uniform(0.25, 0.75) / 255)
            tint = _random_colours(1, None, rng)[0, :, None, None]
            canvas += cover * (tint - canvas)
    return canvas


def _planar(picture: Image.Image) -> FloatArray:
    planes: FloatArray = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
    return planes


def _frame_axes(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Columns (W,) and rows (H,), each from -1 to 1."""
    return np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)


def _weave(height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """Periodic texture, fine or coarse, (H, W), a few grey levels strong."""
    angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(4), math.log(48)))
    x = np.arange(width, dtype=np.float32) * np.float32(2 * math.pi * math.cos(angle) / period)
    y = np.arange(height, dtype=np.float32) * np.float32(2 * math.pi * math.sin(angle) / period)
    wave: FloatArray = np.sin(x[None] + y[:, None])
    if rng.random() < 0.5:
        wave *= np.sin(x[::-1][None] - y[:, None])
    if rng.random() < 0.4:
        np.clip(wave * np.float32(period / 5), -1, 1, out=wave)
    wave *= np.float32(rng.uniform(2.5, 8.0))
    return wave


def _draw_lines(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 9))):
        ends = rng.uniform(-0.1, 1.1, 4) * (width, height, width, height)
        draw.line(ends.tolist(), fill=255, width=int(rng.integers(1, 4)))


def _draw_scribbles(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Open thin curves: strokes that end nowhere and enclose nothing."""
    for _ in range(int(rng.integers(1, 5))):
        steps = int(rng.integers(12, 40))
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.45, steps))
        length = rng.uniform(4, 12)
        x = rng.uniform(0, width) + np.cumsum(length * np.cos(heading))
        y = rng.uniform(0, height) + np.cumsum(length * np.sin(heading))
        stroke = np.stack([x, y], axis=1).ravel().tolist()
        draw.line(stroke, fill=255, width=int(rng.integers(2, 6)), joint="curve")


def _cast_shadow(canvas: FloatArray, item: PlacedObject, light: _Light) -> None:
    if light.shadow_strength == 0.0:
        return
    length = min(light.shadow_length, 0.2 * item.diameter)
    blur = min(light.shadow_blur, 0.12 * item.diameter + 0.5)
    pad = math.ceil(2 * blur) + 1
    shift_x, shift_y = round(light.direction[0] * length), round(light.direction[1] * length)
    rows, columns = item.coverage.shape
    picture = Image.new("L", (columns + 2 * pad, rows + 2 * pad), 0)
    picture.paste(Image.fromarray(item.coverage), (pad, pad))
    shadow = np.asarray(picture.filter(ImageFilter.BoxBlur(blur)))
    top, left = item.top - pad + shift_y, item.left - pad + shift_x
    bottom, right = min(top + shadow.shape[0], canvas.shape[1]), min(left + shadow.shape[1], canvas.shape[2])
    first_row, first_column = max(-top, 0), max(-left, 0)
    part = shadow[first_row : bottom - top, first_column : right - left]
    darkness = part.astype(np.float32) * np.float32(light.shadow_strength / 255)
    canvas[:, top + first_row : bottom, left + first_column : right] *= 1 - darkness


def _paint_object(
    canvas: FloatArray,
    item: PlacedObject,
    light: _Light,
    hues: NDArray[np.float64] | None,
    rng: np.random.Generator,
) -> None:
    rows, columns = item.coverage.shape
    window = canvas[:, item.top : item.top + rows, item.left : item.left + columns]
    x = np.arange(item.left, item.left + columns, dtype=np.float32) + np.float32(0.5 - item.centre[0])
    y = np.arange(item.top, item.top + rows, dtype=np.float32) + np.float32(0.5 - item.centre[1])
    first, second, contrast = _object_colours(canvas, item, hues, rng)
    mix = _texture(x, y, item.diameter, rng)
    # A broad ramp along the light gives the flat shape some body.
    ramp = (x * np.float32(light.direction[0]))[None] + (y * np.float32(light.direction[1]))[:, None]
    shade = 1 - ramp * np.float32(rng.uniform(0.0, 0.4) / item.diameter)
    paint = (first[:, None, None] + mix * (second - first)[:, None, None]) * shade
    if item.diameter > 16 and rng.random() < 0.4:
        paint += _bevel(item.coverage, light, rng)
    if contrast < 0.85 or rng.random() < 0.2:
        paint = _outlined(paint, canvas, item, (first + second) * np.float32(0.5), rng)
    np.clip(paint, 0, 255, out=paint)
    paint -= window
    paint *= item.coverage * np.float32(1 / 255)
    window += paint


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Weighted RGB distances (N, M) between colours (N, 3) and (M, 3)."""
    squares = np.square(first[:, None] - second[None]) @ _COLOUR_WEIGHTS
    distances: FloatArray = np.sqrt(squares)
    return distances


def _surroundings(canvas: FloatArray, item: PlacedObject) -> FloatArray:
    """Colours (K, 3) that the object's outline will run along, holes included."""
    points = np.concatenate(item.rings)
    columns, rows = points[:, 0].astype(int), points[:, 1].astype(int)
    inside = (columns >= 0) & (columns < canvas.shape[2]) & (rows >= 0) & (rows < canvas.shape[1])
    around: FloatArray = canvas[:, rows[inside], columns[inside]].T
    return around


def _object_colours(
    canvas: FloatArray, item: PlacedObject, hues: NDArray[np.float64] | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, float]:
    """Two colours for the texture that stand out from what lies around, and the share of the outline where both do."""
    candidates = 16
    first = _random_colours(candidates, hues, rng)
    # The second colour is mostly a lighter or darker relative: texture without tearing the object apart.
    gain = np.where(rng.random(candidates) < 0.5, rng.uniform(0.5, 0.8, candidates), rng.uniform(1.25, 1.7, candidates))
    relative = first * gain[:, None].astype(np.float32) + rng.normal(0, 14, (candidates, 3)).astype(np.float32)
    unrelated = np.roll(first, 1, axis=0)
    second = np.clip(np.where(rng.random((candidates, 1)) < 0.8, relative, unrelated), 0, 255).astype(np.float32)
    around = _surroundings(canvas, item)
    distinct = (_distances(first, around) > _MIN_CONTRAST) & (_distances(second, around) > 0.6 * _MIN_CONTRAST)
    shares = distinct.mean(axis=1)
    # The first candidate that will do, not the best: the best would always be the gaudiest.
    good = np.flatnonzero(shares >= 0.97)
    chosen = int(good[0]) if good.size else int(shares.argmax())
    return first[chosen], second[chosen], float(shares[chosen])


def _clip_weights(values: NDArray[Any]) -> FloatArray:
    clipped: FloatArray = np.clip(values, 0, 1)
    return clipped


def _texture(x: FloatArray, y: FloatArray, diameter: float, rng: np.random.Generator) -> FloatArray:
    """Mixing weights (h, w) in 0..1 between an object's two colours; ``x`` (w,), ``y`` (h,): px from its centre."""
    kinds = ("plain", "gradient", "radial", "stripes", "checks", "dots", "noise", "grain")
    kind = kinds[int(rng.integers(len(kinds)))]
    angle = rng.uniform(0, 2 * math.pi)
    period = max(diameter * rng.uniform(0.14, 0.32), 5.0)
    if diameter < 18:
        kind = "plain" if kind not in ("gradient", "radial", "grain") else kind
    if kind == "plain":
        return np.zeros((y.size, x.size), dtype=np.float32)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    if kind == "radial":
        return _clip_weights(np.sqrt(x[None] ** 2 + y[:, None] ** 2) * np.float32(2 / diameter))
    if kind == "noise":
        cells = rng.random((max(int(y.size / period), 1) + 2, max(int(x.size / period), 1) + 2), dtype=np.float32)
        blown_up = Image.fromarray(cells).resize((x.size, y.size), Image.Resampling.BILINEAR)
        return _clip_weights(np.asarray(blown_up) * 1.6 - 0.3)
    if kind == "grain":
        return rng.random((y.size, x.size), dtype=np.float32) * np.float32(0.8)
    u = (x * cos)[None] + (y * sin)[:, None]
    if kind == "gradient":
        return _clip_weights(u / np.float32(diameter) + np.float32(0.5))
    pitch = np.float32(2 * math.pi / period)
    # Slopes are set so that an edge between the two colours is about a pixel wide.
    slope = np.float32(period / 6)
    if kind == "stripes":
        return _clip_weights(np.sin(u * pitch) * slope + np.float32(0.5))
    v = (y * cos)[:, None] - (x * sin)[None]
    if kind == "checks":
        pitch *= np.float32(0.7)
        return _clip_weights(np.sin(u * pitch) * np.sin(v * pitch) * slope * 2 + np.float32(0.5))
    return _clip_weights((np.cos(u * pitch) + np.cos(v * pitch) - np.float32(0.8)) * slope)


def _bevel(coverage: ByteArray, light: _Light, rng: np.random.Generator) -> FloatArray:
    """Lighter rim towards the light, darker rim away from it, (h, w) in grey levels."""
    radius = rng.uniform(1.0, 2.5)
    soft = np.asarray(Image.fromarray(coverage).filter(ImageFilter.BoxBlur(radius)), dtype=np.float32)
    vertical, horizontal = (
        np.gradient(soft, axis=axis) if soft.shape[axis] > 1 else np.zeros_like(soft) for axis in (0, 1)
    )
    slope = horizontal * np.float32(light.direction[0]) + vertical * np.float32(light.direction[1])
    return slope * np.float32(rng.uniform(0.4, 1.1))


def _outlined(
    paint: FloatArray, canvas: FloatArray, item: PlacedObject, colour: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Draw a rim inside the shape, dark or light, whichever is farther from the surroundings and the object."""
    shades = np.stack([colour * 0.3, 255 - (255 - colour) * 0.25]).astype(np.float32)
    against = np.concatenate([_surroundings(canvas, item), np.tile(colour, (8, 1))])
    rim_colour = shades[int(np.quantile(_distances(shades, against), 0.2, axis=1).argmax())]
    rows, columns = item.coverage.shape
    thickness = min(max(item.diameter * 0.035, 1.0), 2.2) * rng.uniform(0.8, 1.2)
    layer = Image.new("L", (columns * 2, rows * 2), 0)
    draw = ImageDraw.Draw(layer)
    for ring in item.rings:
        closed = np.concatenate([ring, ring[:2]])
        stroke = (closed - (item.left, item.top)) * 2 - 0.5
        # Half of the stroke falls outside the shape and is cut off by its coverage.
        draw.line(stroke.ravel().tolist(), fill=255, width=max(round(4 * thickness), 2), joint="curve")
    rim = np.asarray(layer.reduce(2)) * np.float32(1 / 255)
    paint += rim * (rim_colour[:, None, None] - paint)
    return paint


def _expose(canvas: FloatArray, light: _Light, rng: np.random.Generator) -> ByteArray:
    """Turn the painted canvas into a photograph: uneven light, colour cast, lens blur, sensor noise."""
    _, height, width = canvas.shape
    x, y = _frame_axes(height, width)
    fall = np.float32(rng.uniform(0.0, 0.28))
    vignette = np.float32(rng.uniform(0.0, 0.12))
    brightness = 1 - fall * ((x * np.float32(light.direction[0]))[None] + (y * np.float32(light.direction[1]))[:, None])
    brightness -= vignette * ((x * x)[None] + (y * y)[:, None])
    gains = (rng.uniform(0.88, 1.1) * (1 + rng.normal(0, 0.04, 3))).astype(np.float32)
    canvas *= brightness * gains[:, None, None]
    if rng.random() < 0.4:
        blur = ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0))
        canvas = _planar(Image.fromarray(_pixels(canvas)).filter(blur))
    if rng.random() < 0.85:
        planes = 3 if rng.random() < 0.6 else 1
        noise = rng.standard_normal((planes, height, width), dtype=np.float32)
        noise *= np.float32(min(rng.gamma(2.0, 2.2), 14.0))
        canvas += noise
    return _pixels(canvas)


def _pixels(canvas: FloatArray) -> ByteArray:
    """Round to bytes, (H, W, 3) uint8; the canvas is spent."""
    canvas += np.float32(0.5)
    rounded = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))


# --------------------------------------------------------------------------------------------------------------------
# Data set on disk
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SyntheticSummary:
    """What :func:`write_dataset` left on disk: images and objects per split, and whether they were there already."""

    directory: Path
    train_images: int
    train_objects: int
    val_images: int
    val_objects: int
    reused: bool


@dataclass(frozen=True, kw_only=True)
class _Job:
    path: Path
    seed: int
    index: int
    image_size: tuple[int, int]


def write_dataset(
    directory: str | Path,
    *,
    images: int,
    seed: int,
    image_size: tuple[int, int] = (256, 256),
    val_images: int | float = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> SyntheticSummary:
    """Render a COCO data set: ``images/{train,val}/NNNNNN.jpg`` and ``annotations/{train,val}.json``.

    Masks are stored as compressed COCO RLE; image, annotation and category ids count from 1. Image number k of a split
    depends only on the seed, k, the split and the image size, never on how many images or workers there are.

    Args:
        directory: folder to make. One that holds a complete data set of the same settings is kept as it is; one where
            the same command was interrupted is finished.
        images: training images, 0 or more.
        seed: 0 or more.
        image_size: (H, W) of every image.
        val_images: a whole number of validation images, or a fraction below 1 of ``images``, rendered in addition.
        workers: processes; 0 renders in this one. Workers are spawned, so a script needs its ``__main__`` guard.
        progress: called as ``progress(done, total)`` after each image.
        overwrite: write into a folder that is not empty, replacing a synthetic data set in it; other files stay.

    Raises: ConfigError for impossible settings; DataError if the folder holds anything else and ``overwrite`` is off.

    """
    directory = Path(directory)
    _check_scene(seed, 0, image_size)
    extra = round(images * val_images) if isinstance(val_images, float) and 0 < val_images < 1 else val_images
    if images < 0 or extra < 0 or extra != int(extra) or images + extra == 0:
        raise ConfigError(
            "images and val_images must be counts of 0 or more, not both 0 (val_images may be a fraction below 1), "
            f"got images {images}, val_images {val_images}"
        )
    if workers < 0:
        raise ConfigError(f"workers must be 0 or more, got {workers}")
    counts = {"train": images, "val": int(extra)}
    settings = {
        "generator": "protomask synthetic scenes",
        "version": GENERATOR_VERSION,
        "seed": seed,
        "image_size": list(image_size),
        "images": counts,
    }
    if _claim(directory, settings, overwrite=overwrite):
        objects = {split: _count_annotations(directory, split) for split in counts}
        return _summary(directory, counts, objects, reused=True)

    total, done = sum(counts.values()), 0
    objects = dict.fromkeys(counts, 0)
    for split, count in counts.items():
        if count == 0:
            continue
        folder = directory / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        start = 0 if split == "train" else VAL_INDEX_START
        jobs = [
            _Job(path=folder / f"{number + 1:06d}.jpg", seed=seed, index=start + number, image_size=image_size)
            for number in range(count)
        ]
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for found in _run(jobs, workers):
            image_id = len(records) + 1
            records.append(
                {
                    "id": image_id,
                    "file_name": jobs[image_id - 1].path.name,
                    "height": image_size[0],
                    "width": image_size[1],
                }
            )
            for annotation in found:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
            done += 1
            if progress is not None:
                progress(done, total)
        objects[split] = len(annotations)
        _write_json(
            directory / "annotations" / f"{split}.json",
            {
                "info": {
                    "description": f"Synthetic instance segmentation scenes, {split} split",
                    "version": str(GENERATOR_VERSION),
                    "split": split,
                    "seed": seed,
                    "first_index": start,
                },
                "licenses": [],
                "images": records,
                "annotations": annotations,
                "categories": [
                    {"id": label + 1, "name": name, "supercategory": "shape"} for label, name in enumerate(CLASS_NAMES)
                ],
            },
        )
    return _summary(directory, counts, objects, reused=False)


def _summary(directory: Path, counts: dict[str, int], objects: dict[str, int], *, reused: bool) -> SyntheticSummary:
    return SyntheticSummary(
        directory=directory,
        train_images=counts["train"],
        train_objects=objects["train"],
        val_images=counts["val"],
        val_objects=objects["val"],
        reused=reused,
    )


def _claim(directory: Path, settings: dict[str, Any], *, overwrite: bool) -> bool:
    """Make the folder ours to write. True if it already holds this very data set, complete."""
    marker = directory / _SETTINGS_FILE
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory}: expected a folder to write the data set to, got a file")
    if directory.is_dir() and any(directory.iterdir()):
        if not overwrite:
            if not _same_settings(marker, settings):
                raise DataError(
                    f"{directory}: expected an empty folder or a synthetic data set of the same settings, "
                    f"got a folder with other content; choose another folder or overwrite it on purpose"
                )
            if _is_complete(directory, settings["images"]):
                return True
        if marker.is_file():
            _remove_previous(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write_json(marker, settings)
    return False


def _same_settings(marker: Path, settings: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(marker.read_text(encoding="utf-8")) == settings)
    except (OSError, ValueError):
        return False


def _is_complete(directory: Path, counts: dict[str, int]) -> bool:
    # Annotations are written last, after all images of their split.
    return all(
        (directory / "annotations" / f"{split}.json").is_file()
        and all((directory / "images" / split / f"{number + 1:06d}.jpg").is_file() for number in range(count))
        for split, count in counts.items()
        if count
    )


def _remove_previous(directory: Path) -> None:
    for split in ("train", "val"):
        (directory / "annotations" / f"{split}.json").unlink(missing_ok=True)
        for picture in (directory / "images" / split).glob("[0-9]" * 6 + ".jpg"):
            picture.unlink()


def _count_annotations(directory: Path, split: str) -> int:
    path = directory / "annotations" / f"{split}.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["annotations"]) if path.is_file() else 0


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path, error=DataError) as file:
        file.write(json.dumps(content).encode())


def _run(jobs: Iterable[_Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    """Annotations of each job's scene, in the order of the jobs."""
    if workers == 0:
        yield from map(_write_scene, jobs)
        return
    # Forking a process that has started threads (torch does) can hang; a spawned one cannot.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        yield from pool.map(_write_scene, jobs, chunksize=16)


def _write_scene(job: _Job) -> list[dict[str, Any]]:
    """Render one scene to its JPEG file; returns its COCO annotations, still without ids."""
    from pycocotools import mask as coco_mask

    image, placed = _render(job.seed, job.index, job.image_size)
    # Full chroma resolution: the colour edge of a small object is part of its truth.
    Image.fromarray(image).save(job.path, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    if not placed:
        return []
    masks, boxes = _masks_and_boxes(placed, job.image_size)
    encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    annotations: list[dict[str, Any]] = []
    for item, box, rle in zip(placed, boxes.tolist(), encoded, strict=True):
        left, top, right, bottom = box
        annotations.append(
            {
                "category_id": item.label + 1,
                "segmentation": {"size": list(job.image_size), "counts": rle["counts"].decode("ascii")},
                "area": int(item.visible.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return annotations
