"""Exported .tflite files in LiteRT."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from protomask.errors import CheckpointError, MissingExtraError
from protomask.runtimes.archive import read_texts
from protomask.runtimes.exported import ExportedPredictor, FileInput, Outputs, existing, first_line, output_names
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo


class LiteRtPredictor(ExportedPredictor):
    """An exported .tflite file in LiteRT, one image at a time.

    Args:
        path: the file.
        source: what to call it; the path by default.
        threads: maximum number of threads of the runtime; its own choice by default.

    Raises:
        MissingExtraError: LiteRT is not installed.
        CheckpointError: not a LiteRT file, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, source: str | None = None, threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError(
                f"{path}: running it in LiteRT needs the package: pip install 'protomask[litert]'"
            ) from error
        texts = read_texts(existing(path))
        info = ExportInfo.from_json(texts.get(METADATA_KEY), str(path))
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: LiteRT cannot read it: {first_line(error)}") from error
        inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self._names = output_names(info.form, len(self._outputs))
        self._lock = Lock()
        super().__init__(
            info, source or str(path), self._names, golden=texts.get(GOLDEN_KEY),
            inputs=[
                FileInput("image", np.dtype(one["dtype"]).name, tuple(int(side) for side in one["shape"]))
                for one in inputs
            ],
            arguments={"path": Path(path).absolute(), "threads": threads},
        )  # fmt: skip
        self._input = inputs[0]["index"]

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`; threads wait for each other."""
        with self._lock:
            try:
                self._interpreter.set_tensor(self._input, images)
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise CheckpointError(f"{self.source}: LiteRT cannot run it: {first_line(error)}") from error
            values = [self._interpreter.get_tensor(output["index"]) for output in self._outputs]
        outputs = dict(zip(self._names, values, strict=True))
        if "labels" in outputs:  # which LiteRT keeps in 32 bits
            outputs["labels"] = outputs["labels"].astype(np.int64)
        return outputs
