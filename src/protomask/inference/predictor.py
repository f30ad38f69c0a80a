"""`Predictor`: what every model can do, whatever runs its network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

import numpy as np

from protomask.detection.calibration import Calibration
from protomask.detection.options import Limits, PredictChanges, PredictOptions, take_options
from protomask.detection.scoring import Scoring
from protomask.errors import ConfigError
from protomask.images.decode import Pixels, read_image
from protomask.inference.pipeline import follow_frames, predict_frames
from protomask.inference.sources import image_source, open_source
from protomask.inference.tiling import Tile, Tiling, merge_tiles
from protomask.structures.exclusive import give_pixels_one_owner
from protomask.structures.frame import Frame
from protomask.structures.instances import Instances

if TYPE_CHECKING:
    from protomask.images.decode import ImageSource
    from protomask.inference.sources import AnySource, Source
    from protomask.inference.tracking.build import TrackerName
    from protomask.inference.tracking.options import TrackOptions
    from protomask.inference.tracking.tracker import Tracker
    from protomask.inference.video.options import VideoOptions

    Item = TypeVar("Item", bound=ImageSource)

STAGES = ("decode", "preprocess", "network", "postprocess")
"""What `Predictor.predict_images` and its callers time, in order."""


class Predictor(ABC):
    """Reads images and finds their instances.

    Predictors can be used from several threads at once.
    """

    source: str
    """Where the weights come from, for messages."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""

    @property
    @abstractmethod
    def model_name(self) -> str:
        """Name of the model in the zoo that this one comes from."""

    @property
    @abstractmethod
    def device(self) -> Any:
        """Where the network runs."""

    @property
    def calibration(self) -> Calibration | None:
        """What turns the network's scores into those of a result; None leaves them unchanged."""
        return None

    def calibrated(self, calibration: Calibration | None) -> Self:
        """Return the same model with a different calibration of its scores; None removes it.

        Raises:
            ConfigError: this kind of model has no calibration.

        """
        raise ConfigError(f"calibration: expected a model in PyTorch or an exported file, got {type(self).__name__}")

    def scoring(self, options: PredictOptions) -> Scoring:
        """Return the thresholds and the calibration of a prediction.

        Raises:
            ConfigError: thresholds for a precision, but the model has no calibration.

        """
        return Scoring.of(options, self.class_names, self.calibration)

    @abstractmethod
    def limits(self, options: PredictOptions) -> Limits:
        """Return what the options amount to with this model.

        Raises:
            ConfigError: an option that this model does not support.

        """

    def check_options(self, options: PredictOptions) -> None:
        """Check that this model supports these options, before any image is read.

        Raises:
            ConfigError: it does not; the message names the option.

        """
        options.labels(self.class_names)
        self.scoring(options)
        self.limits(options if options.tile is None else self._within_limit(options))

    @property
    def most_detections(self) -> int | None:
        """Upper limit of ``max_detections`` for one image; None if there is no limit."""
        return None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises: ConfigError, because `predict` is what takes images."""
        raise ConfigError("model(...): call model.predict(image), which takes images; a model itself cannot be called")

    @overload
    def predict(
        self, source: ImageSource, options: PredictOptions | None = None, **changes: Unpack[PredictChanges]
    ) -> Instances: ...

    @overload
    def predict(
        self,
        source: list[Item] | tuple[Item, ...],
        options: PredictOptions | None = None,
        **changes: Unpack[PredictChanges],
    ) -> list[Instances]: ...

    def predict(
        self, source: Any, options: PredictOptions | None = None, **changes: Unpack[PredictChanges]
    ) -> Instances | list[Instances]:
        """Find the instances of one image, or of each image of a list.

        Args:
            source: path, URL, bytes of an image file, binary file object, PIL image, (H, W, 3) uint8 RGB array or
                (3, H, W) uint8 RGB tensor; or a list of these.
            options: see `PredictOptions`.
            changes: fields of `PredictOptions`, which override ``options``.

        Returns:
            `Instances` in the frame of the original image, best first; a list of them for a list.

        Raises:
            DataError: an image cannot be read; the message names it.
            ConfigError: no such option, or one that is out of range.

        """
        settled = take_options(options, changes)
        self.check_options(settled)
        if isinstance(source, list | tuple):
            found: list[Instances] = []
            for start in range(0, len(source), settled.batch_size):
                some = source[start : start + settled.batch_size]
                batch = self.predict_images([read_image(item) for item in some], settled)
                found += [one.from_image(image_source(item)) for one, item in zip(batch, some, strict=True)]
            return found
        return self.predict_images([read_image(source)], settled)[0].from_image(image_source(source))

    def stream(
        self,
        source: AnySource,
        options: PredictOptions | None = None,
        *,
        video: VideoOptions | None = None,
        **changes: Unpack[PredictChanges],
    ) -> Generator[Frame, None, None]:
        """Find the instances in every frame of a source, decoding the next frames in the meantime.

        Args:
            source: anything `protomask.inference.sources.open_source` takes: an image, a folder, a video, a camera, the
                address of a stream, a list of these, or any iterable of images or frames.
            options: see `PredictOptions`.
            video: which part of a video is read, see `VideoOptions`.
            changes: fields of `PredictOptions`, which override ``options``.

        Yields:
            `Frame` with ``image``, ``found``, ``index``, ``time`` and ``source``, in order.

        Raises:
            DataError: an image cannot be read; the message names it.
            ConfigError: no such option, or one that is out of range.

        """
        settled = take_options(options, changes)
        self.check_options(settled)
        return self._stream(open_source(source, video=video), settled)

    def track(
        self,
        source: AnySource,
        options: PredictOptions | None = None,
        *,
        tracker: TrackerName | Tracker = "mask",
        tracking: TrackOptions | None = None,
        video: VideoOptions | None = None,
        **changes: Unpack[PredictChanges],
    ) -> Generator[Frame, None, None]:
        """`stream`, with identities: ``frame.found`` has the instances that belong to tracks, and their ``track_ids``.

        The tracker decides by score what becomes a track; ``score_threshold`` matters only if it is lower than the
        tracker's ``low_score``.

        Args:
            source: see `stream`; everything is treated as a video, even the images of a folder.
            options: see `PredictOptions`.
            tracker: name of a tracker, or a `Tracker`.
            tracking: settings of a tracker given by name, see `TrackOptions`.
            video: which part of a video is read, see `VideoOptions`.
            changes: fields of `PredictOptions`, which override ``options``.

        Yields:
            `Frame` with ``image``, ``found``, ``index``, ``time`` and ``source``, in order.

        Raises:
            DataError: a frame cannot be read; the message names its source.
            ConfigError: no such option or tracker, or a value that is out of range.
            MissingExtraError: the tracker or the source needs a package that is not installed.

        """
        from protomask.inference.tracking.build import build_tracker
        from protomask.inference.tracking.tracker import Tracker

        follower = tracker if isinstance(tracker, Tracker) else build_tracker(tracker, **_fields(tracking))
        settled = options_for(follower, take_options(options, changes))
        self.check_options(settled)
        return self._stream(open_source(source, video=video, as_video=True), settled, follower)

    def _stream(
        self, source: Source, options: PredictOptions, tracker: Tracker | None = None
    ) -> Generator[Frame, None, None]:
        with closing(predict_frames(self, source, options)) as predicted:
            for frame in predicted if tracker is None else follow_frames(predicted, tracker):
                if frame.error is not None:
                    raise frame.error
                yield frame

    def predict_images(
        self,
        images: Sequence[Pixels],
        options: PredictOptions | None = None,
        *,
        timings: dict[str, float] | None = None,
    ) -> list[Instances]:
        """Find the instances of images that are already read.

        Args:
            images: (H, W, 3) uint8 RGB each, or gray (H, W) or (H, W, 1), any sizes; they go through the network in one
                batch.
            options: see `PredictOptions`.
            timings: dictionary to which the seconds of each stage are added; None measures nothing.

        """
        options = options or PredictOptions()
        if not images:
            return []
        images = [image if image.ndim == 3 and image.shape[2] == 3 else read_image(image) for image in images]
        found = self._predict_whole(images, options, timings)
        if options.exclusive is not None:
            clock = Clock(timings)
            found = [give_pixels_one_owner(one, options.exclusive) for one in found]
            clock.stage("postprocess")
        return found

    def _predict_whole(
        self, images: Sequence[Pixels], options: PredictOptions, timings: dict[str, float] | None
    ) -> list[Instances]:
        """Predict images, cut into tiles where the options ask for it."""
        if options.tile is None:
            return self.predict_batch(images, options, timings=timings)
        tiling = Tiling.of(options)
        cuts = [tiling.tiles((image.shape[0], image.shape[1])) for image in images]
        fitting = [image for image, tiles in zip(images, cuts, strict=True) if len(tiles) == 1]
        uncut = iter(self.predict_batch(fitting, self._within_limit(options), timings=timings) if fitting else [])
        return [
            next(uncut) if len(tiles) == 1 else self._predict_tiles(image, tiles, options, timings)
            for image, tiles in zip(images, cuts, strict=True)
        ]

    @abstractmethod
    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        """`predict_images` for images that are not cut."""

    def _within_limit(self, options: PredictOptions) -> PredictOptions:
        """A limit of the model holds for each tile, even if the image is a single tile."""
        wanted, most = options.max_detections, self.most_detections
        return options if wanted is None or most is None else options.replace(max_detections=min(wanted, most))

    def _predict_tiles(
        self, image: Pixels, tiles: Sequence[Tile], options: PredictOptions, timings: dict[str, float] | None
    ) -> Instances:
        wanted, own = options.max_detections, self.limits(PredictOptions()).max_detections
        # A tile may find as many as the model does in an image, or as are wanted of all.
        if wanted is None or wanted <= own or self.most_detections is not None:
            each = options.replace(max_detections=None)
        else:
            each = options
        settled = self.limits(each)
        [overview] = self.predict_batch([image], each, timings=timings)
        found: list[Instances] = []
        for start in range(0, len(tiles), options.batch_size):
            parts = [
                np.ascontiguousarray(image[tile.top : tile.bottom, tile.left : tile.right])
                for tile in tiles[start : start + options.batch_size]
            ]
            found += self.predict_batch(parts, each, timings=timings)
        clock = Clock(timings)
        merged = merge_tiles(
            found,
            tiles,
            (image.shape[0], image.shape[1]),
            overview=overview,
            max_detections=settled.max_detections if wanted is None else wanted,
            across_classes=settled.nms == "cross_class_fast",
        )
        clock.stage("postprocess")
        return merged


def options_for(tracker: Tracker, options: PredictOptions) -> PredictOptions:
    """Options with which everything that a tracker wants to see is found."""
    return options.replace(score_threshold=min(options.score_threshold, tracker.options.low_score))


def _fields(tracking: TrackOptions | None) -> dict[str, Any]:
    return {} if tracking is None else tracking.to_dict()


class Clock:
    """Adds the time since the last call to a stage, if anybody wants to know.

    Args:
        timings: seconds by stage; None keeps none.
        wait: waits for what still runs on a graphics card.

    """

    def __init__(self, timings: dict[str, float] | None, wait: Callable[[], None] | None = None) -> None:
        self._timings = timings
        self._wait = wait
        self._last = perf_counter()

    def stage(self, name: str) -> None:
        """Add the time since the last stage to the stage that has just ended."""
        if self._timings is None:
            return
        if self._wait is not None:
            self._wait()
        now = perf_counter()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now
