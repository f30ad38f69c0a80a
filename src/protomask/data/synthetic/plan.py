"""Plan of a synthetic scene: which objects are where, how they are stacked, and what stays visible of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from protomask.data.synthetic.shapes import CLASS_NAMES, Points, deformed_rings
from protomask.errors import ConfigError

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

EMPTY_SCENE_SHARE = 0.02
MIN_OBJECTS, MAX_OBJECTS = 3, 14
MIN_VISIBLE_SHARE = 0.2
MIN_VISIBLE_SHARE_SMALL = 0.6
SMALL_DIAMETER = 20.0
MIN_VISIBLE_AREA = 24
MIN_IMAGE_SIDE = 32

# Shares and diameters (px at 256 x 256) of tiny, small, medium and large objects.
_SIZE_SHARES = (0.06, 0.17, 0.44, 0.33)
_SIZE_RANGES = ((9.0, 13.0), (14.0, 28.0), (28.0, 60.0), (60.0, 120.0))
# Below these diameters (px) a shape is no longer recognisable: the hole of a ring closes, a bar becomes a line.
_MIN_DIAMETER = {"ring": 13.0, "star": 11.0, "crescent": 13.0, "heart": 11.0, "arrow": 15.0, "bar": 24.0}
# Thin shapes are drawn longer, so that their areas are like those of compact ones.
_LENGTH_FACTOR = {"bar": 1.45, "arrow": 1.2, "crescent": 1.1}

_PLACEMENT_ATTEMPTS = 10
_CLUSTER_SHARE = 0.74
_MIN_IN_FRAME_SHARE = 0.6


@dataclass(frozen=True, kw_only=True)
class PlacedObject:
    """One object of a planned scene. Windows are clipped to the image; ``top``/``left`` place them in it (px).

    Attributes:
        label: 0-based index into ``CLASS_NAMES``.
        rings: closed polygons (K, 2), x and y in image px: the exterior, then holes.
        top, left: image row and column of the window's first pixel.
        coverage: (h, w) uint8, share of each pixel inside the shape, 0..255.
        visible: (h, w) bool, pixels that show this object.
        full_area: in-frame area in px, as if nothing were in front of it.
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

    Objects are placed from the front to the back, each keeping what the ones before it leave visible; an object
    with too little left (``MIN_VISIBLE_SHARE``, ``MIN_VISIBLE_AREA``) is tried elsewhere and finally given up.

    Returns:
        Objects from front to back; their visible masks are disjoint and not empty. About 2 % of scenes have none.

    Raises:
        ConfigError: a negative seed or index, or an image side below 32.

    """
    height, width = check_scene(seed, index, image_size)
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


def check_scene(seed: int, index: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """The image size of a scene, if such a scene is possible.

    Raises:
        ConfigError: a negative seed or index, or an image side below 32.

    """
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
    rings = deformed_rings(CLASS_NAMES[label], diameter, rng)
    margin = 0.35 * diameter
    # A corner of a small shape is only a few pixels, which could be anything.
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
        window = rasterise(moved, height, width)
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
    """Index of a random object, larger ones preferred: piles of small things would be unreadable."""
    reach = np.cumsum([item.diameter**2 for item in placed])
    return int(np.searchsorted(reach, rng.uniform(0, reach[-1])))


def rasterise(rings: tuple[Points, ...], height: int, width: int) -> tuple[ByteArray, int, int, float] | None:
    """Antialiased coverage of polygons inside the image.

    Returns:
        Coverage (h, w) uint8 0..255, its top row and left column, and the share of the shape's area that is in the
        image; None if nothing is.

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
