"""What is stored in a file, so that it can be verified wherever it runs, see `protomask.runtimes.golden`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from protomask.errors import ExportError
from protomask.images.decode import Pixels, read_image
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.golden import TOLERANCE, TOLERANCE_IN_8_BITS, Golden
from protomask.runtimes.info import ExportInfo
from protomask.runtimes.shipped import SAMPLES
from protomask.runtimes.verification import verify
from protomask.torch_runtime.exported import open_exported

_PHOTOGRAPH, _SCENE = "photo_1.jpg", "scene_5.jpg"
_SMALL = (240, 320)
"""Size of the sample in files that take images of any size: a smaller image makes a smaller file."""
_COLORS = 64


def golden_image(info: ExportInfo, image: Pixels | None) -> Pixels:
    """The image that is stored in a file, as the file gets it.

    Args:
        info: of the file.
        image: (H, W, 3) uint8 RGB; None for a sample image in few colours, which is stored in little room: a photograph
            of a person where the model knows these, else a synthetic scene.

    """
    if image is not None:
        return info.input.prepare(image)
    sample = read_image(SAMPLES / (_PHOTOGRAPH if "person" in info.class_names else _SCENE))
    if info.given_size is None:
        sample = np.asarray(Image.fromarray(sample).resize(_SMALL[::-1]))
    prepared = Image.fromarray(info.input.prepare(sample))
    return np.asarray(prepared.quantize(_COLORS, dither=Image.Dither.NONE).convert("RGB"))


def golden_of(
    image: Pixels, graph: nn.Module, output_names: Sequence[str], exported: ExportedPredictor, *, int8: bool
) -> Golden:
    """What the file must return for an image.

    Args:
        image: as the file gets it.
        graph: that the file was made of.
        output_names: of its first outputs.
        exported: runs the file, which is known to do what the graph does.
        int8: the file computes in 8 bits.

    Returns:
        The outputs of PyTorch; or those of the file where it rounds to other numbers, or orders near ties otherwise.

    """
    batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    tolerance = TOLERANCE_IN_8_BITS if int8 else TOLERANCE
    outputs = exported.run(batch)
    if not int8:
        with torch.no_grad():
            values = graph(torch.from_numpy(batch))
        golden = Golden.of(
            image, {name: value.numpy() for name, value in zip(output_names, values, strict=False)}, tolerance=tolerance
        )
        if all(one.compare(outputs[name], tolerance)[1] for name, one in golden.outputs.items()):
            return golden
    return Golden.of(image, {name: outputs[name] for name in output_names}, tolerance=tolerance, source="file")


def store_golden(
    annotate: Callable[[Path, str], None],
    path: Path,
    image: Pixels,
    graph: nn.Module,
    output_names: Sequence[str],
    exported: ExportedPredictor,
    *,
    int8: bool,
) -> None:
    """Store in a file what it must return, and verify it by that.

    Args:
        annotate: of the format, see `protomask.exporting.formats.Annotate`.
        path: path of the file.
        image: as `golden_of` has it, and all that follows.
        graph: likewise.
        output_names: likewise.
        exported: likewise.
        int8: likewise.

    Raises:
        ExportError: the file does not return what is stored in it.

    """
    annotate(path, golden_of(image, graph, output_names, exported, int8=int8).to_json())
    verification = verify(open_exported(path))
    if not verification.passed:
        sizes = ", ".join(f"{output} by {verification.differences[output]:.1e}" for output in verification.failed)
        raise ExportError(f"{path.name}: expected the file to return the same each time, got differences of {sizes}")
