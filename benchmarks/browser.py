"""How long the page of `protomask export --format web` takes for an image, in headless Chromium.

Files take turns on the same images: the one whose NMS and masks are in the page's own code ("candidates"), and the one
that has everything in its graph ("detections"). The time is that from the bytes of an image file to run-length masks,
as the page shows it, the median of the rounds; beside it the same in Python, with one thread. With --threads above 1
the host says what browsers ask for before they give shared memory, so the runtime uses up to four threads.
"""

from __future__ import annotations

import base64
import functools
import statistics
import sys
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from playwright.sync_api import sync_playwright

import protomask
from measuring import argument_parser, report
from protomask.runtimes.shipped import shipped_file
from protomask.serve.site import SAMPLES, write_site

ASK = """async ([model, code]) => {
  globalThis.backend ??= await (async () => {
    const { LocalBackend } = await import("./page/local.js");
    return new LocalBackend(await (await fetch("page/site.json")).json());
  })();
  const bytes = Uint8Array.from(atob(code), (one) => one.charCodeAt(0));
  return (await backend.predict(new Blob([bytes]), "image", model)).ms;
}"""


class Handler(SimpleHTTPRequestHandler):
    """A static host."""

    isolated = False

    def end_headers(self) -> None:
        """With what shared memory asks for."""
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""


def main() -> None:
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument("--files", nargs="*", type=Path, default=[], help="exported .onnx files besides yolact_nano")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in sorted(SAMPLES.glob("*.jpg"))]
    Handler.isolated = arguments.threads > 1
    times: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder, shipped_file("yolact_nano") as nano, sync_playwright() as driver:
        models = {"yolact_nano": nano, **{path.stem: path for path in arguments.files}}
        write_site(Path(folder) / "site", models)
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=f"{folder}/site"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        ways: dict[str, Callable[[bytes], float]] = {}
        for name, path in models.items():
            ways[f"{name}, browser"] = functools.partial(in_browser, page, name)
            ways[f"{name}, Python"] = functools.partial(in_python, protomask.load(path, threads=arguments.threads))
        for round in range(arguments.rounds + 1):
            for way, take in ways.items():
                taken = [take(image) for image in images]
                if round:  # the first loads and compiles
                    times.setdefault(way, []).append(statistics.mean(taken))
            print(f"round {round} of {arguments.rounds}", file=sys.stderr)
        browser.close()
        server.shutdown()
    rows = [{"model, where": way, "ms per image": statistics.median(taken)} for way, taken in times.items()]
    report("From an image file to masks, in the browser and in Python", rows, json_file=arguments.json)


def in_browser(page: Any, model: str, image: bytes) -> float:
    return float(page.evaluate(ASK, [model, base64.b64encode(image).decode()]))


def in_python(model: protomask.Predictor, image: bytes) -> float:
    began = perf_counter()
    model.predict(image, score_threshold=0.05).rle()
    return (perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
