"""Exported files behind `Predictor`, whatever runs them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from protomask.detection import prototypes, regions
from protomask.detection.calibration import Calibration
from protomask.detection.mask_shape import MaskShape
from protomask.detection.options import Limits, PredictOptions
from protomask.errors import CheckpointError, ConfigError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Clock, Predictor
from protomask.runtimes.info import ExportInfo, Form
from protomask.runtimes.shipped import SHIPPED, shipped_file
from protomask.structures.instances import Instances

Outputs = dict[str, NDArray[Any]]
Prepared = TypeVar("Prepared")
"""What a runtime makes of a file before it runs it."""
_OUTPUTS: dict[Form, tuple[str, ...]] = {
    "candidates": ("class_logits", "boxes", "mask_coefficients", "prototypes"),
    "detections": ("boxes", "labels", "class_scores", "masks"),
}


def output_names(form: Form, count: int) -> tuple[str, ...]:
    """Names of the outputs of a file that knows only their order."""
    boxes, labels, scores, *rest = _OUTPUTS[form]
    if form == "detections" and count == len(_OUTPUTS[form]) + 1:
        return boxes, labels, scores, "mask_scores", *rest
    return _OUTPUTS[form]


class ExportedPredictor(Predictor):
    """A file of `protomask export` on the CPU.

    A file in the form "candidates" takes every option of a prediction; one in the form "detections" has settled NMS and
    thresholds.

    Args:
        info: what the file says of itself.
        source: its path, or the name of the shipped model.
        outputs: names of what it returns.
        inputs: what it takes; not checked when not given.
        golden: what it returns for one image, see `protomask.runtimes.golden`; None where nothing is stored.
        arguments: of the subclass, to open the file again in another process.

    Raises:
        CheckpointError: the file does not take or return what it says.

    """

    def __init__(
        self,
        info: ExportInfo,
        source: str,
        outputs: Collection[str],
        *,
        inputs: Sequence[FileInput] | None = None,
        golden: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if inputs is not None:
            _check_inputs(inputs, info, source)
        missing = [name for name in _OUTPUTS[info.form] if name not in outputs]
        if missing:
            raise CheckpointError(
                f"{source}: expected the outputs {', '.join(_OUTPUTS[info.form])} of the form {info.form}, "
                f"lacks {', '.join(missing)}"
            )
        self.info = info
        self.source = source
        self.golden = golden
        self._arguments = dict(arguments or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (type(self), {**self._arguments, "source": self.source}, self.calibration)

    def __copy__(self) -> Self:
        return self  # it never changes

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _OF_MODULES:
            raise _NoModuleError(
                f"{name}: {self.__dict__.get('source')} runs in {type(self).__name__.removesuffix('Predictor')}, "
                'which has no PyTorch network; expected a model of load(..., runtime="torch"), which takes '
                'precision="fp16" too'
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.info.class_names

    @property
    def model_name(self) -> str:
        """Name of the model in the zoo that the weights are of."""
        return self.info.model

    @property
    def calibration(self) -> Calibration | None:
        """See `Predictor.calibration`."""
        return self.info.calibration

    def calibrated(self, calibration: Calibration | None) -> Self:
        """See `Predictor.calibrated`; both share what runs the file."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, info=self.info.replace(calibration=calibration))
        return other

    @property
    def device(self) -> str:
        """Where the file runs."""
        return "cpu"

    @property
    def most_detections(self) -> int | None:
        """No ``max_detections`` of one image can be above this, where the file has settled it."""
        return self.info.thresholds.max_detections if self.info.rule is None else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(source={self.source!r})"

    @abstractmethod
    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """(B, 3, H, W) uint8 RGB to the outputs of the file by name; from any thread.

        Raises:
            CheckpointError: the file fails.

        """

    def limits(self, options: PredictOptions) -> Limits:
        """See `Predictor.limits`."""
        self._check_image_size(options)
        if self.info.rule is not None:
            rule = self.info.rule.settle(options)
            return Limits(rule.nms, rule.max_detections)
        self._check_settled(options)
        own = self.info.thresholds
        return Limits(own.nms, options.max_detections or own.max_detections)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        """See `Predictor.predict_batch`.

        Raises:
            ConfigError: an option differs from what the file has settled.

        """
        self._check_image_size(options)
        if self.info.rule is not None:
            return self._predict_candidates(images, options, self.info.rule.settle(options), timings)
        self._check_settled(options)
        clock = Clock(timings)
        found = []
        for batch in self._batches(images):
            prepared = [self.info.input.prepare(image) for image in batch]
            channels_first = _channels_first(prepared)
            clock.stage("preprocess")
            outputs = self.run(channels_first)
            each = _images_of(outputs, len(batch)) if self.info.takes_batches else [outputs]
            for one in each:
                self._check_detections(one)
            clock.stage("network")
            for image, one, given in zip(batch, each, prepared, strict=True):
                found.append(self._read(one, (image.shape[0], image.shape[1]), given.shape[:2], options))
            clock.stage("postprocess")
        return found

    def _batches(self, images: Sequence[Pixels]) -> list[Sequence[Pixels]]:
        """What a file of detections gets at once: images that have one size as it sees them."""
        alike = self.info.given_size is not None or len({image.shape for image in images}) == 1
        return [images] if images and self.info.takes_batches and alike else [[image] for image in images]

    def _run_all(self, images: NDArray[np.uint8]) -> Outputs:
        """`run`, one image after the other where the file takes no more."""
        if self.info.takes_batches or len(images) == 1:
            return self.run(images)
        each = [{name: np.array(output) for name, output in self.run(image[None]).items()} for image in images]
        return {name: np.concatenate([one[name] for one in each]) for name in each[0]}

    def _predict_candidates(
        self,
        images: Sequence[Pixels],
        options: PredictOptions,
        rule: prototypes.PrototypeRule,
        timings: dict[str, float] | None,
    ) -> list[Instances]:
        clock = Clock(timings)
        batch = _channels_first([self.info.input.prepare(image) for image in images])
        clock.stage("preprocess")
        outputs = self._run_all(batch)
        self._check_candidates(outputs, len(images), rule)
        clock.stage("network")
        scoring = self.scoring(options)
        least, found = scoring.least_class_score, []
        for index, image in enumerate(images):
            logits, boxes, coefficients, grid = (
                outputs[name][index] for name in ("class_logits", "boxes", "mask_coefficients", "prototypes")
            )
            kept = prototypes.detect(
                logits, boxes, rule, score_threshold=least, labels=options.labels(self.class_names),
                masks=prototypes.PrototypeMasks(grid, coefficients),
            )  # fmt: skip
            rows = prototypes.PrototypeRows(
                boxes=kept.boxes,
                labels=kept.labels,
                class_scores=kept.class_scores,
                masks=prototypes.PrototypeMasks(grid, kept.means(coefficients)),
            )
            size = (image.shape[0], image.shape[1])
            found.append(scoring.finish(prototypes.paint(rows, size, self.class_names, rule.shape)))
        clock.stage("postprocess")
        return found

    def _check_detections(self, outputs: Outputs) -> None:
        rows = len(outputs["labels"]) if outputs["labels"].ndim == 1 else -1
        expected = {"boxes": (rows, 4), "labels": (rows,), "class_scores": (rows,), "masks": (rows, None, None)}
        if "mask_scores" in outputs:
            expected["mask_scores"] = (rows,)
        self._check_outputs(outputs, expected)
        labels = outputs["labels"]
        if rows and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.class_names):
            raise CheckpointError(
                f"{self.source}: expected labels 0..{len(self.class_names) - 1} as there are classes, got "
                f"{int(labels.min())}..{int(labels.max())}"
            )

    def _check_candidates(self, outputs: Outputs, count: int, rule: prototypes.PrototypeRule) -> None:
        anchors = sum(rule.anchors_per_level) or (outputs["boxes"].shape[1] if outputs["boxes"].ndim == 3 else None)
        width = outputs["mask_coefficients"].shape[-1] if outputs["mask_coefficients"].ndim else None
        self._check_outputs(
            outputs,
            {
                "class_logits": (count, anchors, len(self.class_names) + 1),
                "boxes": (count, anchors, 4),
                "mask_coefficients": (count, anchors, width),
                "prototypes": (count, None, None, width),
            },
        )

    def _check_outputs(self, outputs: Outputs, expected: Mapping[str, tuple[int | None, ...]]) -> None:
        for name, shape in expected.items():
            array = outputs[name]
            fits = array.ndim == len(shape) and all(
                want is None or want == got for want, got in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype.kind not in ("iu" if name == "labels" else "f"):
                wanted = ", ".join("*" if size is None or size < 0 else str(size) for size in shape)
                raise CheckpointError(
                    f"{self.source}: expected its output {name} to be {'whole' if name == 'labels' else 'real'} "
                    f"numbers of shape ({wanted}), got {array.dtype} of shape {array.shape}"
                )

    def _check_image_size(self, options: PredictOptions) -> None:
        own = self.info.image_size
        if options.image_size is not None and options.image_size != own:
            settled = "a size that it has settled itself" if own is None else f"{own}, the only size it was made for"
            raise ConfigError(
                f"image_size: expected {settled}, for {self.source}, got {options.image_size}; "
                "the same weights take other sizes in PyTorch (runtime torch)"
            )

    def _check_settled(self, options: PredictOptions) -> None:
        own = self.info.thresholds
        limit, wanted = own.max_detections, options.max_detections
        if wanted is not None and wanted > limit:
            raise ConfigError(f"max_detections: {self.source} was exported for 1 to {limit}, got {wanted}")
        if self.info.mask_frame == "region":
            regions.settle_crop(options, self.source)
            options = options.replace(crop=None)
        elif options.crop == "component" and own.crop == "box":
            options = options.replace(crop=None)  # any mask that is cropped can be cut further
        for name in (
            "nms", "overlap", "iou_threshold", "candidate_threshold", "duplicates", "crop", "crop_margin", "edges",
        ):  # fmt: skip
            value, settled = getattr(options, name), getattr(own, name)
            if value is not None and value != settled:
                raise ConfigError(
                    f"{name}: {self.source} was exported with {settled}, got {value}; export the model again for "
                    "another, or in the form candidates for all"
                )

    def _read(
        self, outputs: Outputs, size: tuple[int, int], given: tuple[int, ...], options: PredictOptions
    ) -> Instances:
        # Rows of no score are padding.
        scoring = self.scoring(options)
        kept = outputs["class_scores"] > np.float32(scoring.least_class_score)
        if (wanted := options.labels(self.class_names)) is not None:
            kept &= np.isin(outputs["labels"], wanted)
        rows = np.flatnonzero(kept)[: options.max_detections]
        chosen = {name: values[rows] for name, values in outputs.items()}
        boxes, labels, class_scores = chosen["boxes"], chosen["labels"], chosen["class_scores"]
        mask_scores = chosen.get("mask_scores")
        if self.info.mask_frame == "region":
            of_region = regions.RegionRows(
                boxes, labels, class_scores, chosen["masks"], mask_scores, (given[0], given[1])
            )
            painted = regions.paint(
                of_region, size, self.class_names, paste=self.info.mask_paste, crop=options.crop or "box"
            )
            return scoring.finish(painted)
        relative = (boxes / np.array([given[1], given[0], given[1], given[0]])).astype(np.float32)
        of_grid = prototypes.PrototypeRows(relative, labels, class_scores, chosen["masks"], mask_scores)
        shape = MaskShape(crop="component" if options.crop == "component" else "box")
        return scoring.finish(prototypes.paint(of_grid, size, self.class_names, shape))


class PreparedByCount(Generic[Prepared]):
    """A file that is prepared to run once for single images, and once more when several come at once.

    Runtimes run a graph whose sizes are all known faster.

    Args:
        single: runs single images.
        prepare: makes what runs any number of images, from what was read already: the file may have changed by then.
            It is called at most once. None for a file that takes single images only.

    """

    def __init__(self, single: Prepared, prepare: Callable[[], Prepared] | None) -> None:
        self._single = single
        self._prepare = prepare
        self._any: Prepared | None = None
        self._lock = Lock()

    def to_run(self, count: int) -> Prepared:
        """What runs so many images; from any thread."""
        if count == 1:
            return self._single
        with self._lock:
            if self._prepare is not None:
                self._any = self._prepare()
                self._prepare = None  # with what it has read
            return self._single if self._any is None else self._any


class FileInput(NamedTuple):
    """What a file takes.

    Attributes:
        name: of the input.
        type: of its numbers, as NumPy calls it.
        shape: None for sizes that may differ.

    """

    name: str
    type: str
    shape: tuple[int | None, ...]


def _check_inputs(inputs: Sequence[FileInput], info: ExportInfo, source: str) -> None:
    """Raises: CheckpointError unless the file takes the images that its metadata speak of."""
    size = info.given_size or (None, None)
    expected = f"one input, image, uint8 of shape (B, 3, {', '.join(str(side or '*') for side in size)})"
    if [one.name for one in inputs] == ["image"]:
        [given] = inputs
        fits = len(given.shape) == 4 and all(
            got is None or want is None or got == want for want, got in zip((None, 3, *size), given.shape, strict=False)
        )
        if fits and given.type == "uint8":
            return
    found = ", ".join(f"{one.name} {one.type} of shape {one.shape}" for one in inputs) or "none"
    raise CheckpointError(f"{source}: expected {expected}, found {found}")


class _NoModuleError(ConfigError, AttributeError):
    """What only PyTorch modules have was asked of a model that runs elsewhere."""


_OF_MODULES = frozenset(
    {
        "network",
        "config",
        "half",
        "float",
        "double",
        "bfloat16",
        "to",
        "cuda",
        "cpu",
        "mps",
        "train",
        "eval",
        "training",
    }
    | {"parameters", "named_parameters", "buffers", "modules", "state_dict", "load_state_dict", "requires_grad_"}
    | {"zero_grad", "forward", "save", "compile"}
)


def _open_again(
    kind: type[ExportedPredictor], arguments: dict[str, Any], calibration: Calibration | None
) -> ExportedPredictor:
    """The predictor of a file, in another process."""
    open_file: Callable[..., ExportedPredictor] = kind
    if arguments["source"] in SHIPPED:
        with shipped_file(arguments["source"]) as path:
            return open_file(**{**arguments, "path": path}).calibrated(calibration)
    return open_file(**arguments).calibrated(calibration)


def existing(path: str | Path) -> Path:
    """The path of a file.

    Raises:
        CheckpointError: there is none.

    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    return Path(path)


def first_line(error: Exception) -> str:
    """First line of a runtime's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _images_of(outputs: Outputs, count: int) -> list[Outputs]:
    """The outputs for each of a batch of images; wrong shapes are for `ExportedPredictor._check_outputs` to name."""
    return [
        {name: values[index] if len(values) == count else values for name, values in outputs.items()}
        for index in range(count)
    ]


def _channels_first(images: Sequence[Pixels]) -> NDArray[np.uint8]:
    """(H, W, 3) images of one size as (B, 3, H, W), contiguous."""
    batch: NDArray[np.uint8] = np.stack([image.transpose(2, 0, 1) for image in images])
    return np.ascontiguousarray(batch)
