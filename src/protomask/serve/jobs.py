"""What the server asks of a worker process, and what it gets back."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from protomask.detection.options import PredictOptions
from protomask.images.fetch import TrustedHost
from protomask.serve.label_config import Control

Format = Literal["json", "geojson", "png", "label-map", "instances", "label-studio"]
MaskFormat = Literal["rle", "polygons", "none"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One image to predict.

    Attributes:
        image: the bytes of an image file, or an http(s) address.
        name: what to call it in errors and answers.
        options: options of the prediction.
        format: of the answer; "instances" is for the server itself: a pickled `Instances`. "label-studio" is a
            prediction for the regions of ``control``.
        masks: how JSON has masks.
        control: tag of a Label Studio project.
        max_pixels: larger images are refused before they are decoded.
        trusted: server that an address may belong to though it is private.

    """

    image: bytes | str
    name: str
    options: PredictOptions
    format: Format = "json"
    masks: MaskFormat = "rle"
    control: Control | None = None
    max_pixels: int
    trusted: TrustedHost | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a task.

    Attributes:
        content: the answer in the format that was asked for; of "json", the object of one image.
        error: why there is none.
        status: of HTTP, for an error.
        field: option that the error is about; None where it is the image.

    """

    content: bytes = b""
    error: str = ""
    status: int = 200
    field: str | None = None


@dataclass(eq=False)
class Job:
    """A task on its way through the queue."""

    task: Task
    deadline: float  # of `time.monotonic`
    future: Future[Answer] = field(default_factory=Future)
    attempts: int = 0

    def is_wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.future.done() and time.monotonic() < self.deadline
