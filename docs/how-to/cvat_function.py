"""Annotate CVAT tasks with a protomask model: a function file for ``cvat-cli task auto-annotate``.

    pip install protomask cvat-cli
    cvat-cli --server-host https://app.cvat.ai --auth USER task auto-annotate 137 \
        --function-file cvat_function.py -p model=str:yolact_nano --allow-unmatched-labels

Labels of the task get what the model's classes of the same name find.
"""

from __future__ import annotations

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import LabeledShapeRequest

import protomask
from protomask.masks.polygons import mask_to_polygons
from protomask.masks.segmentations import join_rings, simplified


class ProtomaskFunction:
    """Finds instances in the frames of a task.

    Args:
        model: shipped model, zoo name, weights file, run folder or exported file; the shipped default when empty.
        shape: "mask", exact to the pixel, or "polygon".
        tolerance: pixels by which polygons may be off, so that they have fewer vertices to correct.
        score_threshold: used where CVAT gives no confidence threshold.

    """

    def __init__(
        self, model: str = "", shape: str = "mask", tolerance: float = 1.0, score_threshold: float = 0.3
    ) -> None:
        if shape not in ("mask", "polygon"):
            raise ValueError(f"shape: expected mask or polygon, got {shape!r}")
        self._model = protomask.load(model or None)
        self._shape = shape
        self._tolerance = tolerance
        self._score_threshold = score_threshold

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The classes of the model."""
        labels = [
            cvataa.label_spec(name, index, type=self._shape) for index, name in enumerate(self._model.class_names)
        ]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image) -> list[LabeledShapeRequest]:
        """The instances of one frame, best first."""
        threshold = self._score_threshold if context.conf_threshold is None else context.conf_threshold
        found = self._model.predict(image, score_threshold=threshold)
        as_polygons = self._shape == "polygon" or context.conv_mask_to_poly
        shapes = []
        for one in found:
            if not one.mask.any():
                continue
            if as_polygons:
                parts = mask_to_polygons(one.mask)
                rings = [simplified(ring, self._tolerance) for part in parts for ring in (part.exterior, *part.holes)]
                shapes.append(cvataa.polygon(one.label, join_rings(rings).astype(float).ravel().tolist()))
            else:
                shapes.append(cvataa.mask(one.label, encode_mask(one.mask)))
        return shapes


create = ProtomaskFunction
