"""What an exported file must return for one image, stored in the file, so that a build on any device can check itself.

docs/export.md describes the JSON for readers in other languages.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import CheckpointError
from protomask.images.decode import Pixels

GOLDEN_KEY = "protomask_golden"
"""Key of the JSON object in a file's metadata, beside that of `protomask.runtimes.info`."""
VERSION = 1
MOST_VALUES = 1024
"""Stored of each output."""
TOLERANCE = 1e-3
"""Allowed difference of a number, divided by 1 plus its size."""
TOLERANCE_IN_8_BITS = 0.05
"""Likewise; processors round sums of 8-bit numbers in their own ways."""
NEAR_TIE = 1e-5
"""Detections whose scores differ by no more may change places, where another processor rounds in another way."""
Source = Literal["pytorch", "file"]
_DAMAGE = (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Some numbers of one output.

    Attributes:
        shape: of the whole output.
        places: (N,) int32 into the output in row-major order.
        values: (N,) float32 at these places.

    """

    shape: tuple[int, ...]
    places: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, output: NDArray[Any], rows: NDArray[np.bool_] | None = None) -> Self:
        """Up to ``MOST_VALUES`` numbers spread over an output or some rows of it, those that are not zero first."""
        flat = output.reshape(-1)
        usable = True if rows is None else np.repeat(rows, flat.size // max(rows.size, 1))
        filled, empty = np.flatnonzero((flat != 0) & usable), np.flatnonzero((flat == 0) & usable)
        chosen = _spread(filled, MOST_VALUES)
        places = np.sort(np.concatenate((chosen, _spread(empty, MOST_VALUES - len(chosen))))).astype(np.int32)
        return cls(shape=tuple(output.shape), places=places, values=flat[places].astype(np.float32))

    def compare(self, output: NDArray[Any], tolerance: float) -> tuple[float, bool]:
        """Largest difference of an output, infinite for one of another shape; and whether all are within tolerance."""
        if tuple(output.shape) != self.shape:
            return float("inf"), False
        found, wanted = output.reshape(-1)[self.places].astype(np.float64), self.values.astype(np.float64)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.nan_to_num(np.abs(found - wanted), nan=np.inf, posinf=np.inf))
            allowed = tolerance * (1 + np.nan_to_num(np.abs(wanted), nan=0.0, posinf=0.0))
        return float(difference.max(initial=0.0)), bool((difference <= allowed).all())


@dataclass(frozen=True, kw_only=True)
class Golden:
    """An image, and what a file returns for it.

    Attributes:
        image: (H, W, 3) uint8 RGB, prepared as the file wants it.
        outputs: some numbers of each output, by name, for a batch of this image alone.
        tolerance: allowed difference of a number, divided by 1 plus its size.
        source: what computed the outputs: PyTorch, or the file itself on the machine that wrote it, where rounding
            makes them other numbers.

    """

    image: Pixels
    outputs: Mapping[str, Expected]
    tolerance: float = TOLERANCE
    source: Source = "pytorch"

    @classmethod
    def of(
        cls,
        image: Pixels,
        outputs: Mapping[str, NDArray[Any]],
        *,
        tolerance: float = TOLERANCE,
        source: Source = "pytorch",
    ) -> Self:
        """The golden of whole outputs.

        Of detections that score alike only the scores are stored.
        """
        apart = None if "class_scores" not in outputs else _apart(outputs["class_scores"].reshape(-1))
        expected = {
            name: Expected.of(output, None if name == "class_scores" else apart) for name, output in outputs.items()
        }
        return cls(image=image, outputs=expected, tolerance=tolerance, source=source)

    def to_json(self) -> str:
        """One JSON object; the image is a PNG, lists of numbers are little-endian, both in Base64."""
        buffer = BytesIO()
        Image.fromarray(self.image).save(buffer, format="PNG", optimize=True)
        outputs = {
            name: {
                "shape": list(one.shape),
                "places": _packed(one.places.astype("<i4").tobytes()),
                "values": _packed(one.values.astype("<f4").tobytes()),
            }
            for name, one in self.outputs.items()
        }
        return json.dumps(
            {
                "version": VERSION, "source": self.source, "tolerance": self.tolerance, "outputs": outputs,
                "image": _packed(buffer.getvalue()),
            }
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str | None, source: str) -> Self:
        """Inverse of `to_json`.

        Raises:
            CheckpointError: there is none, or it cannot be read.

        """
        if text is None:
            raise CheckpointError(f"{source}: expected stored results to verify it with, found none; export it again")
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                raise CheckpointError(
                    f"{source}: expected stored results of version {VERSION}, got {content['version']}; export it again"
                )
            with Image.open(BytesIO(b64decode(content["image"], validate=True)), formats=("PNG",)) as opened:
                image = np.asarray(opened.convert("RGB"))
            outputs = {str(name): _read_expected(one) for name, one in content["outputs"].items()}
            tolerance, made_by = float(content["tolerance"]), content["source"]
        except CheckpointError:
            raise
        except (*_DAMAGE, Image.DecompressionBombError) as error:
            raise CheckpointError(f"{source}: its stored results cannot be read: {error!r:.200}") from error
        if not outputs or made_by not in ("pytorch", "file") or not 0 < tolerance < 1:
            raise CheckpointError(f"{source}: its stored results are incomplete; export it again")
        return cls(image=image, outputs=outputs, tolerance=tolerance, source=made_by)


def _read_expected(content: Mapping[str, Any]) -> Expected:
    shape = tuple(int(size) for size in content["shape"])
    places = np.frombuffer(b64decode(content["places"], validate=True), dtype="<i4").astype(np.int32)
    values = np.frombuffer(b64decode(content["values"], validate=True), dtype="<f4").astype(np.float32)
    count = int(np.prod(shape, dtype=np.int64))
    if len(places) != len(values) or (len(places) and not 0 <= places.min() <= places.max() < count):
        raise ValueError(f"places of {len(values)} values, expected as many from 0 to {count - 1}")
    return Expected(shape=shape, places=places, values=values)


def _apart(scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of (D,) scores in descending order differ from both neighbours."""
    gaps = np.abs(np.diff(scores.astype(np.float64))) > NEAR_TIE
    return np.append(True, gaps) & np.append(gaps, True) if len(scores) else np.zeros(0, dtype=np.bool_)


def _spread(places: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Up to ``count`` of some places, spread over all."""
    if len(places) <= count:
        return places
    return places[np.arange(count) * len(places) // max(count, 1)]


def _packed(content: bytes) -> str:
    return b64encode(content).decode("ascii")
