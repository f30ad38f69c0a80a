"""`Instances` drawn on their image, as an array, in a file, on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError, DataError
from protomask.images.decode import read_image
from protomask.images.draw import draw_objects
from protomask.images.show import show_image
from protomask.images.write import check_ending, write_image

if TYPE_CHECKING:
    from protomask.images.decode import ImageSource
    from protomask.structures.instances import Instances

ColorBy = Literal["auto", "class", "instance"]


class DrawOptions(TypedDict, total=False):
    """Keyword arguments of `Instances.draw`."""

    masks: bool
    boxes: bool
    labels: bool
    scores: bool
    opacity: float
    color_by: ColorBy


def draw(
    found: Instances,
    image: ImageSource | None = None,
    *,
    masks: bool = True,
    boxes: bool = True,
    labels: bool = True,
    scores: bool = True,
    opacity: float = 0.45,
    color_by: ColorBy = "auto",
) -> NDArray[np.uint8]:
    """See `Instances.draw`."""
    if color_by not in ("auto", "class", "instance"):
        raise ConfigError(f"color_by: expected auto, class or instance, got {color_by!r}")
    if image is None:
        image = found.image_source
    if image is None:
        raise ConfigError(
            "image: expected the image that was predicted, got none; only one from a path or an address is known"
        )
    pixels = read_image(image)
    if pixels.shape[:2] != found.image_size:
        raise DataError(f"image: expected (H, W) = {found.image_size} as predicted, got {pixels.shape[:2]}")
    tracks = found.track_ids
    by_class = color_by == "class" or (color_by == "auto" and tracks is None and len(found.class_names) > 1)
    names = found.names
    if tracks is not None:
        names = [f"{name} #{track}" for name, track in zip(names, tracks.tolist(), strict=True)]
    return draw_objects(
        pixels,
        boxes=found.boxes,
        masks=found.runs() if masks else None,
        names=names if labels else None,
        scores=found.scores if scores else None,
        color_ids=found.labels if by_class else tracks,
        draw_boxes=boxes,
        opacity=opacity,
    )


def save(found: Instances, path: str | Path, image: ImageSource | None = None, **options: Unpack[DrawOptions]) -> Path:
    """See `Instances.save`."""
    path = Path(path)
    check_ending(path)
    write_image(path, draw(found, image, **options))
    return path


def show(found: Instances, image: ImageSource | None = None, **options: Unpack[DrawOptions]) -> None:
    """See `Instances.show`."""
    show_image(draw(found, image, **options), title=found.image_source or "protomask")
