"""Images of a page: each is a file, and stands in the page itself, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from protomask.explaining.overlays import View
from protomask.images.decode import Pixels
from protomask.images.write import write_image

_QUALITY = 84


class Shots:
    """Collects images under the names of their files.

    Args:
        folder: where `save` writes them.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pixels: dict[str, Pixels] = {}

    def figure(self, name: str, shown: View | Pixels, caption: str, *, alt: str, sharp: bool = False) -> str:
        """HTML of an image with its caption.

        Args:
            name: of the file, without its ending.
            shown: a view, or (H, W, 3) uint8 RGB.
            caption: HTML.
            alt: what the image shows, plain text.
            sharp: keep the edges of cells.

        """
        pixels = shown.pixels if isinstance(shown, View) else shown
        self._pixels[name] = pixels
        kind = "png" if sharp else "jpeg"
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format=kind, **({} if sharp else {"quality": _QUALITY}))
        code = base64.b64encode(content.getvalue()).decode()
        size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
        return (
            f'<figure><img src="data:image/{kind};base64,{code}" {size} alt="{escape(alt)}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def save(self) -> None:
        """Write every image as PNG.

        Raises:
            ProtomaskError: a file cannot be written.

        """
        for name, pixels in self._pixels.items():
            write_image(self.folder / f"{name}.png", pixels)


def rows_of_shots(figures: Sequence[str], kind: str = "") -> str:
    """Figures beside each other, as many as there is room for."""
    return f'<div class="{f"{kind} shots".strip()}">{"".join(figures)}</div>'
