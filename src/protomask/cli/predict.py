"""`protomask predict`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = "protomask predict photos/ --save-dir out --save-jsonl"
POSITIONAL = ("inputs",)


def run(
    inputs: list[str],
    *,
    model: str | None = None,
    weights: str | None = None,
    save_dir: str = "predictions",
    score_threshold: float = 0.3,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    nms: Literal["fast", "cross_class_fast", "batched", "soft_linear", "soft_gaussian"] | None = None,
    candidate_threshold: float | None = None,
    batch_size: int = 1,
    tile: int | None = None,
    tile_overlap: float = 0.25,
    device: str = "auto",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    compile: bool = False,
    save_overlay: bool = True,
    overlay_format: Literal["png", "jpg"] = "png",
    color_by: Literal["auto", "class", "instance"] = "auto",
    save_json: bool = False,
    save_jsonl: bool = False,
    save_polygons: bool = False,
    save_label_map: bool = False,
    annotations: str | None = None,
    json: bool = False,
) -> int:
    """Find the instances in images and write what was found.

    Args:
        inputs: images, folders (their images, not those of subfolders) or quoted globs such as 'photos/**/*.jpg'.
        model: zoo name or weights file; the model that ships with the package by default. With --weights, the zoo name
            of the network in that file.
        weights: weights file (.safetensors, or official .pth).
        save_dir: folder to write to.
        score_threshold: show only what scores above this.
        iou_threshold: overlap above which NMS suppresses; the model's own by default.
        max_detections: at most so many instances per image; the model's own by default.
        nms: kind of non-maximum suppression; the model's own by default.
        candidate_threshold: anchors below this class score are not looked at; the model's own by default.
        batch_size: images, or tiles, that go through the network together.
        tile: cut images into tiles with sides of so many pixels, for small objects in large images; not by default.
        tile_overlap: of neighbouring tiles at least, below 1 a part of the tile, from 1 on pixels; objects up to this
            size are seen whole by some tile.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: of the network's arithmetic; bf16 is faster on processors that know it.
        compile: translate the network first, which takes a minute and pays in long runs.
        save_overlay: write each image with masks, boxes, classes and scores drawn on it.
        overlay_format: file type of the overlays; jpg is smaller.
        color_by: what a colour stands for; auto is class where the model knows more than one.
        save_json: write predictions.json (COCO results) and images.json.
        save_jsonl: write predictions.jsonl, one line per image as it finishes.
        save_polygons: write polygons/NAME.geojson, exact outlines with holes.
        save_label_map: write label_maps/NAME.png, 16 bit, pixel = number of the instance.
        annotations: COCO annotation file whose image and category ids the COCO results shall use.
        json: print one JSON summary instead of text.
    """
    from contextlib import closing

    from protomask.cli.output import counts_by_class, dump_json, progress
    from protomask.errors import ConfigError, DataError
    from protomask.inference.output import PredictionWriter, read_coco_ids
    from protomask.inference.pipeline import FilePrediction, map_ahead, predict_files
    from protomask.inference.predictor import load
    from protomask.inference.sources import iter_image_paths
    from protomask.inference.tiling import Tiling

    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    tiling = None if tile is None else Tiling(size=tile, overlap=tile_overlap, batch_size=batch_size)
    paths = iter_image_paths(inputs)
    predictor = load(
        weights or model, model=model if weights else None, device=device, precision=precision, compile=compile
    )
    image_ids, category_ids = read_coco_ids(annotations, predictor.class_names) if annotations else (None, None)
    options: dict[str, Any] = {
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
        "nms": nms,
        "candidate_threshold": candidate_threshold,
        "tiling": tiling,
    }
    summary: list[dict[str, Any]] = []
    failed = 0

    def write(one: FilePrediction) -> tuple[FilePrediction, list[Path], DataError | None]:
        if one.image is None or one.found is None:
            return one, [], one.error
        try:
            return one, writer.write(one.path, one.image, one.found), None
        except DataError as error:
            return one, [], error

    with (
        PredictionWriter(
            save_dir,
            overlay=save_overlay,
            coco_json=save_json,
            jsonl=save_jsonl,
            polygons=save_polygons,
            label_map=save_label_map,
            overlay_format=overlay_format,
            draw_options={"color_by": color_by},
            image_ids=image_ids,
            category_ids=category_ids,
        ) as writer,
        progress("predict", len(paths), quiet=json) as bar,
        closing(predict_files(predictor, paths, batch_size=batch_size, **options)) as predictions,
        closing(map_ahead(write, predictions)) as written,
    ):
        for (path, _, found, _), files, problem in written:
            if problem is not None or found is None:
                failed += 1
                bar.message(f"error: {problem}", to_stderr=True)
                summary.append({"file": str(path), "error": str(problem)})
            else:
                height, width = found.image_size
                bar.message(f"{path}: {width}x{height}, found {counts_by_class(found)}")
                summary.append({"file": str(path), "instances": len(found), "written": [str(file) for file in files]})
            bar.advance()
    if json:
        dump_json({"save_dir": save_dir, "images": summary, "failed": failed})
    else:
        done = len(paths) - failed
        print(f"{done} of {len(paths)} images predicted; results in {save_dir}")
        if failed:
            print(f"{failed} of {len(paths)} images failed, see above", file=sys.stderr)
    return 1 if failed else 0
