"""A folder of JPEGs to overlays and COCO results: all in turn, against decoding and writing beside the network."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

import protomask
from measuring import argument_parser, milliseconds, positive, report
from protomask import Frame, PredictOptions, Predictor
from protomask.inference.paths import iter_image_paths
from protomask.inference.pipeline import map_ahead, predict_frames
from protomask.inference.sinks.lists import CocoSink, JsonLinesSink
from protomask.inference.sinks.pictures import OverlaySink
from protomask.inference.sinks.sink import Sinks
from protomask.inference.sources import StillImages
from protomask.runtimes.shipped import SAMPLES

OPTIONS = PredictOptions(score_threshold=0.3)


def make_folder(folder: Path, images: int, size: tuple[int, int]) -> list[Path]:
    """The sample scenes of the package, enlarged and each a little different."""
    scenes = iter_image_paths([SAMPLES])
    rng = np.random.default_rng(0)
    for number in range(images):
        with Image.open(scenes[number % len(scenes)]) as scene:
            pixels = np.asarray(scene.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int16)
        pixels = (pixels + rng.integers(-6, 7, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=92)
    return iter_image_paths([folder])


def in_turn(predictor: Predictor, frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    for frame in frames:
        [found] = predictor.predict_images([frame.image], OPTIONS)
        yield frame.replace(found=found)


def write_all(
    predicted: Generator[Frame, None, None], folder: Path, overlay_format: Literal["png", "jpg"], *, beside: bool
) -> None:
    with Sinks([OverlaySink(folder, format=overlay_format), CocoSink(folder), JsonLinesSink(folder)]) as sink:
        written = map_ahead(sink.write, predicted) if beside else (sink.write(frame) for frame in predicted)
        with closing(predicted), closing(written):
            for _ in written:
                pass


def main() -> None:
    parser = argument_parser(__doc__, rounds=5)
    parser.add_argument("--images", type=positive, default=40, help="in the folder")
    parser.add_argument("--size", type=positive, nargs=2, default=(960, 1280), metavar=("H", "W"), help="of each")
    parser.add_argument("--decoders", type=positive, nargs="+", default=[1, 2], help="threads that decode")
    parser.add_argument("--runtime", choices=("auto", "torch", "onnx", "openvino"), default="auto", help="of the model")
    parser.add_argument("--overlay-format", choices=("png", "jpg"), default="png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = protomask.load(device="cpu", runtime=options.runtime, threads=options.threads)
    with tempfile.TemporaryDirectory() as folder:
        pictures, results = Path(folder) / "pictures", Path(folder) / "results"
        pictures.mkdir()
        frames = StillImages(make_folder(pictures, options.images, tuple(options.size)))

        def side_by_side(decoders: int) -> None:
            predicted = predict_frames(predictor, frames, OPTIONS, decoders=decoders)
            write_all(predicted, results, options.overlay_format, beside=True)

        def sequential() -> None:
            write_all(in_turn(predictor, frames), results, options.overlay_format, beside=False)

        candidates = {"in turn": sequential} | {
            f"side by side, {count} decoding": partial(side_by_side, count) for count in options.decoders
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
