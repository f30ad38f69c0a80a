from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageShow

from protomask.errors import ConfigError
from protomask.images.show import show_image

PIXELS = np.full((4, 6, 3), 7, dtype=np.uint8)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the system's viewer is given; a display is there."""
    given: list[tuple[Any, ...]] = []

    def show(image: Image.Image, title: str) -> bool:
        given.append((np.asarray(image), title))
        return True

    monkeypatch.setattr(ImageShow, "show", show)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return given


def test_the_viewer_opens(opened: list[tuple[Any, ...]]) -> None:
    show_image(PIXELS, "a.png")
    [(pixels, title)] = opened
    np.testing.assert_array_equal(pixels, PIXELS)
    assert title == "a.png"


def test_no_viewer(opened: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(ConfigError, match="expected a program that shows images, found none"):
        show_image(PIXELS, "a.png")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_no_display(opened: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    if platform == "linux":
        with pytest.raises(ConfigError, match=r"^show: expected a display, found none \(DISPLAY and WAYLAND_DISPLAY"):
            show_image(PIXELS, "a.png")
    else:
        show_image(PIXELS, "a.png")
    assert len(opened) == (platform != "linux")


def test_a_notebook_shows_it_below_the_cell(opened: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    below: list[Image.Image] = []
    kernel, display = ModuleType("ipykernel"), ModuleType("IPython.display")
    display.__dict__["display"] = below.append
    monkeypatch.setitem(sys.modules, "ipykernel", kernel)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    show_image(PIXELS, "a.png")
    assert [image.size for image in below] == [(6, 4)]
    assert not opened
