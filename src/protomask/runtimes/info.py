"""What an exported file says of itself, in plain JSON: all that its reader needs, without knowing any model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from protomask.detection.calibration import Calibration
from protomask.detection.options import Crop, Duplicates, Edges, NmsMode, Overlap
from protomask.detection.prototypes import PrototypeRule
from protomask.errors import CheckpointError
from protomask.images.resize import Rounding, resize_bilinear, resize_opencv, resize_pillow, short_side_size
from protomask.masks.grids import MaskPaste
from protomask.settings import Between, Count, NonNegative, NotEmpty, Settings, Text, Unit

METADATA_KEY = "protomask"
"""Key of the JSON object in an ONNX file's metadata and in an OpenVINO file's rt_info."""
BATCH_AXIS = "batch"
"""Name of the number of images in an ONNX file that takes several."""
FORMAT_VERSION = "2"
Form = Literal["detections", "candidates"]
ResizeMethod = Literal["pillow", "opencv", "bilinear"]
MAX_SIDE = 16384
"""Largest side of a file's input, in pixels: a damaged file must not ask for gigabytes."""
MAX_PIXELS = 1 << 26
"""Largest number of pixels of a file's input, likewise."""
MAX_CHARACTERS = 4 << 20
"""Largest number of characters in a file's metadata, likewise."""
Side = Annotated[int, Between(1, MAX_SIDE)]
"""Side of an image, in pixels."""
_RESIZE = {"pillow": resize_pillow, "opencv": resize_opencv, "bilinear": resize_bilinear}


@dataclass(frozen=True, kw_only=True)
class FixedInput(Settings):
    """The file gets every image in one size.

    Attributes:
        size: (H, W) in pixels.
        method: how images are resized.
        any_size: the file can also take other sizes and resize them itself, which is slower.

    """

    size: tuple[Side, Side]
    method: ResizeMethod
    any_size: bool = False

    def _check(self) -> None:
        self._expect("size", self.size[0] * self.size[1] <= MAX_PIXELS, f"at most {MAX_PIXELS} pixels")

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of any size to the file's."""
        return _RESIZE[self.method](image, self.size)


@dataclass(frozen=True, kw_only=True)
class ShortSideInput(Settings):
    """The file gets every image with a short side of one length, its shape kept.

    Attributes:
        image_size: length of the short side, pixels.
        max_image_size: limit of the long side.
        rounding: of the sides: "floor" and "half_up" scale both; "short_side" makes the short side exact and cuts the
            long one.
        method: how images are resized.

    """

    image_size: Side
    max_image_size: Side
    rounding: Rounding
    method: ResizeMethod

    def _check(self) -> None:
        fits = self.image_size * self.max_image_size <= MAX_PIXELS
        self._expect("max_image_size", fits, f"at most {MAX_PIXELS} pixels in all")

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of any size to the file's."""
        size = short_side_size(
            (image.shape[0], image.shape[1]), self.image_size, self.max_image_size, rounding=self.rounding
        )
        return _RESIZE[self.method](image, size)


@dataclass(frozen=True, kw_only=True)
class AnyInput(Settings):
    """The file takes images of any size."""

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image as it is."""
        return image


InputRule = FixedInput | ShortSideInput | AnyInput
_INPUT_KINDS: dict[str, type[InputRule]] = {"fixed": FixedInput, "short_side": ShortSideInput, "any": AnyInput}


@dataclass(frozen=True, kw_only=True)
class Thresholds(Settings):
    """What a file has settled ("detections"), or begins with ("candidates")."""

    nms: NmsMode
    iou_threshold: Unit
    candidate_threshold: Unit
    max_detections: Count
    overlap: Overlap = "box_iou"
    duplicates: Duplicates = "drop"
    crop: Crop = "box"
    crop_margin: NonNegative = 0.0
    edges: Edges = "grid"


@dataclass(frozen=True, kw_only=True)
class ExportInfo(Settings):
    """What an exported file says of itself.

    Attributes:
        model: name of the model in the zoo that the weights are of.
        family: of the model.
        class_names: name of each label.
        form: "detections": everything is in the file; "candidates": it ends before NMS, and its reader does the rest.
        batch: number of images that the file takes at once, "one" or "any", all of one size; None for any of
            "candidates" and one of "detections". With several images, every output has an additional first dimension.
        input: how images are prepared.
        mask_frame: what the grid of a mask covers: "grid" the whole image, "region" the box of the instance.
        mask_paste: of "region": how masks become pixels, see `protomask.masks.grids.region_lines`.
        thresholds: see `Thresholds`.
        search_depth: of "detections": number of (anchor, class) pairs, the best, that NMS looks at; None for no limit.
        rule: of "candidates": how they become detections.
        calibration: of the scores, which the file gives as the network does; None leaves them so.
        precision: of the weights and the arithmetic in the file.
        licence: of the weights, SPDX name; None where it is not known.
        provenance: where the weights come from; plain JSON types.
        preprocessing: what the file does with pixels, and ``config``: of the network; for people, not for the reader.
        protomask_version: that wrote the file.

    """

    model: Text
    family: Text
    class_names: Annotated[tuple[Text, ...], NotEmpty()]
    form: Form = "detections"
    batch: Literal["one", "any"] | None = None
    input: InputRule
    mask_frame: Literal["grid", "region"]
    mask_paste: MaskPaste = "integer"
    thresholds: Thresholds
    search_depth: Count | None = None
    rule: PrototypeRule | None = None
    calibration: Calibration | None = None
    precision: Literal["float32", "float16", "int8"] = "float32"
    licence: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    protomask_version: str

    def _check(self) -> None:
        if self.form == "candidates":
            self._expect("rule", self.rule is not None, "one, as the form is candidates")
            self._expect("input", isinstance(self.input, FixedInput), "images of one size, as the form is candidates")
            self._expect("mask_frame", self.mask_frame == "grid", "grid, as the form is candidates")
        else:
            self._expect("rule", self.rule is None, "none, as the form is detections")

    @property
    def takes_batches(self) -> bool:
        """Whether the file takes several images at once."""
        return self.batch == "any" or (self.batch is None and self.form == "candidates")

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(H, W) of the only size the file takes; None where it takes any."""
        return self.input.size if isinstance(self.input, FixedInput) and not self.input.any_size else None

    @property
    def given_size(self) -> tuple[int, int] | None:
        """(H, W) of every image that the reader gives to the file; None where that depends on the image."""
        return self.input.size if isinstance(self.input, FixedInput) else None

    @property
    def image_size(self) -> int | None:
        """The setting ``image_size`` of the network in the file; None where the file does not say it."""
        if isinstance(self.input, ShortSideInput):
            return self.input.image_size
        if isinstance(self.input, FixedInput):
            height, width = self.input.size
            return height if height == width else None
        stated = self.config.get("image_size")
        return stated if type(stated) is int else None

    def to_json(self) -> str:
        """One JSON object."""
        kind = next(name for name, kind in _INPUT_KINDS.items() if type(self.input) is kind)
        values = self.to_dict()
        return json.dumps({"format_version": FORMAT_VERSION, **values, "input": {"kind": kind, **values["input"]}})

    @classmethod
    def from_json(cls, text: str | None, source: str) -> Self:
        """Inverse of `to_json`.

        Raises:
            CheckpointError: not written by protomask, or by a version that this one cannot read.

        """
        if text is None:
            raise CheckpointError(
                f"{source}: expected a file made by protomask export, found no {METADATA_KEY!r} entry"
            )
        if len(text) > MAX_CHARACTERS:
            raise CheckpointError(
                f"{source}: expected a {METADATA_KEY!r} entry of at most {MAX_CHARACTERS} characters, got {len(text)}"
            )
        try:
            values = dict(json.loads(text))
            version = values.pop("format_version")
            if version != FORMAT_VERSION:
                raise CheckpointError(
                    f"{source}: expected format version {FORMAT_VERSION}, got {version}; export the model again"
                )
            given = dict(values.pop("input"))
            known = {entry.name for entry in fields(cls)}
            return cls.from_dict(
                {
                    **{name: value for name, value in values.items() if name in known},
                    "input": _INPUT_KINDS[given.pop("kind")].from_dict(given),
                }
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{source}: its {METADATA_KEY!r} entry cannot be read: {error!r}") from error
