"""`protomask track`."""

from __future__ import annotations

from typing import Literal

from protomask.detection.options import PredictOptions
from protomask.inference.painter import PaintOptions
from protomask.inference.sinks.outputs import TrackOutputs
from protomask.inference.tracking.build import TrackerName
from protomask.inference.tracking.options import TrackOptions
from protomask.inference.video.encoding import VideoFileOptions
from protomask.inference.video.options import VideoOptions
from protomask.inference.zones.counter import ZoneOptions

EXAMPLE = "protomask track street.mp4 --save-dir tracked"
POSITIONAL = ("inputs",)
GROUPS = {
    "what matters most": ("model", "weights", "save_dir", "tracker", "zones", "every", "fps", "start", "end", "show"),
    "what is found": (
        "score_threshold", "threshold_for", "classes", "iou_threshold", "max_detections", "nms", "overlap",
        "duplicates", "candidate_threshold", "crop", "crop_margin", "edges",
        "exclusive", "batch_size", "tile", "tile_overlap", "image_size",
    ),
    "how it is followed": (
        "high_score", "low_score", "new_score", "confirm_frames", "lost_seconds", "frame_rate", "min_overlap",
        "class_weight", "grid",
    ),
    "zones": ("enter_share", "leave_share", "side_share", "lost_after"),
    "what is read": ("recursive", "live", "give_up", "raw_size", "raw_format", "input_options"),
    "what is drawn": ("masks", "boxes", "labels", "scores", "trails", "speed", "pixels_per_metre", "opacity"),
    "what is written": (
        "save_overlay", "video_codec", "bit_rate", "keep_audio", "save_jsonl", "save_youtube_vis", "save_table",
        "save_json", "save_polygons", "save_label_map", "save_crops", "save_coco_dataset", "save_labelme", "save_yolo",
        "outline_tolerance", "annotations", "overlay_format", "color_by", "resume",
    ),
    "what runs the network": ("runtime", "device", "precision", "compile"),
}  # fmt: skip


def run(
    inputs: list[str],
    options: PredictOptions,
    tracking: TrackOptions,
    outputs: TrackOutputs,
    video: VideoOptions,
    videos: VideoFileOptions,
    paint: PaintOptions,
    zoning: ZoneOptions,
    *,
    tracker: TrackerName = "mask",
    zones: str | None = None,
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
    """Find the instances in videos and streams, follow them from frame to frame, and write their tracks.

    Args:
        inputs: videos, folders (the videos in them, or the frames of one), quoted globs, addresses, a camera (0), the
            address of a stream (rtsp://...), or - for standard input.
        options: what is found.
        tracking: how it is followed.
        outputs: what is written.
        video: what of videos is read.
        videos: how videos are written.
        paint: what is drawn.
        zoning: when something is inside a zone.
        tracker: what follows the instances; mask compares masks, the others compare boxes.
        zones: GeoJSON or LabelMe file of zones and lines, in pixels; writes events.jsonl, events.csv and zones.json.
        recursive: also take what is in subfolders.
        model: zoo name, weights file, run folder, exported file or hf:// address; the shipped default if not given.
            With --weights, the zoo name of the network in that file.
        weights: file from another codebase that does not say which network it holds; --model then names it.
        runtime: what runs the network; auto takes ONNX Runtime for shipped models and .onnx files, OpenVINO for .xml
            files, PyTorch for everything else.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic; bf16 is faster on processors that support it.
        compile: compile the network first, which takes a minute and pays off in long runs.
        show: show the newest frame on a page of this machine.
        json: print one JSON summary instead of text.
    """
    from protomask.api import load
    from protomask.cli.moving import Job, code_of, print_end, run_job, summary_of
    from protomask.cli.output import dump_json
    from protomask.errors import ConfigError
    from protomask.inference.painter import TrackPainter
    from protomask.inference.predictor import options_for
    from protomask.inference.sources import open_source
    from protomask.inference.tracking.build import build_tracker
    from protomask.inference.zones.counter import ZoneCounter
    from protomask.inference.zones.read import read_regions

    if outputs.resume and zones is not None:
        raise ConfigError("resume: expected a run without zones, whose counts start again in each run")
    regions = () if zones is None else read_regions(zones)
    follower = build_tracker(tracker, **tracking.to_dict())
    source = open_source(inputs, recursive=recursive, video=video, as_video=True)
    predictor = load(
        weights or model, runtime=runtime, model=model if weights else None, device=device, precision=precision,
        compile=compile,
    )  # fmt: skip
    settled = options_for(follower, options)
    predictor.check_options(settled)
    job = Job(
        predictor=predictor, source=source, options=settled, outputs=outputs, videos=videos, tracker=follower,
        zones=ZoneCounter(regions, zoning) if zones is not None else None, draw=TrackPainter(paint, regions).draw,
        preview_port=0 if show else None, quiet=json,
    )  # fmt: skip
    tally = run_job(job)
    if json:
        dump_json(summary_of(tally, outputs.save_dir))
    else:
        print_end(tally, outputs, "tracked")
    return code_of(tally)
