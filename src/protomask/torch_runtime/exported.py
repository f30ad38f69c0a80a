"""Any exported file, also those that PyTorch runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from protomask.errors import ConfigError
from protomask.runtimes.exported import ExportedPredictor
from protomask.runtimes.formats import TORCH_SUFFIXES
from protomask.runtimes.load import Precision, load_exported


def open_exported(
    path: str | Path,
    *,
    runtime: Literal["auto", "onnx", "openvino"] = "auto",
    source: str | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
) -> ExportedPredictor:
    """A file of `protomask export`, ready to predict.

    Args:
        path: path of the file.
        runtime: what runs it, as `protomask.runtimes.load.load_exported` has it; auto for the files of PyTorch.
        source: what to call it; the path by default.
        precision: of the arithmetic; only OpenVINO has another than float32.
        threads: of ONNX Runtime and OpenVINO; PyTorch has `torch.set_num_threads` for all models together.

    Raises:
        ConfigError: unknown precision, or a runtime that cannot run the file.
        CheckpointError: missing file, or not one made by protomask.
        MissingExtraError: the runtime is not installed.

    """
    if Path(path).suffix not in TORCH_SUFFIXES:
        return load_exported(path, runtime=runtime, source=source, precision=precision, threads=threads)
    from protomask.torch_runtime.program import open_program

    if runtime != "auto":
        raise ConfigError(f"runtime: expected auto for {path}, which PyTorch runs, got {runtime}")
    if precision != "float32":
        raise ConfigError(f"precision: expected float32 for {path}, got {precision!r}; OpenVINO has more")
    if Path(path).suffix == ".pte":
        from protomask.torch_runtime.executorch import ExecuTorchPredictor

        return ExecuTorchPredictor(path, source=source)
    return open_program(path, source=source)
