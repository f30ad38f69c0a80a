"""`protomask predict`."""

from __future__ import annotations

import sys
from collections.abc import Sized
from functools import partial
from typing import TYPE_CHECKING, Literal

from protomask.detection.options import PredictOptions
from protomask.inference.sinks.outputs import Outputs
from protomask.inference.video.encoding import VideoFileOptions
from protomask.inference.video.options import VideoOptions

if TYPE_CHECKING:
    from protomask.inference.sources import Source
    from protomask.structures.frame import Frame
    from protomask.structures.overlays import ColorBy

EXAMPLE = "protomask predict photos/ --save-dir out --save-jsonl"
POSITIONAL = ("inputs",)
GROUPS = {
    "what matters most": ("model", "weights", "score_threshold", "threshold_for", "classes", "save_dir", "show"),
    "what is found": (
        "iou_threshold", "max_detections", "nms", "overlap", "duplicates", "candidate_threshold", "crop",
        "crop_margin", "edges", "exclusive", "batch_size", "tile", "tile_overlap", "image_size",
    ),
    "what is written": (
        "save_overlay", "overlay_format", "color_by", "save_json", "annotations", "save_jsonl", "save_polygons",
        "save_label_map", "save_crops", "save_table", "save_coco_dataset", "save_labelme", "save_yolo",
        "outline_tolerance", "json",
    ),
    "videos and streams": (
        "every", "fps", "start", "end", "live", "give_up", "raw_size", "raw_format", "input_options", "video_codec",
        "bit_rate", "keep_audio", "resume",
    ),
    "what runs the network": ("runtime", "device", "precision", "compile"),
}  # fmt: skip


def run(
    inputs: list[str],
    options: PredictOptions,
    outputs: Outputs,
    video: VideoOptions,
    videos: VideoFileOptions,
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
    """Find the instances in images, videos and streams, and write what was found.

    Args:
        inputs: images, videos, folders (what is directly in them), quoted globs such as 'photos/**/*.jpg', http(s)
            addresses, a camera (0), the address of a stream (rtsp://...), or - for standard input.
        options: what is found.
        outputs: what is written.
        video: what of videos is read.
        videos: how videos are written.
        recursive: also take what is in subfolders.
        model: zoo name, weights file, run folder, exported file or hf:// address; the shipped default if not given.
            With --weights, the zoo name of the network in that file.
        weights: file from another codebase that does not say which network it holds; --model then names it.
        runtime: what runs the network; auto takes ONNX Runtime for shipped models and .onnx files, OpenVINO for .xml
            files, PyTorch for everything else.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic; bf16 is faster on processors that support it.
        compile: compile the network first, which takes a minute and pays off in long runs.
        show: open a single image with its results in the system's viewer; for videos and streams, show the newest frame
            on a page of this machine.
        json: print one JSON summary instead of text.
    """
    from protomask.api import load
    from protomask.cli.default_model import DefaultModelNotes
    from protomask.cli.moving import Job, code_of, is_moving, print_end, run_job, summary_of
    from protomask.cli.output import dump_json
    from protomask.files import check_exists
    from protomask.inference.sources import open_source

    source = open_source(inputs, recursive=recursive, video=video)
    if outputs.annotations is not None:
        check_exists(outputs.annotations)
    if show and not is_moving(source):
        _check_one_image(source)
    predictor = load(
        weights or model, runtime=runtime, model=model if weights else None, device=device, precision=precision,
        compile=compile,
    )  # fmt: skip
    notes = DefaultModelNotes(predictor, options) if model is None and weights is None else None
    if notes is not None:
        notes.begin()  # first, because it says which classes the options may name
    predictor.check_options(options)
    tally = run_job(
        Job(
            predictor=predictor, source=source, options=options, outputs=outputs, videos=videos, notes=notes,
            quiet=json, preview_port=0 if show and is_moving(source) else None,
            see=partial(_show, color_by=outputs.color_by) if show else None,
        )
    )  # fmt: skip
    if json:
        dump_json(summary_of(tally, outputs.save_dir))
    else:
        print_end(tally, outputs, "predicted")
    if notes is not None:
        notes.end()
    return code_of(tally)


def _check_one_image(source: Source) -> None:
    """Raises: ConfigError unless the source is one image."""
    from protomask.errors import ConfigError

    count = len(source) if isinstance(source, Sized) else "a stream of images"
    if count != 1:
        raise ConfigError(f"show: expected one image, got {count}")


def _show(frame: Frame, color_by: ColorBy) -> None:
    """Open a still image in the system's viewer, or say why it cannot be shown."""
    from protomask.errors import ConfigError

    if frame.found is None or frame.time is not None:
        return
    try:
        frame.found.show(frame.image, color_by=color_by)
    except ConfigError as error:
        print(f"note: {error}", file=sys.stderr)
