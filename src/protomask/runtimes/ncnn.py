"""Exported .ncnn.param files, and the .ncnn.bin beside them, in ncnn."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protomask.errors import CheckpointError, MissingExtraError
from protomask.runtimes.archive import read_texts
from protomask.runtimes.exported import ExportedPredictor, Outputs, existing, output_names
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo


class NcnnPredictor(ExportedPredictor):
    """An exported .ncnn.param file in ncnn, one image at a time, in float32 on every processor.

    Args:
        path: the .param file; the .bin is beside it.
        source: what to call it; the path by default.
        threads: maximum number of threads of the runtime; OMP_NUM_THREADS, or its own choice, by default.

    Raises:
        MissingExtraError: ncnn is not installed.
        CheckpointError: not an ncnn file, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, source: str | None = None, threads: int | None = None) -> None:
        try:
            import ncnn
        except ImportError as error:
            raise MissingExtraError(
                f"{path}: running it in ncnn needs the package: pip install 'protomask[ncnn]'"
            ) from error
        weights = existing(existing(path).with_suffix(".bin"))
        texts = read_texts(weights)
        info = ExportInfo.from_json(texts.get(METADATA_KEY), str(weights))
        self._net = ncnn.Net()
        # Where the processor has half precision, ncnn takes it unless told otherwise.
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
            setattr(self._net.opt, option, False)
        limit = str(threads or os.environ.get("OMP_NUM_THREADS"))
        if limit.isdecimal() and int(limit) > 0:  # ncnn itself does not look at the variable
            self._net.opt.num_threads = int(limit)
        if self._net.load_param(str(path)) or self._net.load_model(str(weights)):
            raise CheckpointError(f"{path}: ncnn cannot read it, or {weights.name}")
        self._names = output_names(info.form, 4)
        super().__init__(
            info, source or str(path), self._net.output_names(), golden=texts.get(GOLDEN_KEY),
            arguments={"path": Path(path).absolute(), "threads": threads},
        )  # fmt: skip
        self._matrix = ncnn.Mat

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`."""
        extractor = self._net.create_extractor()
        # ncnn's matrix reads this array and does not keep it: it has to live until the last output is there.
        pixels = np.ascontiguousarray(images[0], np.float32)
        extractor.input("image", self._matrix(pixels))
        outputs = {}
        for name in self._names:
            code, values = extractor.extract(name)
            if code:
                raise CheckpointError(f"{self.source}: ncnn cannot run it: code {code} for {name}")
            outputs[name] = np.array(values)[None]
        return outputs
