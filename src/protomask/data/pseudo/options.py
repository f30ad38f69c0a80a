"""Settings of pseudo labels, apart from the code that makes them, so that the command line can read them quickly."""

from __future__ import annotations

from dataclasses import dataclass

from protomask.settings import Settings, Text, Unit


@dataclass(frozen=True, kw_only=True)
class PseudoLabelOptions(Settings):
    """What becomes of what a model found in an annotated image.

    Attributes:
        keep_above: What scores more becomes an object, with a mask of the source "pseudo".
        ignore_above: What scores more, but not enough to be kept, becomes a region to ignore (iscrowd 1).
        redraw: Replace masks made by machine by the model's, where it is sure of the same object.
        only_unfinished: Leave images alone whose masks have all been drawn by people.
        machine_sources: What mask_source says of masks made by machine.

    Raises:
        ConfigError: a value is out of its range.

    """

    keep_above: Unit = 0.5
    ignore_above: Unit = 0.2
    redraw: bool = True
    only_unfinished: bool = True
    machine_sources: tuple[Text, ...] = ("pseudo",)

    def _check(self) -> None:
        self._expect("ignore_above", self.ignore_above <= self.keep_above, f"at most keep_above={self.keep_above:g}")
