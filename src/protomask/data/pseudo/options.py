"""Settings of pseudo labels, apart from the code that makes them, so that the command line can read them quickly."""

from __future__ import annotations

from dataclasses import dataclass

from protomask.settings import Settings, Text, Unit


@dataclass(frozen=True, kw_only=True)
class PseudoLabelOptions(Settings):
    """What becomes of what a model found in an annotated image.

    Attributes:
        keep_above: Detections that score above this become objects, with the mask source "pseudo".
        ignore_above: Detections that score above this, but too low to be kept, become regions to ignore (iscrowd 1).
        redraw: Replace masks made by a machine by the model's, if it is sure of the same object.
        only_unfinished: Leave images alone if people have drawn all their masks.
        machine_sources: Values of mask_source that mark masks made by a machine, or that are only boxes.

    Raises:
        ConfigError: a value is out of its range.

    """

    keep_above: Unit = 0.5
    ignore_above: Unit = 0.2
    redraw: bool = True
    only_unfinished: bool = True
    machine_sources: tuple[Text, ...] = ("pseudo", "box")

    def _check(self) -> None:
        self._expect("ignore_above", self.ignore_above <= self.keep_above, f"at most keep_above={self.keep_above:g}")
