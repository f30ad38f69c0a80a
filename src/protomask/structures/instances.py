"""`Instances`: what was found in one image, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from protomask.errors import ConfigError, DataError
from protomask.images.fetch import is_url
from protomask.masks.polygons import Polygon, mask_to_polygons
from protomask.masks.rle import Rle, encode_runs
from protomask.masks.runs import MaskWindow, Runs, runs_area, runs_to_window
from protomask.structures import overlays, serialise
from protomask.structures.arrays import as_array, check_array, frozen, read_only, rows_of
from protomask.structures.instance import Instance
from protomask.structures.mask_sources import DenseMasks, MaskSource, RunMasks

if TYPE_CHECKING:
    import pandas
    import supervision

    from protomask.images.decode import ImageSource
    from protomask.structures.overlays import DrawOptions

Index = Any
"""Whole number, slice, class name, or array, tensor or sequence of whole numbers or truth values."""
_CHUNK_BYTES = 16 << 20
_MASKS_AT_ONCE = 16


class Instances:
    """What was found in one image, best first, in the frame of the original image.

    Instances never change: indexing, `replace` and `cat` make new ones, and the arrays cannot be written to. What they
    are made from is copied, except for the masks.

    Args:
        boxes: (N, 4) float32, xyxy, pixels of the original image.
        labels: (N,) int64, 0-based, background excluded.
        class_scores: (N,) float32 in [0, 1]: how sure the class is.
        masks: (N, H, W) bool, or a `MaskSource` that makes them on demand.
        image_size: (H, W) of the original image.
        class_names: name of each label.
        mask_scores: (N,) float32 in [0, 1], estimate of the mask's IoU; None if the model does not estimate it, or
            has it in the class scores already.
        columns: additional arrays of N rows, by name, which are indexed along with the rest. ``track_ids`` are (N,)
            int64.
        image_source: path or address from which the image can be read again, for drawing; None if there is none. A path
            is stored as an absolute path.

    Raises:
        DataError: an array has the wrong shape or dtype.

    """

    __slots__ = (
        "_dense",
        "_masks",
        "_runs",
        "boxes",
        "class_names",
        "class_scores",
        "columns",
        "image_size",
        "image_source",
        "labels",
        "mask_scores",
    )

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_scores: NDArray[np.float32]
    mask_scores: NDArray[np.float32] | None
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]
    image_source: str | None
    _masks: MaskSource
    _dense: NDArray[np.bool_] | None
    _runs: tuple[Runs, ...] | None

    def __init__(
        self,
        *,
        boxes: NDArray[np.float32],
        labels: NDArray[np.int64],
        class_scores: NDArray[np.float32],
        masks: NDArray[np.bool_] | MaskSource,
        image_size: tuple[int, int],
        class_names: Sequence[str],
        mask_scores: NDArray[np.float32] | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
        image_source: str | Path | None = None,
    ) -> None:
        count = len(labels)
        height, width = (int(side) for side in image_size)
        check_array("boxes", boxes, (count, 4), "float32")
        check_array("labels", labels, (count,), "int64")
        check_array("class_scores", class_scores, (count,), "float32")
        if mask_scores is not None:
            check_array("mask_scores", mask_scores, (count,), "float32")
        extra = {name: as_array(values) for name, values in (columns or {}).items()}
        if "track_ids" in extra:
            check_array("track_ids", extra["track_ids"], (count,), "int64")
        for name, column in extra.items():
            if hasattr(Instances, name) and name != "track_ids":
                raise DataError(f"columns: expected names that Instances do not have otherwise, got {name!r}")
            if column.ndim == 0 or len(column) != count:
                raise DataError(f"columns[{name!r}]: expected {count} rows, got shape {column.shape}")
        dense: NDArray[np.bool_] | None = None
        if hasattr(masks, "runs"):
            source: MaskSource = masks
            if len(source) != count:
                raise DataError(f"masks: expected {count}, got {len(source)}")
        else:
            check_array("masks", masks, (count, height, width), "bool")
            dense = read_only(as_array(masks))
            source = DenseMasks(dense)
        labels = as_array(labels)
        if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
            raise DataError(
                f"labels: expected 0..{len(class_names) - 1} for {len(class_names)} class names, "
                f"got {int(labels.min())}..{int(labels.max())}"
            )
        values: dict[str, Any] = {
            "boxes": frozen(boxes),
            "labels": frozen(labels),
            "class_scores": frozen(class_scores),
            "mask_scores": None if mask_scores is None else frozen(mask_scores),
            "image_size": (height, width),
            "class_names": tuple(class_names),
            "columns": MappingProxyType({name: frozen(own) for name, own in extra.items()}),
            "image_source": None if image_source is None else _absolute(image_source),
            "_masks": source,
            "_dense": dense,
            "_runs": None,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Instances never change: make new ones with replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Instances never change")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._fields(),)

    def __copy__(self) -> Instances:
        return self

    @classmethod
    def empty(cls, image_size: tuple[int, int], class_names: Sequence[str]) -> Instances:
        """Make a result without instances, for an image of size (H, W)."""
        return cls(
            boxes=np.zeros((0, 4), dtype=np.float32),
            labels=np.zeros(0, dtype=np.int64),
            class_scores=np.zeros(0, dtype=np.float32),
            masks=RunMasks([]),
            image_size=image_size,
            class_names=class_names,
        )

    @classmethod
    def cat(cls, parts: Sequence[Instances]) -> Instances:
        """Combine several results of one image, keeping their order.

        Mask scores and columns are kept if all non-empty parts have them.

        Raises:
            DataError: there are no parts, or their image sizes or class names differ.

        """
        if not parts:
            raise DataError("cat: expected at least one part, got none")
        first = parts[0]
        for part in parts[1:]:
            if part.image_size != first.image_size or part.class_names != first.class_names:
                raise DataError(
                    "cat: expected parts of one image size and the same class names, got "
                    f"{first.image_size} with {len(first.class_names)} classes and "
                    f"{part.image_size} with {len(part.class_names)} classes"
                )
        parts = [part for part in parts if len(part)] or [first]
        scored = [part.mask_scores for part in parts if part.mask_scores is not None]
        shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
        return cls(
            boxes=np.concatenate([part.boxes for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            class_scores=np.concatenate([part.class_scores for part in parts]),
            mask_scores=np.concatenate(scored) if len(scored) == len(parts) else None,
            masks=RunMasks([runs for part in parts for runs in part.runs()]),
            image_size=first.image_size,
            class_names=first.class_names,
            columns={name: np.concatenate([part.columns[name] for part in parts]) for name in shared},
            image_source=first.image_source if len({part.image_source for part in parts}) == 1 else None,
        )

    def replace(self, **changes: Any) -> Instances:
        """Return a copy with some fields changed; a name that is not a field becomes a column.

        Raises:
            DataError: an array has the wrong shape or dtype.

        """
        fields = self._fields()
        columns = {**self.columns, **changes.pop("columns", {})}
        columns.update({name: changes.pop(name) for name in list(changes) if name not in fields})
        return Instances(**{**fields, "columns": columns, **changes})

    def from_image(self, image_source: str | Path | None) -> Instances:
        """Return a copy with the path or address of the image the instances were found in; None changes nothing."""
        return self if image_source is None else self.replace(image_source=image_source)

    def _fields(self) -> dict[str, Any]:
        return {
            "boxes": self.boxes,
            "labels": self.labels,
            "class_scores": self.class_scores,
            "mask_scores": self.mask_scores,
            "masks": self._masks if self._runs is None else RunMasks(self._runs),
            "image_size": self.image_size,
            "class_names": self.class_names,
            "columns": dict(self.columns),
            "image_source": self.image_source,
        }

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) float32 in [0, 1], the final score: class score times mask score, if the model has one."""
        return self.class_scores if self.mask_scores is None else self.class_scores * self.mask_scores

    @property
    def track_ids(self) -> NDArray[np.int64] | None:
        """(N,) int64 identity of each instance over the frames of a video; None if nothing was tracked."""
        return self.columns.get("track_ids")

    @property
    def names(self) -> list[str]:
        """Class name of each instance."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool in the original frame, made on first use and kept."""
        if self._dense is None:
            object.__setattr__(self, "_dense", read_only(self._paint(self.runs())))
        assert self._dense is not None
        return self._dense

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """Yield the masks in order, as (n, H, W) bool chunks whose memory does not grow with N."""
        height, width = self.image_size
        step = max(1, _CHUNK_BYTES // max(height * width, 1))
        runs = self.runs()
        for start in range(0, len(self), step):
            yield self._paint(runs[start : start + step])

    def _paint(self, masks: Sequence[Runs]) -> NDArray[np.bool_]:
        dense = np.zeros((len(masks), *self.image_size), dtype=np.bool_)
        for mask, own in zip(dense, masks, strict=True):
            top, left, part = runs_to_window(own, self.image_size[0])
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return dense

    def runs(self) -> tuple[Runs, ...]:
        """Return the masks in order, each as runs of pixels (`protomask.masks.runs.Runs`); made once and kept."""
        if self._runs is None:
            object.__setattr__(self, "_runs", tuple(map(read_only, self._masks.runs())))
        assert self._runs is not None
        return self._runs

    def windows(self) -> Iterator[MaskWindow]:
        """Yield the masks in order, each on the part of the original frame that it occupies: memory grows with area."""
        return (runs_to_window(runs, self.image_size[0]) for runs in self.runs())

    def rle(self) -> list[Rle]:
        """Return the COCO run-length code of every mask: ``{"size": [H, W], "counts": str}``."""
        runs = iter(self.runs())
        codes: list[Rle] = []
        while some := list(islice(runs, _MASKS_AT_ONCE)):
            codes += encode_runs(some, self.image_size)
        return codes

    def polygons(self) -> list[list[Polygon]]:
        """Trace the exact outlines of every mask: its parts, each with its holes, in pixels of the original image."""
        return [mask_to_polygons(mask, offset=(left, top)) for top, left, mask in self.windows()]

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) int64, number of pixels of every mask."""
        return np.array([runs_area(runs) for runs in self.runs()], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Instance]:
        return (Instance(self, row) for row in range(len(self)))

    def __getitem__(self, index: Index) -> Instances:
        if isinstance(index, str):
            index = self.labels == self._label(index)
        rows = rows_of(index, len(self))
        return self._chosen(rows)

    def _chosen(self, rows: NDArray[np.int64]) -> Instances:
        source = self._masks if self._runs is None else RunMasks(self._runs)
        return Instances(
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            class_scores=self.class_scores[rows],
            mask_scores=None if self.mask_scores is None else self.mask_scores[rows],
            masks=source[rows],
            image_size=self.image_size,
            class_names=self.class_names,
            columns={name: values[rows] for name, values in self.columns.items()},
            image_source=self.image_source,
        )

    def _label(self, name: str) -> int:
        if name not in self.class_names:
            raise ConfigError(f"class name: expected one of {', '.join(self.class_names)}, got {name!r}")
        return self.class_names.index(name)

    def best_first(self) -> Instances:
        """Sort the instances by final score, best first; equal scores keep their order."""
        scores = self.scores
        if len(scores) < 2 or bool((scores[1:] <= scores[:-1]).all()):
            return self
        return self._chosen(np.argsort(-scores, kind="stable"))

    def of_classes(self, class_names: Sequence[str]) -> Instances:
        """Keep only the instances of these classes, with labels counted in this order.

        Raises:
            ConfigError: a class that the model does not know.

        """
        unknown = [name for name in class_names if name not in self.class_names]
        if unknown:
            raise ConfigError(f"class_names: expected names of the model's classes, got {', '.join(unknown)}")
        new_label = np.full(len(self.class_names), -1, dtype=np.int64)
        new_label[[self.class_names.index(name) for name in class_names]] = np.arange(len(class_names))
        chosen = self._chosen(np.flatnonzero(new_label[self.labels] >= 0))
        return chosen.replace(labels=new_label[chosen.labels], class_names=tuple(class_names))

    def __repr__(self) -> str:
        height, width = self.image_size
        found = ", ".join(
            f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores[:5].tolist(), strict=True)
        )
        more = ", ..." if len(self) > 5 else ""
        return f"Instances({len(self)} in {width}x{height}: {found}{more})"

    def to_dict(self, *, masks: bool = True) -> dict[str, Any]:
        """Convert to plain JSON types, see `protomask.structures.serialise.to_dict`."""
        return serialise.to_dict(self, masks=masks)

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Convert to COCO result rows, see `protomask.structures.serialise.to_coco`."""
        return serialise.to_coco(self, image_id, category_ids)

    def to_geojson(self) -> dict[str, Any]:
        """Convert to GeoJSON in image pixels, see `protomask.structures.serialise.to_geojson`."""
        return serialise.to_geojson(self)

    def to_supervision(self) -> supervision.Detections:
        """Convert to `supervision.Detections`, see `protomask.structures.serialise.to_supervision`."""
        return serialise.to_supervision(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Convert to a table with one row per instance, see `protomask.structures.serialise.to_pandas`."""
        return serialise.to_pandas(self)

    def label_map(self) -> NDArray[np.uint16]:
        """Return (H, W) uint16: the number of each pixel's instance, from 1; where they overlap, the first one."""
        numbers = np.zeros(self.image_size, dtype=np.uint16)
        for number, (top, left, mask) in enumerate(self.windows(), start=1):
            part = numbers[top : top + mask.shape[0], left : left + mask.shape[1]]
            np.copyto(part, number, where=mask & (part == 0))
        return numbers

    def draw(self, image: ImageSource | None = None, **options: Unpack[DrawOptions]) -> NDArray[np.uint8]:
        """Draw masks, boxes, classes and scores on the image.

        Args:
            image: the image that was predicted, in any form `protomask.images.decode.read_image` takes; if not given,
                it is read again from ``image_source``.
            options: ``masks=False`` draws no masks, ``boxes=False`` no boxes, ``labels=False`` no classes and tracks,
                ``scores=False`` no scores. ``opacity``, 0..1, applies to the fill (0.45). ``color_by="class"`` keeps
                the colour of a class in all images, ``"instance"`` numbers the objects of this one (or follows their
                tracks), ``"auto"`` chooses the latter if there are tracks or only one class.

        Returns:
            (H, W, 3) uint8 RGB, a new array.

        Raises:
            DataError: the image cannot be read or its size is not ``image_size``.
            ConfigError: no image is given or known, or ``opacity`` or ``color_by`` has an impossible value.

        """
        return overlays.draw(self, image, **options)

    def save(self, path: str | Path, image: ImageSource | None = None, **options: Unpack[DrawOptions]) -> Path:
        """Write the result of `draw` to an image file, whole or not at all.

        Args:
            path: .png, .jpg or .webp file.
            image: as for `draw`.
            options: as for `draw`.

        Returns:
            The path.

        Raises:
            DataError: as `draw`.
            ConfigError: as `draw`, or the file has a different ending.
            ProtomaskError: the file cannot be written.

        """
        return overlays.save(self, path, image, **options)

    def show(self, image: ImageSource | None = None, **options: Unpack[DrawOptions]) -> None:
        """Open the result of `draw` in the system's image viewer; in a notebook, below the cell.

        Args:
            image: as for `draw`.
            options: as for `draw`.

        Raises:
            DataError: as `draw`.
            ConfigError: as `draw`, or there is no display.

        """
        overlays.show(self, image, **options)


def _rebuild(fields: dict[str, Any]) -> Instances:
    """`Instances` from their pickled fields."""
    return Instances(**fields)


def _absolute(source: str | Path) -> str:
    """A path that holds wherever the process goes, or an address."""
    return source if isinstance(source, str) and is_url(source) else str(Path(source).absolute())
