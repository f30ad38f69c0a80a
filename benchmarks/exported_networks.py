"""How long exported files take for one image, in turns: networks alone, ours and those of others.

The files are .onnx for ONNX Runtime, and .xml for OpenVINO, which also has a choice of its own: bfloat16 where the CPU
has it. Each gets one image of noise; a number of images that a file leaves open is settled as one.

example:
  python benchmarks/exported_networks.py runs/peers/*/candidates.* runs/peers/*/train/weights/last.onnx --threads 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino

from measuring import argument_parser, milliseconds, report


def onnx_runtime(file: Path, threads: int, side: int) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_free_dimension_override_by_name("batch", 1)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    image = noise(given.type.removeprefix("tensor(").removesuffix(")"), side)
    return lambda: session.run(None, {given.name: image})


def open_vino(file: Path, threads: int, side: int, precision: str | None) -> Callable[[], Any]:
    core = openvino.Core()
    model = core.read_model(file)
    model.reshape([1, 3, side, side])
    how: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision is not None:
        how["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(model, "CPU", how).create_infer_request()
    image = noise(str(np.dtype(model.inputs[0].element_type.to_dtype())), side)
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


def noise(kind: str, side: int) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, side, side))
    return pixels.astype(np.uint8) if kind == "uint8" else (pixels / 255).astype(np.float32)


def main() -> None:
    parser = argument_parser(__doc__, rounds=50)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".onnx or .xml")
    parser.add_argument("--image-size", type=int, default=384, help="side of the input")
    options = parser.parse_args()
    candidates: dict[tuple[Path, str], Callable[[], Any]] = {}
    for file in options.files:
        asked = file, options.threads, options.image_size
        if file.suffix == ".onnx":
            candidates[file, "ONNX Runtime"] = onnx_runtime(*asked)
        else:
            candidates[file, "OpenVINO"] = open_vino(*asked, None)
            candidates[file, "OpenVINO, float32"] = open_vino(*asked, "f32")
    names = {f"{file} {runtime}": run for (file, runtime), run in candidates.items()}
    spent = milliseconds(names, rounds=options.rounds)
    rows = [{"runtime": runtime, "ms": spent[f"{file} {runtime}"], "file": str(file)} for file, runtime in candidates]
    rows.sort(key=lambda row: (row["runtime"], row["ms"]))
    report(f"{options.image_size} px, {options.threads} threads, networks alone", rows, json_file=options.json)


if __name__ == "__main__":
    main()
