"""Augmentation of a training sample, and its way into the network frame."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from protomask.data.training.augmentation import AugmentationConfig
from protomask.ops.geometry import Geometry
from protomask.structures.target import Target

_CROP_TRIALS = 50
_MAX_CROP_ASPECT = 2.0
_MIN_SEEN = 0.25  # share of the box; nobody could recognise an object of which less is seen
_STRIDE = 32  # of the coarsest level of every backbone
MIN_SIDE = 1.0
"""px of the network frame; anything thinner cannot be learned."""

# Luma and two chroma axes (NTSC YIQ): hue and saturation are a turn and a stretch of the chroma plane.
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


class _Rectangle(NamedTuple):
    """Whole px, half open."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    def intersect(self, other: _Rectangle) -> _Rectangle:
        return _Rectangle(
            max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1)
        )


class _Scene(NamedTuple):
    """What a view shows a part of: pixels (H, W, 3), masks (N, H, W) of 0 and 1, boxes (N, 4) xyxy, other truth."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    target: Target

    @classmethod
    def of(cls, image: Tensor, target: Target) -> _Scene:
        masks = target.masks.numpy().view(np.uint8)
        return cls(image.permute(1, 2, 0).numpy(), masks, target.boxes.numpy(), target)

    @property
    def whole(self) -> _Rectangle:
        return _Rectangle(0, 0, self.pixels.shape[1], self.pixels.shape[0])

    @property
    def centres(self) -> NDArray[np.float32]:
        """(N, 2) centres of the boxes."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) * np.float32(0.5)

    @property
    def learnable_centres(self) -> NDArray[np.float32]:
        """(M, 2) centres of the objects that are not crowds."""
        centres: NDArray[np.float32] = self.centres[~self.target.is_crowd.numpy()]
        return centres

    def centred_in(self, view: _Rectangle) -> NDArray[np.bool_]:
        """(N,) whether the centre of each object is strictly inside."""
        inside: NDArray[np.bool_] = (self.centres > (view.x0, view.y0)) & (self.centres < (view.x1, view.y1))
        both: NDArray[np.bool_] = np.all(inside, axis=1)
        return both

    def shows(self, view: _Rectangle) -> NDArray[np.bool_]:
        """(N,) whether enough of each object is seen to learn from."""
        low = np.maximum(self.boxes[:, :2], (view.x0, view.y0))
        high = np.minimum(self.boxes[:, 2:], (view.x1, view.y1))
        seen: NDArray[np.float32] = np.prod(np.maximum(high - low, 0), axis=1)
        enough: NDArray[np.bool_] = seen > _MIN_SEEN * np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1)
        return enough

    def first_with_objects(
        self, start: NDArray[np.int64], stop: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> _Rectangle | None:
        """The first valid rectangle of (T, 2) corners that shows an object; any valid one if the image has none."""
        # A view that shows only the fill teaches nothing.
        valid = valid & np.all((stop > 0) & (start < (self.whole.x1, self.whole.y1)), axis=1)
        centres = self.learnable_centres
        if len(self.boxes):
            hit = (centres[None] > start[:, None]) & (centres[None] < stop[:, None])
            valid &= np.any(np.all(hit, axis=2), axis=1)
        trials = np.flatnonzero(valid)
        return _Rectangle(*start[trials[0]].tolist(), *stop[trials[0]].tolist()) if len(trials) else None


class _Axis(NamedTuple):
    """One axis of the map from source px to network px: ``out = source * scale + shift``."""

    scale: float
    shift: float

    def to_source(self, out: float) -> float:
        return (out - self.shift) / self.scale


class _Placement(NamedTuple):
    """The part of the source that is seen, and its place in the network frame."""

    source: _Rectangle
    out: _Rectangle

    @property
    def x(self) -> _Axis:
        scale = self.out.width / self.source.width
        return _Axis(scale, self.out.x0 - self.source.x0 * scale)

    @property
    def y(self) -> _Axis:
        scale = self.out.height / self.source.height
        return _Axis(scale, self.out.y0 - self.source.y0 * scale)


class TrainTransform:
    """YOLACT's training augmentation: flip, zoom out, crop, resize, photometric distortion; or large-scale jitter.

    All geometry is composed before a pixel is touched: the image is resized once, each mask once and only around its
    object, and no enlarged canvas is ever made. Hue and saturation turn and stretch the chroma plane, so that all four
    colour changes are one 3x3 matrix.

    Kept from the official recipe: the probabilities and strengths, the fill with the mean colour, the aspect limits
    (1/2 .. 2) and the 50 trials of the crop, objects stay if their box centre is strictly inside it, a crop without any
    object or with crowds only is rejected. The official minimum-IoU condition of the crop never rejects anything (and
    its authors report that enforcing it hurts), so there is none; one mode of six, whole image, is the ``crop``
    probability 5/6.

    Official slips not kept: colours leaving 0..255 (clipped here, and the fill is never distorted); the rotation
    obeying the switch of the flip; the minimum object size applied in the wrong unit (here: more than 1 px on both
    sides, and a mask that is not empty); boxes of cut objects looser than what is left of them (here: from the mask);
    another image being drawn when no object is left (here: an empty target).

    Called with image (3, H, W) uint8 RGB and target in its frame, returns image (3, h, w) uint8 RGB of the size that
    the geometry gives what is seen, and target in that frame, boxes inside it. Random numbers come from torch's global
    generator.

    Args:
        augmentation: probabilities and strengths.
        geometry: the model's; gives the size, the fill colour (its mean) and whether to resize with antialiasing.

    """

    def __init__(self, augmentation: AugmentationConfig, geometry: Geometry) -> None:
        self.augmentation = augmentation
        self.geometry = geometry
        self._fill = np.rint(geometry.mean).astype(np.uint8)

    def __call__(self, image: Tensor, target: Target, *, scale: float = 1.0) -> tuple[Tensor, Target]:
        """One augmented sample, ``scale`` times the size that the geometry gives, in multiples of 32 px."""
        scene = self._orient(_Scene.of(image, target))
        jitter = self.augmentation.scale_jitter
        jitters = jitter > 0 and float(torch.rand(())) < jitter
        view = self._jittered_view(scene, (1.0, 1.0)) if jitters else self._choose_view(scene)
        inside = scene.shows(view) if jitters else scene.centred_in(view)
        return self._render(scene, view, inside, self.frame((view.height, view.width), scale))

    def frame(self, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Size (h, w) of the network frame for an image of size (H, W) px; scales other than 1 give multiples of 32."""
        height, width = self.geometry.resized_size(size)
        if scale == 1:
            return height, width
        height, width = (max(round(side * scale / _STRIDE), 1) * _STRIDE for side in (height, width))
        return height, width

    def enough(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) to which an image of size (H, W) may be reduced without a loss in any augmented sample."""
        augmentation = self.augmentation
        jitters = augmentation.scale_jitter or augmentation.mosaic or augmentation.copy_paste
        enlarged = max(augmentation.scale_jitter_max, 1.0) if jitters else 1.0
        if augmentation.crop and augmentation.scale_jitter < 1:
            enlarged = max(enlarged, 1 / augmentation.crop_min)
        enlarged *= 1 + augmentation.multi_scale
        height, width = self.geometry.resized_size(size)
        return math.ceil(height * enlarged), math.ceil(width * enlarged)

    def window(self, image: Tensor, target: Target, window: tuple[int, int], scale: float) -> tuple[Tensor, Target]:
        """One augmented sample of a given size (h, w), with large-scale jitter instead of zoom out and crop.

        Args:
            image: (3, H, W) uint8 RGB.
            target: truth in its frame.
            window: size (h, w) of the result, network px.
            scale: scale of the network frame that the window is a part of, as in `__call__`.

        """
        scene = self._orient(_Scene.of(image, target))
        whole = scene.whole
        height, width = self.frame((whole.height, whole.width), scale)
        view = self._jittered_view(scene, (window[0] / height, window[1] / width))
        return self._render(scene, view, scene.shows(view), window)

    def _render(
        self, scene: _Scene, view: _Rectangle, inside: NDArray[np.bool_], frame: tuple[int, int]
    ) -> tuple[Tensor, Target]:
        target = scene.target
        placement = _place(scene.whole.intersect(view), view, frame)
        candidates = np.flatnonzero(inside)
        image = self._render_image(scene.pixels, placement, frame)
        out_masks, out_boxes = _render_objects(
            scene.masks[candidates] if len(candidates) < len(scene.masks) else scene.masks,
            scene.boxes[candidates],
            placement,
            frame,
        )
        sides = out_boxes[:, 2:] - out_boxes[:, :2]
        keep = torch.from_numpy((sides > MIN_SIDE).all(axis=1))
        chosen = torch.from_numpy(candidates)[keep]
        kept_masks = torch.from_numpy(out_masks)
        return image, Target(
            boxes=torch.from_numpy(out_boxes)[keep],
            labels=target.labels[chosen],
            masks=kept_masks if bool(keep.all()) else kept_masks[keep],
            is_crowd=target.is_crowd[chosen],
            image_size=frame,
            image_id=target.image_id,
            mask_weights=None if target.mask_weights is None else target.mask_weights[chosen],
        )

    def _orient(self, scene: _Scene) -> _Scene:
        """Flip and turn the scene; the result shares its memory."""
        augmentation = self.augmentation
        pixels, masks, boxes, target = scene
        mirror, flip, turn, side = torch.rand(4).tolist()
        if mirror < augmentation.horizontal_flip:
            width = pixels.shape[1]
            pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
            x0, y0, x1, y1 = boxes.T
            boxes = np.stack([width - x1, y0, width - x0, y1], axis=1)
        if flip < augmentation.vertical_flip:
            height = pixels.shape[0]
            pixels, masks = pixels[::-1], masks[:, ::-1]
            x0, y0, x1, y1 = boxes.T
            boxes = np.stack([x0, height - y1, x1, height - y0], axis=1)
        if turn < augmentation.rotate90:
            height, width = pixels.shape[:2]
            x0, y0, x1, y1 = boxes.T
            if side < 0.5:
                pixels, masks = np.rot90(pixels), np.rot90(masks, axes=(1, 2))
                boxes = np.stack([y0, width - x1, y1, width - x0], axis=1)
            else:
                pixels, masks = np.rot90(pixels, -1), np.rot90(masks, -1, axes=(1, 2))
                boxes = np.stack([height - y1, x0, height - y0, x1], axis=1)
        return _Scene(pixels, masks, boxes, target)

    def _choose_view(self, scene: _Scene) -> _Rectangle:
        """The rectangle to look at, in source px; it may reach outside the image."""
        augmentation = self.augmentation
        zoom, ratio, left, top, crop = torch.rand(5).tolist()
        canvas = whole = scene.whole
        if zoom < augmentation.zoom_out:
            ratio = 1 + ratio * (augmentation.zoom_out_max - 1)
            width, height = int(whole.width * ratio), int(whole.height * ratio)
            x0, y0 = -int(left * (width - whole.width)), -int(top * (height - whole.height))
            canvas = _Rectangle(x0, y0, x0 + width, y0 + height)
        if crop >= augmentation.crop or (len(scene.boxes) > 0 and not len(scene.learnable_centres)):
            return canvas
        draws = torch.rand(_CROP_TRIALS, 4, dtype=torch.float64).numpy()
        side = np.array([canvas.width, canvas.height])
        size = np.maximum(side * (augmentation.crop_min + (1 - augmentation.crop_min) * draws[:, :2]), 1)
        start = (np.array([canvas.x0, canvas.y0]) + (side - size) * draws[:, 2:]).astype(np.int64)
        aspect = size[:, 1] / size[:, 0]
        valid = (aspect >= 1 / _MAX_CROP_ASPECT) & (aspect <= _MAX_CROP_ASPECT)
        return scene.first_with_objects(start, start + size.astype(np.int64), valid) or canvas

    def _jittered_view(self, scene: _Scene, share: tuple[float, float]) -> _Rectangle:
        """Large-scale jitter (Ghiasi et al. 2021, section 3): the image is enlarged or shrunk, then cropped or padded.

        Args:
            scene: image and its objects.
            share: (height, width) of the view, relative to the frame of the whole image.

        """
        augmentation = self.augmentation
        low, high = augmentation.scale_jitter_min, augmentation.scale_jitter_max
        enlarged = low + (high - low) * float(torch.rand(()))
        whole = np.array([scene.whole.width, scene.whole.height])
        size = np.maximum(np.rint(whole * share[::-1] / enlarged), 1).astype(np.int64)
        # The smaller of image and view lies inside the larger.
        start = np.rint((whole - size) * torch.rand(_CROP_TRIALS, 2, dtype=torch.float64).numpy()).astype(np.int64)
        stop = start + size
        found = scene.first_with_objects(start, stop, np.ones(_CROP_TRIALS, dtype=np.bool_))
        return found or _Rectangle(*start[0].tolist(), *stop[0].tolist())

    def _render_image(self, pixels: NDArray[np.uint8], placement: _Placement, frame: tuple[int, int]) -> Tensor:
        source, out = placement
        part = np.ascontiguousarray(pixels[source.y0 : source.y1, source.x0 : source.x1])
        resized = transforms.resize(
            torch.from_numpy(part).permute(2, 0, 1), [out.height, out.width], antialias=self.geometry.antialias
        )
        resized = self._distort(resized)
        height, width = frame
        if (out.height, out.width) == (height, width):
            return resized
        canvas = torch.from_numpy(self._fill)[:, None, None].repeat(1, height, width)
        canvas[:, out.y0 : out.y1, out.x0 : out.x1] = resized
        return canvas

    def _distort(self, image: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue of a (3, H, W) uint8 image as one affine map of its colours."""
        augmentation = self.augmentation
        coins = (torch.rand(4) < augmentation.photometric).tolist()
        amounts = (torch.rand(4, dtype=torch.float64) * 2 - 1).tolist()
        if not any(coins):
            return image
        brightness, contrast, saturation, hue = (
            amount if coin else 0.0 for amount, coin in zip(amounts, coins, strict=True)
        )
        gain = 1 + contrast * augmentation.contrast
        chroma = 1 + saturation * augmentation.saturation
        angle = math.radians(hue * augmentation.hue)
        cos, sin = chroma * math.cos(angle), chroma * math.sin(angle)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        matrix = torch.from_numpy(gain * (_YIQ_TO_RGB @ turn @ _RGB_TO_YIQ)).float()
        offset = torch.full((3, 1), gain * brightness * augmentation.brightness)
        colours = torch.addmm(offset, matrix, image.reshape(3, -1).float())
        return colours.round_().clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def _place(seen: _Rectangle, view: _Rectangle, image_size: tuple[int, int]) -> _Placement:
    """Where the ``seen`` part of the image goes when ``view`` fills the network frame, in whole px and never empty."""
    starts, stops = [], []
    for low, high, view_low, view_high, size in (
        (seen.x0, seen.x1, view.x0, view.x1, image_size[1]),
        (seen.y0, seen.y1, view.y0, view.y1, image_size[0]),
    ):
        scale = size / (view_high - view_low)
        start = min(round((low - view_low) * scale), size - 1)
        starts.append(start)
        stops.append(min(max(round((high - view_low) * scale), start + 1), size))
    return _Placement(seen, _Rectangle(starts[0], starts[1], stops[0], stops[1]))


def _render_objects(
    masks: NDArray[np.uint8], boxes: NDArray[np.float32], placement: _Placement, image_size: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks and boxes in the network frame; a mask that becomes empty has the box 0, 0, 0, 0.

    Args:
        masks: (N, h, w) uint8 0 or 1, source px.
        boxes: (N, 4) float32 xyxy, source px.
        placement: from source to network px.
        image_size: (H, W) of the network frame.

    Returns:
        masks (N, H, W) bool and boxes (N, 4) float32 xyxy clipped to the frame.

    """
    source, out = placement
    out_masks = np.zeros((len(masks), *image_size), dtype=np.bool_)
    out_boxes = np.zeros((len(masks), 4), dtype=np.float32)
    x, y = placement.x, placement.y
    for index, mask in enumerate(masks):
        seen = mask[source.y0 : source.y1, source.x0 : source.x1]
        bounds = _bounds(seen)
        if bounds is None:
            continue
        # Network px that show the object, the part of the source they show, and all source px that weigh in there.
        columns = _covered(bounds.x0 + source.x0, bounds.x1 + source.x0, x, out.x0, out.x1)
        rows = _covered(bounds.y0 + source.y0, bounds.y1 + source.y0, y, out.y0, out.y1)
        shown_x, weighed_x = _shown(columns, x, source.x0, source.width)
        shown_y, weighed_y = _shown(rows, y, source.y0, source.height)
        left, top = weighed_x[0], weighed_y[0]
        box = (shown_x[0] - left, shown_y[0] - top, shown_x[1] - left, shown_y[1] - top)
        surroundings = Image.fromarray(seen[slice(*weighed_y), slice(*weighed_x)] * np.uint8(255))
        resized = surroundings.resize((columns[1] - columns[0], rows[1] - rows[0]), Image.Resampling.BILINEAR, box=box)
        patch = np.asarray(resized) >= 128
        patch_bounds = _bounds(patch)
        if patch_bounds is None:
            continue
        out_masks[index, rows[0] : rows[1], columns[0] : columns[1]] = patch
        x0, y0, x1, y1 = boxes[index].tolist()
        if x0 < source.x0 - 1 or y0 < source.y0 - 1 or x1 > source.x1 + 1 or y1 > source.y1 + 1:
            out_boxes[index] = (
                columns[0] + patch_bounds.x0,
                rows[0] + patch_bounds.y0,
                columns[0] + patch_bounds.x1,
                rows[0] + patch_bounds.y1,
            )
        else:
            out_boxes[index] = (
                max(x0 * x.scale + x.shift, out.x0),
                max(y0 * y.scale + y.shift, out.y0),
                min(x1 * x.scale + x.shift, out.x1),
                min(y1 * y.scale + y.shift, out.y1),
            )
    return out_masks, out_boxes


def _bounds(mask: NDArray[np.generic]) -> _Rectangle | None:
    """Smallest rectangle around the set pixels; reduces the fast axis first, then only where that found any."""
    by_columns = mask.strides[0] < mask.strides[1]
    lines = mask.T if by_columns else mask
    outer = np.flatnonzero(lines.any(axis=1))
    if not len(outer):
        return None
    first, last = int(outer[0]), int(outer[-1]) + 1
    inner = np.flatnonzero(lines[first:last].any(axis=0))
    start, stop = int(inner[0]), int(inner[-1]) + 1
    return _Rectangle(first, start, last, stop) if by_columns else _Rectangle(start, first, stop, last)


def _covered(low: int, high: int, axis: _Axis, out_low: int, out_high: int) -> tuple[int, int]:
    """Network px, of ``out_low .. out_high``, that source px ``low .. high`` can fill by half or more."""
    start = max(math.floor(low * axis.scale + axis.shift) - 1, out_low)
    stop = min(math.ceil(high * axis.scale + axis.shift) + 1, out_high)
    return start, stop


def _shown(
    covered: tuple[int, int], axis: _Axis, source_low: int, source_size: int
) -> tuple[tuple[float, float], tuple[int, int]]:
    """What network px show of the source, and all source px that their bilinear weights reach, from ``source_low`` on.

    Only the border of the source cuts either off: a part that was cut short would be stretched.
    """
    low, high = (min(max(axis.to_source(out) - source_low, 0.0), float(source_size)) for out in covered)
    reach = max(1.0, 1 / axis.scale) + 1
    return (low, high), (max(math.floor(low - reach), 0), min(math.ceil(high + reach), source_size))
