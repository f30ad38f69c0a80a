"""The site in a browser: its search answers what people ask about other packages, and pages fit a phone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from browser import find_browser

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).resolve().parents[2]
# What is typed, where the answer is, and an issue thread in which somebody asked it.
QUESTIONS = (
    ("mask edges jagged not smooth", "questions/#mask-edges", "ultralytics 19323"),
    ("calculate area of segmented object", "questions/#how-do-i-calculate-the-area", "ultralytics 8286"),
    ("detect small objects in high resolution images", "questions/#how-do-i-detect-small", "ultralytics 2402"),
    ("train with custom dataset", "questions/#how-do-i-train-on-a-custom", "yolact 70"),
    ("run without cuda", "questions/#can-i-run-it-on-a-cpu", "yolact 47"),
    ("compile DCNv2", "questions/#do-i-have-to-compile", "yolact 466"),
    ("training loss inf nan", "questions/#the-training-loss-is-nan", "yolact 318"),
    ("export onnx run with onnxruntime", "questions/#how-do-i-export-to-onnx", "detectron2 4779"),
    ("early stopping", "questions/#how-do-i-stop-training-early", "mmdetection 2062"),
    ("freeze backbone", "questions/#how-do-i-freeze", "mmdetection 8210"),
)
PAGES = ("", "tutorial/", "predict/", "comparison/", "questions/", "notebooks/train/", "reference/cli/train/",
         "reference/results/", "how-to/from-yolact/", "changelog/")  # fmt: skip
PATIENCE = 180_000
"""Milliseconds for a page to load, on a machine that is busy."""
LINKS_IN_SHADOW = """() => {
  const found = [];
  const walk = root => {
    for (const one of root.querySelectorAll("*")) {
      if (one.shadowRoot) walk(one.shadowRoot);
      if (root !== document && one.tagName === "A" && one.getAttribute("href")) found.push(one.getAttribute("href"));
    }
  };
  walk(document);
  return found;
}"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of the site, which is built if it is not there."""
    pytest.importorskip("zensical")
    site = REPOSITORY / "build" / "site"
    if not (site / "index.html").is_file():
        subprocess.run([sys.executable, str(REPOSITORY / "website" / "build_site.py")], check=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_search_finds_answers_within_the_first_three_hits(address: str, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    missed = []
    for question, answer, thread in QUESTIONS:
        page.goto(address)
        page.locator(".md-search__button").locator("visible=true").first.click()
        page.keyboard.type(question)
        page.wait_for_function(f"({LINKS_IN_SHADOW})().length > 0")
        page.wait_for_timeout(1500)  # hits of the last letters
        hits = [hit.removeprefix(address).replace("?h=" + hit.partition("?h=")[2].partition("#")[0], "")
                for hit in page.evaluate(LINKS_IN_SHADOW)[:3]]  # fmt: skip
        if not any(hit.startswith(answer) for hit in hits):
            missed.append((question, thread, hits))
    page.close()
    assert not missed


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_load_everything(address: str, chromium: Any, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.set_default_timeout(PATIENCE)
    failures: list[str] = []
    page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: failures.append(request.url))
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(address) else None)
    for name in PAGES:
        page.goto(address + name)
        page.wait_for_load_state("networkidle")
        too_wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not too_wide, name
        broken = page.evaluate(
            "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
        )
        assert not broken, name
    page.close()
    assert not failures
    assert not [url for url in elsewhere if not url.startswith(("data:", "blob:"))]
