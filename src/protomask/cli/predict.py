"""`protomask predict`."""

from __future__ import annotations

import sys
from collections.abc import Sized
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

from protomask.detection.options import PredictOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from protomask.inference.predictor import Predictor
    from protomask.inference.sinks.sink import Sink
    from protomask.structures.frame import Frame

EXAMPLE = "protomask predict photos/ --save-dir out --save-jsonl"
POSITIONAL = ("inputs",)


def run(
    inputs: list[str],
    options: PredictOptions,
    *,
    model: str | None = None,
    weights: str | None = None,
    runtime: Literal["auto", "torch", "onnx", "openvino"] = "auto",
    device: str = "auto",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    compile: bool = False,
    save_dir: str = "predictions",
    save_overlay: bool = True,
    overlay_format: Literal["png", "jpg"] = "png",
    color_by: Literal["auto", "class", "instance"] = "auto",
    save_json: bool = False,
    save_jsonl: bool = False,
    save_polygons: bool = False,
    save_label_map: bool = False,
    save_table: Literal["csv", "parquet"] | None = None,
    annotations: str | None = None,
    json: bool = False,
) -> int:
    """Find the instances in images and write what was found.

    Args:
        inputs: images, folders (their images, not those of subfolders), quoted globs such as 'photos/**/*.jpg',
            http(s) addresses, or - for standard input.
        options: what is found.
        model: shipped model, zoo name, weights file or exported file; the shipped default when not given. With
            --weights, the zoo name of the network in that file.
        weights: weights file (.safetensors, or official .pth).
        runtime: what runs the network; auto takes ONNX Runtime for shipped models and .onnx files, OpenVINO for .xml
            files, PyTorch for everything else.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        precision: number type of the network's arithmetic; bf16 is faster on processors that know it.
        compile: translate the network first, which takes a minute and pays in long runs.
        save_dir: folder to write to.
        save_overlay: write each image with masks, boxes, classes and scores drawn on it.
        overlay_format: file type of the overlays; jpg is smaller.
        color_by: what a colour stands for; auto is class where the model knows more than one.
        save_json: write predictions.json (COCO results) and images.json.
        save_jsonl: write predictions.jsonl, one line per image as it finishes.
        save_polygons: write polygons/NAME.geojson, exact outlines with holes.
        save_label_map: write label_maps/NAME.png, 16 bit, pixel = number of the instance.
        save_table: write predictions.csv or predictions.parquet, one row per instance with class, score, box, area and
            perimeter.
        annotations: COCO annotation file whose image and category ids the COCO results shall use.
        json: print one JSON summary instead of text.
    """
    from pathlib import Path

    from protomask.api import load
    from protomask.cli.output import counts_by_class, dump_json, progress
    from protomask.files import locked_folder
    from protomask.inference.pipeline import map_ahead, predict_frames
    from protomask.inference.sinks.pictures import LabelMapSink, OverlaySink, PolygonSink
    from protomask.inference.sinks.sink import Sinks, make_folder
    from protomask.inference.sources import open_source

    source = open_source(inputs)
    predictor = load(
        weights or model, runtime=runtime, model=model if weights else None, device=device, precision=precision,
        compile=compile,
    )  # fmt: skip
    folder = Path(save_dir)

    def sinks() -> Iterator[Sink]:
        if save_overlay:
            yield OverlaySink(folder, format=overlay_format, color_by=color_by)
        if save_polygons:
            yield PolygonSink(folder / "polygons")
        if save_label_map:
            yield LabelMapSink(folder / "label_maps")
        # Last, so that what they list is there.
        yield from _lists(
            folder, predictor, annotations, save_json=save_json, save_jsonl=save_jsonl, save_table=save_table
        )

    total = len(source) if isinstance(source, Sized) else None
    summary: list[dict[str, Any]] = []
    failed = 0
    make_folder(folder)
    with (
        locked_folder(folder, "save_dir"),
        Sinks(list(sinks())) as sink,
        progress("predict", total, quiet=json) as bar,
        closing(predict_frames(predictor, source, options)) as predicted,
        closing(map_ahead(lambda frame: _write(sink, frame), predicted)) as written,
    ):
        for frame, files in written:
            if frame.error is not None or frame.found is None:
                failed += 1
                bar.message(f"error: {frame.error}", to_stderr=True)
                summary.append({"file": frame.source, "error": str(frame.error)})
            else:
                height, width = frame.found.image_size
                bar.message(f"{frame.source}: {width}x{height}, found {counts_by_class(frame.found)}")
                summary.append(
                    {"file": frame.source, "instances": len(frame.found), "written": [str(file) for file in files]}
                )
            bar.advance()
    if json:
        dump_json({"save_dir": save_dir, "images": summary, "failed": failed})
    else:
        print(f"{len(summary) - failed} of {len(summary)} images predicted; results in {save_dir}")
        if failed:
            print(f"{failed} of {len(summary)} images failed, see above", file=sys.stderr)
    return 1 if failed else 0


def _lists(
    folder: Path,
    predictor: Predictor,
    annotations: str | None,
    *,
    save_json: bool,
    save_jsonl: bool,
    save_table: Literal["csv", "parquet"] | None,
) -> list[Sink]:
    """The sinks that write one file about all images."""
    from protomask.inference.sinks.lists import CocoSink, JsonLinesSink, TableSink
    from protomask.structures.coco_json import read_coco_ids

    sinks: list[Sink] = []
    image_ids, category_ids = read_coco_ids(annotations, predictor.class_names) if annotations else (None, None)
    if save_json:
        sinks.append(CocoSink(folder, image_ids=image_ids, category_ids=category_ids))
    if save_jsonl:
        sinks.append(JsonLinesSink(folder))
    if save_table is not None:
        sinks.append(TableSink(folder, save_table))
    return sinks


def _write(sink: Sink, frame: Frame) -> tuple[Frame, list[Path]]:
    """Write one frame; one whose data do not allow it is given back with the error."""
    from protomask.errors import DataError

    if frame.error is not None:
        return frame, []
    try:
        return frame, sink.write(frame)
    except DataError as error:
        return frame.replace(error=error), []
