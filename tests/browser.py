"""Pages as a browser shows them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(event.message || event.target.src || "error"), true);
addEventListener("load", () => parent.postMessage({
  errors,
  width: innerWidth,
  needed: document.documentElement.scrollWidth,
  broken: [...document.images].filter(image => !(image.complete && image.naturalWidth)).map(image => image.src),
  pictures: document.images.length,
  drawings: document.querySelectorAll("svg").length,
  sections: [...document.querySelectorAll("section")].filter(one => one.offsetHeight > 60).map(one => one.id),
  scrolling: [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => one.ariaLabel),
}, "*"));
</script>"""
_FRAMES = """<!DOCTYPE html><pre></pre><script>
const told = [];
addEventListener("message", event => {
  told.push(event.data);
  document.querySelector("pre").textContent = JSON.stringify(told);
});
</script>"""


def find_browser() -> str | None:
    """A Chromium or Chrome, if this machine has one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def show_in_browser(page: Path, widths: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What a page looks like, by width of the window; the file is changed, so that it tells."""
    page.write_text(page.read_text(encoding="utf-8").replace("<head>", f"<head>{_PROBE}", 1), encoding="utf-8")
    frames = [f'<iframe src="{page.name}" width="{width}" height="900" frameborder="0"></iframe>' for width in widths]
    around = page.with_name("frames.html")
    around.write_text(_FRAMES + "".join(frames))
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                str(find_browser()), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-extensions", f"--user-data-dir={profile}", "--enable-logging=stderr",
                "--virtual-time-budget=20000", "--dump-dom", around.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    shown = re.search(r"<pre>(.*?)</pre>", done.stdout, flags=re.DOTALL)
    assert shown is not None
    told: dict[int, dict[str, Any]] = {one["width"]: one for one in json.loads(unescape(shown[1]))}
    assert set(told) == set(widths)
    return told
