"""Exported .pte files in ExecuTorch."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from protomask.errors import CheckpointError, MissingExtraError
from protomask.runtimes.archive import read_texts
from protomask.runtimes.exported import ExportedPredictor, Outputs, existing, first_line, output_names
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo


class ExecuTorchPredictor(ExportedPredictor):
    """An exported .pte file in ExecuTorch, one image at a time.

    Args:
        path: the file.
        source: what to call it; the path by default.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        CheckpointError: not an ExecuTorch file, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, source: str | None = None) -> None:
        try:
            from executorch.runtime import Runtime
        except ImportError as error:
            raise MissingExtraError(
                f"{path}: running it in ExecuTorch needs the package: pip install 'protomask[executorch]'"
            ) from error
        texts = read_texts(existing(path))
        info = ExportInfo.from_json(texts.get(METADATA_KEY), str(path))
        try:
            self._program = Runtime.get().load_program(Path(path))
            self._method = self._program.load_method("forward")
            names = output_names(info.form, self._method.metadata.num_outputs())
        except Exception as error:  # ExecuTorch's errors share no class but Exception
            raise CheckpointError(f"{path}: ExecuTorch cannot read it: {first_line(error)}") from error
        self._names = names
        self._lock = Lock()
        super().__init__(
            info, source or str(path), names, golden=texts.get(GOLDEN_KEY),
            arguments={"path": Path(path).absolute()},
        )  # fmt: skip

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`; threads wait for each other."""
        with self._lock:
            try:
                values = self._method.execute([torch.from_numpy(images)])
            except Exception as error:  # likewise
                raise CheckpointError(f"{self.source}: ExecuTorch cannot run it: {first_line(error)}") from error
            # The next run writes to the same memory.
            return {name: np.array(value) for name, value in zip(self._names, values, strict=True)}
