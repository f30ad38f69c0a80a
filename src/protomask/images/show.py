"""Showing an image to who sits before the screen."""

from __future__ import annotations

import os
import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageShow

from protomask.errors import ConfigError

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def show_image(pixels: NDArray[np.uint8], title: str) -> None:
    """Open an image in the system's viewer; in a notebook, below the cell.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        title: what to call it, where the viewer has a place for it.

    Raises:
        ConfigError: there is no display, or no program that shows images.

    """
    if "ipykernel" in sys.modules:
        from IPython.display import display

        display(Image.fromarray(pixels))
        return
    if sys.platform.startswith("linux") and not any(map(os.environ.get, _DISPLAYS)):
        raise ConfigError(f"show: expected a display, found none ({' and '.join(_DISPLAYS)} are not set)")
    if not ImageShow.show(Image.fromarray(pixels), title=title):
        raise ConfigError("show: expected a program that shows images, found none (such as xdg-open)")
