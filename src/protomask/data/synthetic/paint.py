"""Painter of a planned scene: colours, textures, light, noise.

Canvases are (3, H, W) float32, 0..255: grey layers broadcast fast over planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from protomask.data.synthetic.plan import ByteArray, PlacedObject

# Weighted RGB distance (0..255) below which two colours are taken to blend into each other.
_MIN_CONTRAST = 52.0
_COLOUR_WEIGHTS = np.array([0.28, 0.50, 0.22], dtype=np.float32)

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Light:
    """Where the light of a scene comes from, and its shadows."""

    direction: tuple[float, float]  # unit (x, y), from the light into the scene
    shadow_strength: float  # 0 if there are no shadows
    shadow_length: float  # px
    shadow_blur: float  # px


def paint_scene(
    placed: Sequence[PlacedObject], seed: int, index: int, *, image_size: tuple[int, int] = (256, 256)
) -> ByteArray:
    """Paint a planned scene: background, then the objects from back to front, then the camera.

    Args:
        placed: result of `plan_scene` for the same seed, index and size.
        seed: data set seed.
        index: scene number.
        image_size: (H, W).

    Returns:
        (H, W, 3) uint8 RGB.

    """
    rng = np.random.default_rng([seed, index, 1])
    light = random_light(image_size, rng)
    canvas = paint_background(image_size, rng)
    hues = random_hues(rng)
    for item in reversed(placed):
        cast_shadow(canvas, item, light)
        lay_on(canvas, item, paint_object(canvas, item, light, hues, rng))
    return _expose(canvas, light, rng)


def random_light(image_size: tuple[int, int], rng: np.random.Generator) -> Light:
    """The light of one scene of (H, W) px."""
    unit = math.sqrt(image_size[0] * image_size[1]) / 256
    angle = rng.uniform(0, 2 * math.pi)
    return Light(
        direction=(math.cos(angle), math.sin(angle)),
        shadow_strength=rng.uniform(0.25, 0.6) if rng.random() < 0.7 else 0.0,
        shadow_length=rng.uniform(1.5, 5.0) * unit,
        shadow_blur=rng.uniform(1.0, 3.0) * unit,
    )


def random_hues(rng: np.random.Generator) -> NDArray[np.float64] | None:
    """The few hues that the objects of a scene share; None for any."""
    return rng.uniform(0, 1, int(rng.integers(3, 6))) if rng.random() < 0.6 else None


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


def paint_background(image_size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """(3, H, W): a muted gradient with soft blobs, then clutter without objects: texture, thin lines, scribbles."""
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


def cast_shadow(canvas: FloatArray, item: PlacedObject, light: Light) -> None:
    """Darken the canvas beside an object."""
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


def paint_object(
    canvas: FloatArray,
    item: PlacedObject,
    light: Light,
    hues: NDArray[np.float64] | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Colours (3, h, w) of the window of an object, chosen so that they stand out from the canvas."""
    rows, columns = item.coverage.shape
    x = np.arange(item.left, item.left + columns, dtype=np.float32) + np.float32(0.5 - item.centre[0])
    y = np.arange(item.top, item.top + rows, dtype=np.float32) + np.float32(0.5 - item.centre[1])
    first, second, contrast = _object_colours(canvas, item, hues, rng)
    mix = _texture(x, y, item.diameter, rng)
    # A broad ramp along the light gives the flat shape some body.
    ramp = (x * np.float32(light.direction[0]))[None] + (y * np.float32(light.direction[1]))[:, None]
    shade = 1 - ramp * np.float32(rng.uniform(0.0, 0.4) / item.diameter)
    paint: FloatArray = (first[:, None, None] + mix * (second - first)[:, None, None]) * shade
    if item.diameter > 16 and rng.random() < 0.4:
        paint += _bevel(item.coverage, light, rng)
    if contrast < 0.85 or rng.random() < 0.2:
        paint = _outlined(paint, canvas, item, (first + second) * np.float32(0.5), rng)
    return np.clip(paint, 0, 255, out=paint)


def lay_on(canvas: FloatArray, item: PlacedObject, paint: FloatArray) -> None:
    """Lay the colours (3, h, w) of an object on the canvas where it covers it; the colours are spent."""
    rows, columns = item.coverage.shape
    window = canvas[:, item.top : item.top + rows, item.left : item.left + columns]
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


def _bevel(coverage: ByteArray, light: Light, rng: np.random.Generator) -> FloatArray:
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


def _expose(canvas: FloatArray, light: Light, rng: np.random.Generator) -> ByteArray:
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
