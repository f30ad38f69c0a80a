"""Exported .pt2 files: programs of `torch.export`, and packages of AOTInductor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401 - programs call its operations
from numpy.typing import NDArray

from protomask.errors import CheckpointError
from protomask.ops import voting  # noqa: F401 - likewise
from protomask.runtimes.archive import entry_names, read_texts
from protomask.runtimes.exported import ExportedPredictor, FileInput, Outputs, existing, first_line
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo

_COMPILED = "/data/aotinductor/"
"""Part of the names of files that only AOTInductor packages have."""


class ProgramPredictor(ExportedPredictor):
    """An exported program of `torch.export`, which PyTorch runs.

    Args:
        path: the .pt2 file.
        source: what to call it; the path by default.

    Raises:
        CheckpointError: not a file of PyTorch, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, source: str | None = None) -> None:
        texts = read_texts(existing(path))
        info = ExportInfo.from_json(texts.get(METADATA_KEY), str(path))
        try:
            self._call, names = self._open(Path(path))
        except Exception as error:  # PyTorch's errors of damaged files share no class but Exception
            raise CheckpointError(f"{path}: PyTorch cannot read it: {first_line(error)}") from error
        super().__init__(
            info, source or str(path), names, inputs=[_input_of(info)], golden=texts.get(GOLDEN_KEY),
            arguments={"path": Path(path).absolute()},
        )  # fmt: skip

    def _open(self, path: Path) -> tuple[Callable[[torch.Tensor], Any], list[str]]:
        """What runs the file, and the names of its outputs."""
        program = torch.export.load(path)
        return program.module(), _names_of(program.call_spec.out_spec)

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`."""
        try:
            with torch.inference_mode():
                outputs = self._call(torch.from_numpy(images))
        except Exception as error:  # likewise
            raise CheckpointError(f"{self.source}: PyTorch cannot run it: {first_line(error)}") from error
        return {name: value.numpy() for name, value in outputs.items()}


class CompiledPredictor(ProgramPredictor):
    """An exported package of AOTInductor: machine code, which PyTorch loads; it runs whatever is in the file.

    Args:
        path: the .pt2 file.
        source: what to call it; the path by default.

    Raises:
        CheckpointError: not such a package, one for another kind of processor, or not one made by protomask.

    """

    def _open(self, path: Path) -> tuple[Callable[[torch.Tensor], Any], list[str]]:
        compiled = torch._inductor.aoti_load_package(str(path))
        return compiled, _names_of(torch.utils._pytree.treespec_loads(compiled.loader.get_call_spec()[1]))


def open_program(path: str | Path, *, source: str | None = None) -> ProgramPredictor:
    """An exported .pt2 file of either kind, ready to predict."""
    is_compiled = any(_COMPILED in name for name in entry_names(existing(path)))
    return (CompiledPredictor if is_compiled else ProgramPredictor)(path, source=source)


def _names_of(spec: Any) -> list[str]:
    """Names of the outputs: programs return a dict."""
    return [str(name) for name in spec.context] if spec.type is dict else []


def _input_of(info: ExportInfo) -> FileInput:
    """Programs check what they are given by themselves."""
    return FileInput("image", "uint8", (None, 3, *(info.given_size or (None, None))))
