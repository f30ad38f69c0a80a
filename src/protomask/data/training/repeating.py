"""Images of rare classes, seen more often than others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def repeated_images(labels: Sequence[set[int]], below: float, *, seed: int) -> NDArray[np.int64]:
    """Which images a pass shows, those of rare classes several times (Gupta, Dollar and Girshick 2019, section 4.3).

    A class that a share f of all images show is repeated sqrt(below / f) times if that is more than once; an image as
    often as the rarest of its classes. Fractions are rounded at random.

    Args:
        labels: labels of the objects of each image.
        below: share of images from which a class is not rare.
        seed: of the rounding.

    Returns:
        (M,) indices of images, ascending, each at least once.

    """
    seen = Counter(label for own in labels for label in own)
    factors = {label: max(1.0, float(np.sqrt(below * len(labels) / count))) for label, count in seen.items()}
    wanted = np.array([max((factors[label] for label in own), default=1.0) for own in labels])
    times = np.floor(wanted + np.random.default_rng(seed).random(len(wanted))).astype(np.int64)
    return np.repeat(np.arange(len(wanted)), times)
