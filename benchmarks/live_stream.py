"""How old are the results of a stream when the model is too slow for it? Serves a stream on this machine and measures.

    python benchmarks/live_stream.py --minutes 3

A process sends 1280x720 H.264 at 30 frames per second as a transport stream over TCP; each frame carries its number in
its pixels, and the moment at which it was sent is written down. The model takes at least ``--slow`` seconds per frame.
The delay is from the moment a frame is sent to its result. The stream is killed and started again twice.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import av
import numpy as np
import psutil  # type: ignore[import-untyped]

import protomask
from measuring import report
from protomask import Instances, PredictOptions, Predictor
from protomask.images.decode import Pixels
from protomask.inference.pipeline import predict_frames
from protomask.inference.video.delays import Delays
from protomask.inference.video.live import LiveStream
from protomask.inference.video.options import VideoOptions
from protomask.inference.video.sources import open_address
from video_scenes import RATE, gliding

BITS, CELL = 16, 16
"""Of the number that a frame carries, and pixels of each bit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--slow", type=float, default=0.15, help="least seconds of the model per frame")
    parser.add_argument("--model", default="yolact_nano")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows and the environment here")
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "LOG"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), Path(options.serve[1]))
    else:
        measure(options)


def marked(pixels: Pixels, number: int) -> Pixels:
    """A frame with its number in the upper left corner, black and white."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], dtype=np.uint8) * 255
    pixels = pixels.copy()
    pixels[:CELL, : BITS * CELL] = np.repeat(bits, CELL)[None, :, None]
    return pixels


def number_in(pixels: Pixels) -> int:
    centers = pixels[CELL // 2, CELL // 2 : BITS * CELL : CELL].mean(axis=1) > 128
    return int(sum(1 << bit for bit, is_set in enumerate(centers) if is_set))


def serve(port: int, log: Path) -> None:
    """Send frames at their times until the process is killed, going on with the numbers of the log."""
    first = len(log.read_text().splitlines()) if log.exists() else 0
    scenes = list(gliding(90))
    ready_file(log).touch()
    with av.open(f"tcp://127.0.0.1:{port}?listen=1", "w", format="mpegts", options={"flush_packets": "1"}) as output:
        settings = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
        stream = output.add_stream("libx264", rate=RATE, options=settings)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *scenes[0].shape[:2], "yuv420p", RATE
        began = monotonic()
        with log.open("a") as sent:
            for number in range(1 << BITS):
                time.sleep(max(0.0, began + number / RATE - monotonic()))
                pixels = marked(scenes[number % len(scenes)], first + number)
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, RATE)
                sent.write(f"{monotonic()}\n")
                sent.flush()
                output.mux(stream.encode(picture))


def ready_file(log: Path) -> Path:
    """What the serving process makes when it is about to listen."""
    return log.with_suffix(".ready")


class SlowModel:
    """A predictor that takes at least so long.

    Args:
        model: that finds the instances.
        seconds: of a frame.

    """

    def __init__(self, model: Predictor, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        self.times: list[float] = []

    def predict_images(self, images: Sequence[Pixels], options: PredictOptions) -> list[Instances]:
        started = monotonic()
        found = self._model.predict_images(images, options)
        time.sleep(max(0.0, self._seconds - (monotonic() - started)))
        self.times.append(monotonic() - started)
        return found


class Server:
    """The process that sends, and what it has written down."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.log = folder / "sent.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = [sys.executable, __file__, "--serve", str(self.port), str(self.log)]
        ready_file(self.log).unlink(missing_ok=True)
        self.process = subprocess.Popen(script, stderr=subprocess.DEVNULL)
        while not ready_file(self.log).exists():  # a connection would be the one that it serves
            time.sleep(0.1)
        time.sleep(1)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def measure(options: argparse.Namespace) -> None:
    model = SlowModel(protomask.load(options.model), options.slow)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        source = open_address(f"tcp://127.0.0.1:{server.port}", VideoOptions(end=60 * options.minutes))
        assert isinstance(source, LiveStream)
        results, arrived, memory = watch(source, model, server, 60 * options.minutes)
        server.kill()
        sent = [float(line) for line in server.log.read_text().splitlines()]
    delays = np.array([at - sent[number] for at, number in results])
    frame_time = median(model.times)
    rows: list[dict[str, Any]] = [
        {"what": "frame time of the model, s", "value": frame_time},
        {"what": "delay from sending to result, p50, s", "value": float(np.percentile(delays, 50))},
        {"what": "p95", "value": float(np.percentile(delays, 95))},
        {"what": "p99", "value": float(np.percentile(delays, 99))},
        {"what": "largest", "value": float(delays.max())},
        {"what": "share under 2 frame times", "value": float((delays < 2 * frame_time).mean())},
        {"what": "delay from arrival to result, p95, s", "value": arrived.percentile(95) or 0.0},
        {"what": "frames sent", "value": len(sent)},
        {"what": "frames that came", "value": source.captured},
        {"what": "dropped", "value": source.dropped},
        {"what": "results", "value": len(results)},
        {"what": "lost and back", "value": source.reconnects},
        {"what": "memory after a tenth, MiB", "value": memory[len(memory) // 10]},
        {"what": "memory at the end, MiB", "value": memory[-1]},
    ]
    report(f"a stream of {RATE} frames/s, a model of {options.slow} s", rows, json_file=options.json)


def watch(
    source: LiveStream, model: SlowModel, server: Server, seconds: float
) -> tuple[list[tuple[float, int]], Delays, list[float]]:
    """Moment and number of each result, delays from arrival, and memory; two interruptions on the way."""
    results, delays, memory = [], Delays(), []
    process, began = psutil.Process(), monotonic()
    interruptions = [seconds / 3, 2 * seconds / 3]
    warnings.simplefilter("always")
    with closing(predict_frames(model, source, PredictOptions())) as frames:
        for frame in frames:
            if frame.error is not None:
                raise frame.error
            results.append((monotonic(), number_in(frame.image)))
            delays.add(frame)
            memory.append(process.memory_info().rss / 2**20)
            if interruptions and monotonic() - began > interruptions[0]:
                interruptions.pop(0)
                server.kill()
                server.start()
    return results, delays, memory


if __name__ == "__main__":
    main()
