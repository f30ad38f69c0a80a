"""Weights and exported files with another calibration of their scores; everything else in them stays as it is."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path

from protomask.checkpoints.io import save_weights, write_calibration
from protomask.checkpoints.sources import load_network
from protomask.detection.calibration import Calibration
from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.files import check_writable, replacing
from protomask.models.naming import ModelSource, find_model
from protomask.runtimes.info import METADATA_KEY, ExportInfo
from protomask.runtimes.shipped import SHIPPED, shipped_file


def check_output(source: str | Path, output: Path) -> None:
    """See that `write_calibrated` will be able to write.

    Raises:
        ConfigError: the output is of a different kind from the model, or nothing can be written there.
        MissingExtraError: an .onnx file, and the package that writes it is not installed.

    """
    found = find_model(source)
    is_onnx = found.kind == "exported" and Path(found.name).suffix == ".onnx"
    if found.kind == "exported" and not is_onnx:
        raise ConfigError(
            f"model: expected weights or an .onnx file to calibrate, got {found.name}; calibrate the weights, and "
            "export them again"
        )
    endings = [".onnx"] if is_onnx else [".safetensors", *([".onnx"] if found.name in SHIPPED else [])]
    if output.suffix not in endings:
        raise ConfigError(f"output: expected a file name ending in {' or '.join(endings)}, got {output}")
    if output.suffix == ".onnx":
        try:
            import onnx  # noqa: F401 - what writes it
        except ImportError as error:
            raise MissingExtraError(
                "writing an .onnx file needs more packages: pip install 'protomask[onnx]'"
            ) from error
    check_writable(output, "output")


def write_calibrated(source: str | Path, output: Path, calibration: Calibration) -> None:
    """Write the model of a source with a calibration.

    Args:
        source: what `protomask.load` takes.
        output: .safetensors file of weights, or .onnx file of an exported file or a shipped model.
        calibration: of its scores.

    Raises:
        CheckpointError: the source cannot be read, or the output not be written.

    """
    found = find_model(source).fetched()
    if output.suffix != ".onnx":
        _write_weights(found, output, calibration)
    elif found.name in SHIPPED:
        with shipped_file(found.name) as path:
            _write_onnx(path, output, calibration)
    elif found.path is not None:
        _write_onnx(found.path, output, calibration)


def _write_weights(found: ModelSource, output: Path, calibration: Calibration) -> None:
    if found.packaged is not None:
        with as_file(files("protomask") / "weights" / found.packaged) as path:
            write_calibration(path, output, calibration)
    elif found.kind == "own" and found.path is not None:
        write_calibration(found.path, output, calibration)
    else:
        network = load_network(found)
        network.calibration = calibration
        save_weights(network, output, provenance={"converted_from": found.name})


def _write_onnx(path: Path, output: Path, calibration: Calibration) -> None:
    import onnx

    model = onnx.load(path)
    entries = {entry.key: entry for entry in model.metadata_props}
    text = entries[METADATA_KEY].value if METADATA_KEY in entries else None
    ExportInfo.from_json(text, str(path))  # it must be one of ours
    said = json.loads(entries[METADATA_KEY].value)
    entries[METADATA_KEY].value = json.dumps({**said, "calibration": calibration.to_dict()})
    with replacing(output, error=CheckpointError) as file:
        file.write(model.SerializeToString())
