"""Exported .onnx files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from protomask.errors import CheckpointError
from protomask.runtimes.exported import ExportedPredictor, FileInput, Outputs, PreparedByCount, existing, first_line
from protomask.runtimes.golden import GOLDEN_KEY
from protomask.runtimes.info import BATCH_AXIS, METADATA_KEY, ExportInfo


class OnnxPredictor(ExportedPredictor):
    """An exported .onnx file in ONNX Runtime.

    Args:
        path: the file.
        source: what to call it; the path by default.
        threads: maximum number of threads of the runtime; its own choice (all cores) by default.

    Raises:
        CheckpointError: not an ONNX file, or not one made by protomask.

    """

    def __init__(self, path: str | Path, *, source: str | None = None, threads: int | None = None) -> None:
        try:
            content = existing(path).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error

        def prepare(**sizes: int) -> onnxruntime.InferenceSession:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or 0
            for name, size in sizes.items():
                options.add_free_dimension_override_by_name(name, size)
            return _session(path, options, content)

        session = prepare(**{BATCH_AXIS: 1})
        info = _info(session, path)
        self._sessions = PreparedByCount(session, prepare if info.takes_batches else None)
        self._names = [output.name for output in session.get_outputs()]
        inputs = [
            FileInput(
                given.name,
                given.type.removeprefix("tensor(").removesuffix(")"),
                tuple(size if isinstance(size, int) else None for size in given.shape or ()),
            )
            for given in session.get_inputs()
        ]
        super().__init__(
            info, source or str(path),
            inputs=inputs, outputs=self._names, golden=_entries(session).get(GOLDEN_KEY),
            arguments={"path": Path(path).absolute(), "threads": threads},
        )  # fmt: skip

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """See `ExportedPredictor.run`."""
        session = self._sessions.to_run(len(images))
        try:
            values = session.run(self._names, {"image": images})
        except Exception as error:  # the runtime's own errors share no class but Exception
            raise CheckpointError(f"{self.source}: ONNX Runtime cannot run it: {first_line(error)}") from error
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}


def read_info(path: str | Path) -> ExportInfo:
    """What an exported .onnx file says of itself, without preparing it to run.

    Raises:
        CheckpointError: not an ONNX file, or not one made by protomask.

    """
    return ExportInfo.from_json(read_entries(path).get(METADATA_KEY), str(path))


def read_entries(path: str | Path) -> dict[str, str]:
    """The metadata of an .onnx file, without preparing it to run.

    Raises:
        CheckpointError: not an ONNX file.

    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return _entries(_session(path, options))


def _session(
    path: str | Path, options: onnxruntime.SessionOptions, content: bytes | None = None
) -> onnxruntime.InferenceSession:
    """A session of a file, or of its ``content`` where that is read already."""
    options.log_severity_level = 3
    model = existing(path) if content is None else content
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors share no class but Exception
        raise CheckpointError(f"{path}: ONNX Runtime cannot read it: {first_line(error)}") from error


def _info(session: onnxruntime.InferenceSession, path: str | Path) -> ExportInfo:
    return ExportInfo.from_json(_entries(session).get(METADATA_KEY), str(path))


def _entries(session: onnxruntime.InferenceSession) -> dict[str, str]:
    return dict(session.get_modelmeta().custom_metadata_map)
