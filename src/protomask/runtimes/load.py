"""The runtime for an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from protomask.errors import ConfigError
from protomask.runtimes.exported import ExportedPredictor

Precision = Literal["float32", "bf16", "fp16"]


def load_exported(
    path: str | Path,
    *,
    runtime: Literal["auto", "onnx", "openvino"] = "auto",
    source: str | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
) -> ExportedPredictor:
    """A file of `protomask export`, ready to predict.

    Args:
        path: .onnx, .xml, .tflite or .ncnn.param file.
        runtime: what runs it; auto is ONNX Runtime for .onnx, OpenVINO for .xml, LiteRT for .tflite, ncnn for
            .param.
        source: what to call it; the path by default.
        precision: of the arithmetic; only OpenVINO has another than float32.
        threads: maximum number of threads; the runtime's own choice (all cores) by default.

    Raises:
        ConfigError: unknown precision, or a runtime that cannot run the file.
        CheckpointError: missing file, or not one made by protomask.
        MissingExtraError: the runtime is not installed.

    """
    if Path(path).suffix in (".tflite", ".param"):
        if runtime != "auto" or precision != "float32":
            raise ConfigError(
                f"runtime, precision: expected auto and float32 for {path}, got {runtime} and {precision}"
            )
        if Path(path).suffix == ".param":
            from protomask.runtimes.ncnn import NcnnPredictor

            return NcnnPredictor(path, source=source, threads=threads)
        from protomask.runtimes.litert import LiteRtPredictor

        return LiteRtPredictor(path, source=source, threads=threads)
    is_openvino_file = Path(path).suffix == ".xml"
    if runtime == "openvino" or (runtime == "auto" and is_openvino_file):
        from protomask.runtimes.openvino import OpenVinoPredictor

        return OpenVinoPredictor(path, source=source, precision=precision, threads=threads)
    if is_openvino_file:
        raise ConfigError(f"runtime: expected openvino for {path}, got {runtime}")
    if precision != "float32":
        raise ConfigError(f"precision: expected float32 in ONNX Runtime, got {precision!r}; OpenVINO has more")
    from protomask.runtimes.onnx import OnnxPredictor

    return OnnxPredictor(path, source=source, threads=threads)
