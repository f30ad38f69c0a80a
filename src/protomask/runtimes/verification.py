"""Whether an exported file does, where it runs now, what it did when it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from protomask.images.decode import Pixels
from protomask.runtimes.exported import ExportedPredictor, Outputs
from protomask.runtimes.golden import Golden, Source


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How the outputs of a file compare with those that are stored in it.

    Attributes:
        file: its path.
        runtime: class of what ran it.
        differences: largest difference of each output, in its own unit: scores, pixels, and so on; infinite where an
            output has a different shape from before.
        failed: outputs with a number that differs by more than ``tolerance`` times 1 plus its size.
        tolerance: see there.
        source: what computed the stored outputs.
        batches: numbers of images that were given to the file at once.

    """

    file: str
    runtime: str
    differences: Mapping[str, float]
    failed: tuple[str, ...]
    tolerance: float
    source: Source
    batches: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether every output is right."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; a difference that is not finite is None."""
        differences = {name: size if np.isfinite(size) else None for name, size in self.differences.items()}
        return {
            "file": self.file, "runtime": self.runtime, "passed": self.passed, "differences": differences,
            "failed": list(self.failed), "tolerance": self.tolerance, "source": self.source,
            "batches": list(self.batches),
        }  # fmt: skip


def verify(predictor: ExportedPredictor) -> Verification:
    """Run a file on the image that is stored in it, and compare its outputs with the stored ones.

    A file that takes several images at once also gets three: the image, its mirror image, and the image again.

    Raises:
        CheckpointError: the file has no stored results, or fails.

    """
    golden = Golden.from_json(predictor.golden, predictor.source)
    runs = [_run(predictor, [golden.image])]
    batches: tuple[int, ...] = (1,)
    if predictor.info.takes_batches:
        mirrored = np.ascontiguousarray(golden.image[:, ::-1])
        three = _run(predictor, [golden.image, mirrored, golden.image])
        runs += [{name: output[row : row + 1] for name, output in three.items()} for row in (0, 2)]
        batches = (1, 3)
    differences, failed = dict.fromkeys(golden.outputs, 0.0), []
    for name, expected in golden.outputs.items():
        for outputs in runs:
            size, fits = expected.compare(outputs[name], golden.tolerance) if name in outputs else (float("inf"), False)
            differences[name] = max(differences[name], size)
            if not fits and name not in failed:
                failed.append(name)
    return Verification(
        file=predictor.source, runtime=type(predictor).__name__.removesuffix("Predictor"), differences=differences,
        failed=tuple(failed), tolerance=golden.tolerance, source=golden.source, batches=batches,
    )  # fmt: skip


def _run(predictor: ExportedPredictor, images: list[Pixels]) -> Outputs:
    batch = np.ascontiguousarray(np.stack([image.transpose(2, 0, 1) for image in images]))
    # Runtimes may use the same arrays again for the next run.
    return {name: np.array(output) for name, output in predictor.run(batch).items()}
