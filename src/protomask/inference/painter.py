"""`TrackPainter`: drawing made for video. Colours stay with tracks, labels do not jump, paths and speeds are seen."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.images.draw import PALETTE, Style, draw_objects, pixel_corners
from protomask.images.labels import label_costs, label_font, label_size, label_spots, write_label
from protomask.inference.zones.regions import Line, Region, Zone
from protomask.settings import NonNegative, Positive, Settings, Unit
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances
from protomask.structures.zone_report import ZoneReport

_FORGOTTEN_AFTER = 2.0  # seconds without a sight of a track
_POSITION_GAIN, _VELOCITY_GAIN = 0.25, 0.035
_KEEPS_ITS_SPOT = 0.6  # what another spot must save for a label to move there
_SPEED_EVERY = 0.5  # seconds; a number that changes faster cannot be read
_ZONE_COLOR = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class PaintOptions(Settings):
    """What is drawn on the frames of a video.

    Attributes:
        masks: fill masks and outline them.
        boxes: draw boxes.
        labels: write the class, and the number of the track if there is one.
        scores: add the final score, which changes from frame to frame.
        trails: draw the path of each track over this many seconds; 0 draws none.
        speed: write the speed of each track, in pixels per second, or in metres per second if pixels_per_metre is
            given.
        pixels_per_metre: scale of a view from straight above.
        opacity: of the fill, from 0 to 1; outlines stay opaque.

    """

    masks: bool = True
    boxes: bool = False
    labels: bool = True
    scores: bool = False
    trails: NonNegative = 1.5
    speed: bool = False
    pixels_per_metre: Positive | None = None
    opacity: Unit = 0.4

    def _check(self) -> None:
        self._expect("pixels_per_metre", self.speed or self.pixels_per_metre is None, "none where speed is not drawn")


class _Path:
    """One track: its smoothed box, where it has been, and where its label stands."""

    def __init__(self, box: NDArray[np.float64], time: float) -> None:
        self.box = box
        self.velocity = np.zeros(4)  # of the sides of the box, px/s
        self.time = time
        self.points: deque[tuple[float, float, float]] = deque()
        self.spot: int | None = None
        self.speed = 0.0
        self._speed_time = -math.inf

    def update(self, box: NDArray[np.float64], time: float, trail: float) -> None:
        """An alpha-beta filter: it takes the trembling from a box without falling behind a moving one."""
        passed = time - self.time
        if passed > 0:
            expected = self.box + self.velocity * passed
            off = box - expected
            if np.abs(off).max() > (box[2:] - box[:2]).max():  # a jump
                self.box, self.velocity = box, np.zeros(4)
            else:
                self.box = expected + _POSITION_GAIN * off
                self.velocity = self.velocity + _VELOCITY_GAIN / passed * off
            self.time = time
        x, y = self.center
        self.points.append((time, x, y))
        while self.points[0][0] < time - trail:
            self.points.popleft()
        if time - self._speed_time >= _SPEED_EVERY:
            self.speed = float(np.hypot(*(self.velocity[:2] + self.velocity[2:]) / 2))
            self._speed_time = time

    @property
    def center(self) -> tuple[float, float]:
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2


class TrackPainter:
    """Draws the frames of one source after another, in their order. Not thread-safe.

    Args:
        options: what is drawn.
        regions: zones and lines whose outlines and counts are drawn where frames have them.

    """

    def __init__(self, options: PaintOptions | None = None, regions: Sequence[Region] = ()) -> None:
        self.options = options or PaintOptions()
        self._regions = tuple(regions)
        self._source: str | None = None
        self._paths: dict[int, _Path] = {}

    def draw(self, frame: Frame) -> Pixels:
        """The image of the frame with what was found drawn on it.

        Args:
            frame: with ``found``. Without track ids, or without a time, it is drawn like a still image.

        Returns:
            (H, W, 3) uint8 RGB, a new array.

        Raises:
            ConfigError: the frame has no ``found``.

        """
        found, options = frame.found, self.options
        if found is None:
            raise ConfigError(f"frame {frame.index} of {frame.source}: expected what was found in it")
        tracks = found.track_ids
        if tracks is None or frame.time is None:
            return found.draw(
                frame.image, masks=options.masks, boxes=options.boxes, labels=options.labels, scores=options.scores,
                opacity=options.opacity,
            )  # fmt: skip
        canvas = draw_objects(
            frame.image, boxes=found.boxes, masks=found.runs() if options.masks else None, color_ids=tracks,
            draw_boxes=options.boxes, opacity=options.opacity,
        )  # fmt: skip
        paths = self._follow(frame, found, tracks.tolist(), frame.time)
        picture = Image.fromarray(canvas)
        pen = ImageDraw.Draw(picture)
        style = Style.for_frame(*found.image_size)
        self._draw_trails(pen, paths, tracks.tolist(), style)
        taken = self._draw_regions(pen, frame.zones, style)
        if options.labels:
            self._draw_labels(pen, found, paths, taken, style)
        return np.array(picture)

    def _follow(self, frame: Frame, found: Instances, tracks: list[int], time: float) -> list[_Path]:
        if frame.source != self._source:
            self._source, self._paths = frame.source, {}
        for track, box in zip(tracks, found.boxes.astype(np.float64), strict=True):
            path = self._paths.setdefault(track, _Path(box, time))
            path.update(box, time, self.options.trails)
        self._paths = {
            track: path for track, path in self._paths.items() if time - path.time <= _FORGOTTEN_AFTER
        }  # fmt: skip
        return [self._paths[track] for track in tracks]

    def _draw_trails(self, pen: ImageDraw.ImageDraw, paths: list[_Path], tracks: list[int], style: Style) -> None:
        if not self.options.trails:
            return
        for path, track in zip(paths, tracks, strict=True):
            points = [(x, y) for _, x, y in path.points]
            color = PALETTE[track % len(PALETTE)]
            for part in range(3):  # thin where it is old
                some = points[len(points) * part // 3 :]
                if len(some) > 1:
                    pen.line(some, fill=color, width=max(1, style.line * (part + 1) // 2), joint="curve")

    def _draw_labels(
        self, pen: ImageDraw.ImageDraw, found: Instances, paths: list[_Path], taken: NDArray[np.int64], style: Style
    ) -> None:
        assert found.track_ids is not None
        tracks = found.track_ids.tolist()
        font = label_font(style.font_size)
        names, scores = found.names, found.scores.tolist()
        corners = pixel_corners(np.array([path.box for path in paths], dtype=np.float32).reshape(-1, 4), *style.frame)
        # The oldest track chooses first, so that a newcomer does not push the labels of others around.
        for row in sorted(range(len(tracks)), key=lambda row: tracks[row]):
            path = paths[row]
            text = self._text(names[row], tracks[row], scores[row], path)
            size = label_size(text, font, style.font_size, style.frame)
            spots = label_spots(size, corners[row], style.frame)
            cost = label_costs(spots, size, corners, taken) + 0.02 * np.arange(len(spots))
            if path.spot is not None:
                cost[path.spot] -= _KEEPS_ITS_SPOT
            path.spot = int(cost.argmin())
            if cost[path.spot] > 1:  # it would hide most of another label
                continue
            x, y = spots[path.spot].tolist()
            taken = np.append(taken, [[x, y, x + size[0], y + size[1]]], axis=0)
            write_label(pen, (x, y), size, text, color=PALETTE[tracks[row] % len(PALETTE)], font=font)

    def _text(self, name: str, track: int, score: float, path: _Path) -> str:
        words = [name, f"#{track}"]
        if self.options.scores:
            words.append(f"{score:.2f}")
        if self.options.speed:
            scale = self.options.pixels_per_metre
            words.append(f"{path.speed:.0f} px/s" if scale is None else f"{path.speed / scale:.1f} m/s")
        return " ".join(words)

    def _draw_regions(self, pen: ImageDraw.ImageDraw, report: ZoneReport | None, style: Style) -> NDArray[np.int64]:
        """Outlines and counts; returns the places of the counts, (K, 4) xyxy pixels."""
        places: list[tuple[int, int, int, int]] = []
        font = label_font(style.font_size)
        counts = {} if report is None else report.counts
        for region in (region for region in self._regions if region.name in counts):
            count = counts[region.name]
            if isinstance(region, Zone):
                for polygon in region.polygons:
                    ring = [tuple(point) for point in polygon.exterior.tolist()]
                    pen.line([*ring, ring[0]], fill=_ZONE_COLOR, width=style.line, joint="curve")
                text = f"{region.name}: {len(count.inside)} inside, {count.entered} entered"
                anchor = region.polygons[0].exterior.min(axis=0)
            else:
                _draw_line(pen, region, style)
                text = f"{region.name}: {count.left_to_right} to the right, {count.right_to_left} to the left"
                anchor = region.points[0]
            size = label_size(text, font, style.font_size, style.frame)
            x, y = np.clip(anchor, 0, (style.frame[1] - size[0], style.frame[0] - size[1])).astype(int).tolist()
            write_label(pen, (x, y), size, text, color=_ZONE_COLOR, font=font)
            places.append((x, y, x + size[0], y + size[1]))
        return np.array(places, dtype=np.int64).reshape(-1, 4)


def _draw_line(pen: ImageDraw.ImageDraw, line: Line, style: Style) -> None:
    """The line, with an arrow head at its last point that tells left from right."""
    points = [tuple(point) for point in line.points.tolist()]
    pen.line(points, fill=_ZONE_COLOR, width=style.line, joint="curve")
    along = line.points[-1] - line.points[-2]
    along = along / np.hypot(*along) * 4 * style.line
    tip, across = line.points[-1], np.array([-along[1], along[0]])
    head = [tip, tip - 1.5 * along + 0.6 * across, tip - 1.5 * along - 0.6 * across]
    pen.polygon([tuple(point) for point in np.array(head).tolist()], fill=_ZONE_COLOR)
