"""A Chromium for tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from browser import find_browser

pytest.importorskip("playwright.sync_api")

from playwright.sync_api import Browser, sync_playwright

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, whose webcam shows a test card."""
    path = find_browser()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()
