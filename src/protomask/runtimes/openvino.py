"""Exported .xml files, and .onnx files, in OpenVINO."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.runtimes.exported import ExportedPredictor, FileInput, Outputs, PreparedByCount, existing, first_line
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import METADATA_KEY, ExportInfo

Precision = Literal["float32", "bf16", "fp16"]
_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}
_cores: list[Any] = []
_cores_lock = Lock()


def shared_core() -> Any:
    """OpenVINO's core, the same one for all models of this process and until it ends.

    A core that loads its CPU plugin gives the thread another stack for signal handlers, and the former one back when it
    is freed. Of two cores that are freed in the order of their making, the second gives back one that is gone, and
    the next signal with a handler, such as Ctrl-C, kills the process (seen in OpenVINO 2026.4).
    """
    import openvino

    with _cores_lock:
        if not _cores:
            core = openvino.Core()
            core.set_property({"ENABLE_MMAP": False})  # a model that is read must not change with its file
            _cores.append(core)
        return _cores[0]


class OpenVinoPredictor(ExportedPredictor):
    """An exported .xml file and the .bin beside it, or an exported .onnx file, in OpenVINO.

    Args:
        path: the .xml or .onnx file.
        source: what to call it; the path by default.
        precision: of the arithmetic; float32 gives the results of PyTorch.
        threads: maximum number of threads of the runtime; its own choice (all cores) by default.

    Raises:
        ConfigError: unknown precision.
        MissingExtraError: OpenVINO is not installed.
        CheckpointError: not an OpenVINO file, or not one made by protomask.

    """

    def __init__(
        self,
        path: str | Path,
        *,
        source: str | None = None,
        precision: Precision = "float32",
        threads: int | None = None,
    ) -> None:
        try:
            core = shared_core()
        except ImportError as error:
            raise MissingExtraError(
                f"{path}: running it in OpenVINO needs the package: pip install 'protomask[openvino]'"
            ) from error
        if precision not in tuple(_HINTS):
            raise ConfigError(f"precision: expected one of {', '.join(_HINTS)}, got {precision!r}")
        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            hints["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(existing(path))
            entries = _entries(model, Path(path))
            info = ExportInfo.from_json(entries.get(METADATA_KEY), str(path))
            single = model.clone()
            if info.given_size is not None:
                single.reshape([1, 3, *info.given_size])  # what depends on it is worked out now
            self._compiled = PreparedByCount(
                core.compile_model(single, "CPU", hints),
                partial(core.compile_model, model, "CPU", hints) if info.takes_batches else None,
            )
        except RuntimeError as error:
            raise CheckpointError(f"{path}: OpenVINO cannot read it: {first_line(error)}") from error
        inputs = [
            FileInput(
                given.any_name,
                str(np.dtype(given.element_type.to_dtype())),
                tuple(None if size.is_dynamic else size.get_length() for size in given.partial_shape),
            )
            for given in model.inputs
        ]
        super().__init__(
            info, source or str(path), inputs=inputs, outputs=[output.any_name for output in model.outputs],
            golden=entries.get(GOLDEN_KEY),
            arguments={"path": Path(path).absolute(), "precision": precision, "threads": threads},
        )  # fmt: skip
        self._requests = local()

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`; the arrays are those of the next call of the same thread, too."""
        requests = self._requests.__dict__  # of this thread
        try:
            compiled = self._compiled.to_run(len(images))
            if compiled not in requests:
                requests[compiled] = compiled.create_infer_request()
            results = requests[compiled].infer({"image": images}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise CheckpointError(f"{self.source}: OpenVINO cannot run it: {first_line(error)}") from error
        return {output.any_name: results[output] for output in compiled.outputs}


def _entries(model: Any, path: Path) -> dict[str, str]:
    """What a file says of itself."""
    if path.suffix == ".onnx":
        from protomask.runtimes.onnx import read_entries

        return read_entries(path)
    keys = (key for key in (METADATA_KEY, GOLDEN_KEY) if model.has_rt_info(key))
    return {key: model.get_rt_info(key).astype(str) for key in keys}
