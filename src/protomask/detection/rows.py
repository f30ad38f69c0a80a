"""The last step of every family: kept rows as `Instances`, with the scores that the network gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protomask.structures.instances import Instances
from protomask.structures.mask_sources import MaskSource


def instances_of(
    *,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_scores: NDArray[np.float32],
    mask_scores: NDArray[np.float32] | None,
    masks: MaskSource,
    image_size: tuple[int, int],
    class_names: Sequence[str],
) -> Instances:
    """What was kept in one image.

    The final score decides the order (Huang et al. 2019, section 3.2): class score times mask score, which networks may
    estimate beyond its range and which is limited to [0, 1] here. What of this is returned `Scoring` says.

    Args:
        boxes: (N, 4) float32 xyxy, pixels of the original image, which they may exceed.
        labels: (N,) int64.
        class_scores: (N,) float32 in [0, 1].
        mask_scores: (N,) float32 or None.
        masks: N masks.
        image_size: (H, W) of the original image.
        class_names: name of each label.

    """
    height, width = image_size
    if mask_scores is not None:
        mask_scores = np.nan_to_num(mask_scores, nan=0.0).clip(0, 1).astype(np.float32)
    found = Instances(
        boxes=boxes.astype(np.float32).clip(0, np.array([width, height, width, height], dtype=np.float32)),
        labels=labels.astype(np.int64, copy=False),
        class_scores=class_scores.astype(np.float32, copy=False),
        mask_scores=mask_scores,
        masks=masks,
        image_size=image_size,
        class_names=class_names,
    )
    return found.best_first()
