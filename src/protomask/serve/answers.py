"""Results in the formats of the server."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.images.decode import Pixels
from protomask.serve.jobs import MaskFormat, Task
from protomask.serve.regions import as_prediction
from protomask.structures.instances import Instances

MEDIA_TYPES = {
    "json": "application/json",
    "geojson": "application/geo+json",
    "png": "image/png",
    "label-map": "image/png",
    "instances": "application/octet-stream",
    "label-studio": "application/json",
}


def render(found: Instances, image: Pixels, task: Task) -> bytes:
    """The answer to one task."""
    if task.format == "instances":
        found.runs()  # masks of the frame, not prototypes
        return pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)
    if task.format == "label-studio":
        assert task.control is not None
        return json.dumps(as_prediction(found, task.control)).encode()
    if task.format == "geojson":
        return json.dumps({**found.to_geojson(), "name": task.name}).encode()
    if task.format == "png":
        return _png(found.draw(image))
    if task.format == "label-map":
        return _png(found.label_map())
    return json.dumps(as_json(found, task.name, task.masks)).encode()


def as_json(found: Instances, name: str, masks: MaskFormat) -> dict[str, Any]:
    """One image of a JSON answer."""
    content = found.to_dict(masks=masks == "rle")
    if masks == "polygons":
        for row, parts in zip(content["instances"], found.polygons(), strict=True):
            row["polygons"] = [[part.exterior.tolist(), *(hole.tolist() for hole in part.holes)] for part in parts]
    return {"name": name, **content}


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=3)
    return file.getvalue()
