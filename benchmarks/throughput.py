"""A folder of JPEGs to overlays and COCO results: all in turn, against decoding and writing beside the network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from protomask.inference.output import PredictionWriter

import protomask
from measuring import argument_parser, milliseconds, positive, report
from protomask.images.decode import read_image
from protomask.inference.pipeline import FilePrediction, map_ahead, predict_files
from protomask.inference.sources import iter_image_paths


def make_folder(folder: Path, images: int, size: tuple[int, int]) -> list[Path]:
    """The sample scenes of the package, enlarged and each a little different."""
    scenes = iter_image_paths([Path(protomask.__file__).parent / "samples"])
    rng = np.random.default_rng(0)
    for number in range(images):
        with Image.open(scenes[number % len(scenes)]) as scene:
            pixels = np.asarray(scene.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + rng.integers(-6, 7, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=92)
    return iter_image_paths([folder])


def in_turn(predictor, paths) -> Iterator[FilePrediction]:
    for path in paths:
        image = read_image(path)
        yield FilePrediction(path, image, predictor.predict_images([image], score_threshold=0.3)[0], None)


def write_all(found, save_dir: Path, overlay_format: str, *, beside: bool) -> None:
    with PredictionWriter(save_dir, coco_json=True, jsonl=True, overlay_format=overlay_format) as writer:

        def write(one: FilePrediction) -> None:
            writer.write(one.path, one.image, one.found)

        with closing(found), closing(map_ahead(write, found) if beside else (write(one) for one in found)) as written:
            for _ in written:
                pass


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--images", type=positive, default=40, help="in the folder")
    parser.add_argument("--size", type=positive, nargs=2, default=(960, 1280), metavar=("H", "W"), help="of each")
    parser.add_argument("--decoders", type=positive, nargs="+", default=[1, 2], help="threads that decode")
    parser.add_argument("--overlay-format", choices=("png", "jpg"), default="png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = protomask.load(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        pictures, results = Path(folder) / "pictures", Path(folder) / "results"
        pictures.mkdir()
        paths = make_folder(pictures, options.images, tuple(options.size))

        def side_by_side(decoders: int) -> None:
            found = predict_files(predictor, paths, decoders=decoders, score_threshold=0.3)
            write_all(found, results, options.overlay_format, beside=True)

        def sequential() -> None:
            write_all(in_turn(predictor, paths), results, options.overlay_format, beside=False)

        candidates = {"in turn": sequential} | {
            f"side by side, {count} decoding": lambda count=count: side_by_side(count) for count in options.decoders
        }
        times = milliseconds(candidates, rounds=options.rounds)
    rows = [
        {
            "way": way,
            "ms per image": spent / options.images,
            "images per s": 1000 * options.images / spent,
            "ratio": times["in turn"] / spent,
        }
        for way, spent in times.items()
    ]
    height, width = options.size
    report(
        f"{options.images} JPEGs of {width}x{height} to {options.overlay_format} overlays and JSON, {predictor.source}",
        rows,
        json_file=options.json,
    )


if __name__ == "__main__":
    main()
