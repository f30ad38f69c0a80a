"""How many frames of a 1280x720 H.264 video are predicted and written in a second, and what each stage takes.

    python benchmarks/video.py                                       yolact_nano in ONNX Runtime and OpenVINO
    python benchmarks/video.py --runtimes onnx --memory 20000        and the memory over 20,000 frames

Every candidate takes the same video: lines only, or lines and an annotated H.264 video; with decoding, network and
writing at the same time, and one after another. They take turns, and medians are printed. The stages are timed one
after another, so their sum is what a frame takes without overlap.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil  # type: ignore[import-untyped]

import protomask
from measuring import positive, report
from protomask import PredictOptions, Predictor
from protomask.inference.pipeline import map_ahead, predict_frames
from protomask.inference.sinks.lists import JsonLinesSink
from protomask.inference.sinks.sink import Sink, Sinks
from protomask.inference.sinks.video import VideoSink
from protomask.inference.video.address import file_address
from protomask.inference.video.reader import VideoFile
from video_scenes import SIZE, write_scenes

OPTIONS = PredictOptions()


def sinks(folder: str, *, video: bool) -> Sinks:
    kinds: list[Sink] = [VideoSink(folder)] if video else []
    return Sinks([*kinds, JsonLinesSink(folder)])


def overlapped(model: Predictor, path: Path, *, video: bool) -> int:
    """Frames, all stages at the same time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sinks(folder, video=video) as sink,
        closing(predict_frames(model, VideoFile(file_address(path)), OPTIONS)) as predicted,
        closing(map_ahead(sink.write, predicted)) as written,
    ):
        return sum(1 for _ in written)


def one_by_one(model: Predictor, path: Path, *, video: bool) -> int:
    """Frames, one stage after another."""
    with tempfile.TemporaryDirectory() as folder, sinks(folder, video=video) as sink:
        frames = 0
        for frame in VideoFile(file_address(path), ahead=0):
            sink.write(frame.replace(found=model.predict_images([frame.image], OPTIONS)[0]))
            frames += 1
        return frames


def stages(model: Predictor, path: Path) -> dict[str, float]:
    """Milliseconds of a frame by stage."""
    spent: dict[str, float] = defaultdict(float)
    last = perf_counter()

    def stage(name: str) -> None:
        nonlocal last
        now = perf_counter()
        spent[name] += now - last
        last = now

    drawn: list[Any] = []
    count = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoSink(folder, draw=lambda frame: drawn[-1]) as video,
        JsonLinesSink(folder) as lines,
    ):
        for frame in VideoFile(file_address(path), ahead=0):
            stage("decode")
            image = frame.image
            stage("to RGB")
            timings: dict[str, float] = {}
            found = model.predict_images([image], OPTIONS, timings=timings)[0]
            for name, seconds in timings.items():
                spent[name] += seconds
            last = perf_counter()
            done = frame.replace(found=found)
            found.runs()
            stage("masks")
            drawn[:] = [found.draw(image)]
            stage("draw")
            video.write(done)
            stage("encode")
            lines.write(done)
            stage("lines")
            count += 1
    return {name: 1000 * seconds / count for name, seconds in spent.items()}


def memory(model: Predictor, path: Path, every: int = 500) -> list[float]:
    """MiB of this process after every so many frames."""
    process, used = psutil.Process(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        sinks(folder, video=True) as sink,
        closing(predict_frames(model, VideoFile(file_address(path)), OPTIONS)) as predicted,
        closing(map_ahead(sink.write, predicted)) as written,
    ):
        for number, _ in enumerate(written):
            if number % every == every - 1:
                used.append(process.memory_info().rss / 2**20)
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolact_nano")
    parser.add_argument("--runtimes", nargs="+", default=["onnx", "openvino"], choices=["onnx", "openvino"])
    parser.add_argument("--frames", type=positive, default=240)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--memory", type=int, default=0, metavar="FRAMES", help="also watch the memory over these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the environment here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes.mp4"
        write_scenes(path, options.frames)
        models = {name: protomask.load(options.model, runtime=name) for name in options.runtimes}
        report(
            f"frames/s of {SIZE[1]}x{SIZE[0]}, {options.model}",
            speeds(models, path, options.rounds),
            json_file=options.json,
        )
        for name, model in models.items():
            rows = [{"stage": stage, "ms": value} for stage, value in stages(model, path).items()]
            rows.append({"stage": "sum", "ms": sum(row["ms"] for row in rows if isinstance(row["ms"], float))})
            report(f"stages of a frame, {name}", rows, json_file=None)
        if options.memory:
            long = Path(folder) / "long.mp4"
            write_scenes(long, options.frames, repeats=-(-options.memory // options.frames))
            print_memory(memory(next(iter(models.values())), long), 500)


def speeds(models: dict[str, Predictor], path: Path, rounds: int) -> list[dict[str, Any]]:
    """Frames per second of every candidate."""
    candidates = {
        (name, written, way.__name__): partial(way, model, path, video=written == "lines and video")
        for name, model in models.items()
        for written in ("lines", "lines and video")
        for way in (overlapped, one_by_one)
    }
    rates: dict[Any, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for key, run in candidates.items():
            started = perf_counter()
            frames = run()
            rates[key].append(frames / (perf_counter() - started))
    return [
        {"runtime": name, "written": written, "stages": way.replace("_", " "), "frames/s": median(values)}
        for (name, written, way), values in rates.items()
    ]


def print_memory(used: Iterable[float], every: int) -> None:
    samples = list(used)
    tenth = max(1, len(samples) // 10)
    early, late = median(samples[tenth : 2 * tenth] or samples[:1]), median(samples[-tenth:])
    print(
        f"memory over {every * len(samples)} frames: {early:.0f} MiB in the second tenth, {late:.0f} MiB in the last, "
        f"at most {max(samples):.0f} MiB"
    )


if __name__ == "__main__":
    main()
