"""`protomask predict`."""

from __future__ import annotations

import sys
from collections.abc import Sized
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from protomask.detection.options import PredictOptions
from protomask.inference.sinks.outputs import Outputs

if TYPE_CHECKING:
    from protomask.cli.default_model import DefaultModelNotes
    from protomask.inference.predictor import Predictor
    from protomask.inference.sinks.sink import Sink
    from protomask.inference.sources import Source
    from protomask.structures.frame import Frame
    from protomask.structures.overlays import ColorBy

EXAMPLE = "protomask predict photos/ --save-dir out --save-jsonl"
POSITIONAL = ("inputs",)


def run(
    inputs: list[str],
    options: PredictOptions,
    outputs: Outputs,
    *,
    recursive: bool = False,
    model: str | None = None,
    weights: str | None = None,
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    device: str = "auto",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    compile: bool = False,
    show: bool = False,
    json: bool = False,
) -> int:
    """Find the instances in images and write what was found.

    Args:
        inputs: images, folders (their images, not those of subfolders), quoted globs such as 'photos/**/*.jpg',
            http(s) addresses, or - for standard input.
        options: what is found.
        outputs: what is written.
        recursive: take the images in subfolders of the folders, too.
        model: shipped model, zoo name, weights file or exported file; the shipped default when not given. With
            --weights, the zoo name of the network in that file.
        weights: weights file (.safetensors, or official .pth).
        runtime: what runs the network; auto takes ONNX Runtime for shipped models and .onnx files, OpenVINO for .xml
            files, PyTorch for everything else.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic; bf16 is faster on processors that know it.
        compile: translate the network first, which takes a minute and pays in long runs.
        show: open the image with what was found in the system's viewer; for one image.
        json: print one JSON summary instead of text.
    """
    from protomask.api import load
    from protomask.cli.default_model import DefaultModelNotes
    from protomask.cli.output import dump_json
    from protomask.inference.sources import open_source

    source = open_source(inputs, recursive=recursive)
    if show:
        _check_one_image(source)
    predictor = load(
        weights or model, runtime=runtime, model=model if weights else None, device=device, precision=precision,
        compile=compile,
    )  # fmt: skip
    predictor.check_options(options)
    notes = DefaultModelNotes(predictor, options) if model is None and weights is None else None
    if notes is not None:
        notes.begin()
    summary = _predict(predictor, source, options, outputs, notes=notes, show=show, quiet=json)
    failed = sum("error" in one for one in summary)
    if json:
        dump_json({"save_dir": outputs.save_dir, "images": summary, "failed": failed})
    else:
        print(f"{len(summary) - failed} of {len(summary)} images predicted; results in {outputs.save_dir}")
        if failed:
            print(f"{failed} of {len(summary)} images failed, see above", file=sys.stderr)
    if notes is not None:
        notes.end()
    return 1 if failed else 0


def _predict(
    predictor: Predictor,
    source: Source,
    options: PredictOptions,
    outputs: Outputs,
    *,
    notes: DefaultModelNotes | None,
    show: bool,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Predict and write all frames; says of each what was found and written, or the error."""
    from protomask.cli.output import progress
    from protomask.files import locked_folder
    from protomask.inference.pipeline import map_ahead, predict_frames
    from protomask.inference.sinks.sink import make_folder

    summary: list[dict[str, Any]] = []
    with (
        locked_folder(make_folder(Path(outputs.save_dir)), "save_dir"),
        outputs.open(predictor.class_names, options.classes) as sink,
        progress("predict", len(source) if isinstance(source, Sized) else None, quiet=quiet) as bar,
        closing(predict_frames(predictor, source, options)) as predicted,
        closing(map_ahead(lambda frame: _write(sink, frame), predicted)) as written,
    ):
        for frame, files in written:
            if frame.error is not None or frame.found is None:
                bar.message(f"error: {frame.error}", to_stderr=True)
                summary.append({"file": frame.source, "error": str(frame.error)})
            else:
                bar.message(_line(frame))
                if notes is not None:
                    notes.see(frame)
                if show:
                    _show(frame, outputs.color_by)
                summary.append(
                    {"file": frame.source, "instances": len(frame.found), "written": [str(file) for file in files]}
                )
            bar.advance()
    return summary


def _check_one_image(source: Source) -> None:
    """Raises: ConfigError unless the source is one image."""
    from protomask.errors import ConfigError

    count = len(source) if isinstance(source, Sized) else "a stream of images"
    if count != 1:
        raise ConfigError(f"show: expected one image, got {count}")


def _show(frame: Frame, color_by: ColorBy) -> None:
    """Open a frame in the system's viewer, or say why it cannot be shown."""
    from protomask.errors import ConfigError

    assert frame.found is not None
    try:
        frame.found.show(frame.image, color_by=color_by)
    except ConfigError as error:
        print(f"note: {error}", file=sys.stderr)


def _line(frame: Frame) -> str:
    """What was found in a frame."""
    from protomask.cli.output import counts_by_class

    assert frame.found is not None
    height, width = frame.found.image_size
    return f"{frame.source}: {width}x{height}, found {counts_by_class(frame.found)}"


def _write(sink: Sink, frame: Frame) -> tuple[Frame, list[Path]]:
    """Write one frame; one whose data do not allow it is given back with the error."""
    from protomask.errors import DataError

    if frame.error is not None:
        return frame, []
    try:
        return frame, sink.write(frame)
    except DataError as error:
        return frame.replace(error=error), []
