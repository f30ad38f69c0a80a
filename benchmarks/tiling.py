"""Large pictures whole and in tiles: AP and time on mosaics of validation scenes, enlarged if asked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from measuring import argument_parser, positive, report
from protomask import PredictOptions, Predictor, load
from protomask.data.coco.dataset import CocoDataset
from protomask.evaluation.coco import CocoEvaluator
from protomask.evaluation.evaluate import open_split, predict_dataset
from protomask.images.decode import Pixels
from protomask.masks.rle import encode_rle
from protomask.masks.runs import boxes_of_masks


def mosaics(
    scenes: CocoDataset, rows: int, columns: int, scale: float
) -> Iterator[tuple[Pixels, NDArray[np.bool_], list[int]]]:
    """Image (H, W, 3) uint8, masks (N, H, W) and N labels of one mosaic after another.

    All scenes have one size.
    """
    for start in range(0, len(scenes) - rows * columns + 1, rows * columns):
        parts = [scenes[start + place] for place in range(rows * columns)]
        height, width = (round(side * scale) for side in parts[0][0].shape[1:])
        image = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
        masks: list[NDArray[np.bool_]] = []
        labels: list[int] = []
        for place, (pixels, target) in enumerate(parts):
            top, left = place // columns * height, place % columns * width
            window = np.s_[top : top + height, left : left + width]
            image[window] = resized(pixels, (height, width)).round().byte().permute(1, 2, 0).numpy()
            for mask in resized(target.masks, (height, width)) > 0.5:
                masks.append(np.zeros(image.shape[:2], dtype=np.bool_))
                masks[-1][window] = mask.numpy()
            labels += target.labels.tolist()
        yield image, np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), dtype=np.bool_), labels


def resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) of any type to float of another size."""
    if not len(pixels):
        return torch.zeros(0, *size)
    if tuple(pixels.shape[1:]) == size:
        return pixels.float()
    return torch.nn.functional.interpolate(pixels[None].float(), size, mode="bilinear", align_corners=False)[0]


def write_mosaics(scenes: CocoDataset, folder: Path, rows: int, columns: int, scale: float) -> CocoDataset:
    """The mosaics as a data set of their own."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, masks, labels) in enumerate(mosaics(scenes, rows, columns, scale), start=1):
        name = f"{number}.png"
        Image.fromarray(image).save(folder / name, compress_level=1)
        images.append({"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
        boxes = boxes_of_masks(masks)
        for rle, (x1, y1, x2, y2), label in zip(encode_rle(masks), boxes.tolist(), labels, strict=True):
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": rle,
            })  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(scenes.class_names, start=1)]
    file = folder / "val.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return CocoDataset(file, folder)


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--data", default="shapes", help="folder of `protomask data synth`, or another of equal sizes")
    parser.add_argument("--model", default="yolact_nano")
    parser.add_argument("--images", type=positive, default=120, help="scenes of the validation split")
    parser.add_argument("--mosaic", type=positive, nargs=2, default=(3, 4), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--scale", type=float, default=1.0, help="enlarge the scenes")
    parser.add_argument("--tiles", type=positive, nargs="+", default=[256, 384])
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.0, 0.25, 0.5])
    parser.add_argument("--max-detections", type=positive, default=400)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scenes = open_split(options.data, limit=options.images)
    predictor = load(options.model, threads=options.threads)
    whole = PredictOptions(max_detections=options.max_detections)
    ways = {"whole": whole}
    for size in options.tiles:
        for part in options.overlaps:
            ways[f"tile {size}, overlap {part:g}"] = whole.replace(tile=size, tile_overlap=part)
    rows, columns = options.mosaic
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_mosaics(scenes, Path(folder), rows, columns, options.scale)
        table = [measured(name, predictor, dataset, way) for name, way in ways.items()]
        table.append(measured("scene by scene", predictor, scenes, whole))
    height, width = dataset.image_size(0)
    report(f"{options.model} on {len(dataset)} mosaics of {width}x{height}", table, json_file=options.json)


def measured(name: str, predictor: Predictor, dataset: CocoDataset, options: PredictOptions) -> dict[str, Any]:
    limit = options.max_detections or 100
    evaluator = CocoEvaluator(dataset.annotation_file, category_ids=dataset.category_ids, max_detections=limit)
    started = perf_counter()
    predict_dataset(predictor, dataset, evaluator, options=options)
    seconds = (perf_counter() - started) / len(dataset)
    tables = evaluator.evaluate(seen_only=True).tables
    columns = {
        f"{kind} {metric}": f"{getattr(tables[kind], metric) or 0.0:.3f}"
        for kind in ("mask", "box")
        for metric in ("AP", "AP50", "AP75")
    }
    return {"way": name, **columns, "seconds": seconds}


if __name__ == "__main__":
    main()
