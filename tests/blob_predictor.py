"""A predictor without a network, for tests with videos: bright blobs are objects. As a program it is the command."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fake_predictor import FakePredictor
from protomask.detection.options import PredictOptions
from protomask.detection.rows import instances_of
from protomask.images.decode import Pixels
from protomask.masks.runs import boxes_of_masks
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import DenseMasks
from video_files import write_video

SIZE = (48, 96)


class BlobPredictor(FakePredictor):
    """Finds what is bright in the left and in the right half of the upper and of the lower half.

    Args:
        seconds: that each image takes.

    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(before=lambda: time.sleep(seconds))

    def _find(self, image: Pixels, options: PredictOptions) -> Instances:
        bright = image.mean(axis=2) > 128
        half = image.shape[0] // 2
        masks = np.zeros((2, *bright.shape), dtype=np.bool_)
        masks[0, :half], masks[1, half:] = bright[:half], bright[half:]
        masks = masks[masks.any(axis=(1, 2))]
        found = instances_of(
            boxes=boxes_of_masks(masks),
            labels=np.arange(len(masks), dtype=np.int64) % 2,
            class_scores=np.full(len(masks), 0.9, dtype=np.float32),
            mask_scores=None,
            masks=DenseMasks(masks),
            image_size=(image.shape[0], image.shape[1]),
            class_names=self.class_names,
        )
        return self.scoring(options).finish(found)


def two_blobs(number: int, size: tuple[int, int]) -> Pixels:
    """A white square that goes to the right above, one that goes to the left below."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    x = (2 * number) % (size[1] - 16)
    image[4:16, x : x + 12] = 255
    image[30:42, size[1] - 12 - x : size[1] - x] = 255
    return image


def write_blobs(path: Path, frames: int = 20, **more: Any) -> Path:
    """A video of `two_blobs`."""
    return write_video(path, frames, size=SIZE, paint=two_blobs, **more)


if __name__ == "__main__":
    import protomask.api
    from protomask.cli.main import main

    # Who started the tests may have told them to ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    protomask.api.load = lambda *more, **settings: BlobPredictor(float(sys.argv[1]))  # type: ignore[assignment]
    sys.exit(main(sys.argv[2:]))
