"""Layers with rows of their own for each class, and how the rows of a trained one fit another list of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassLayer:
    """The layout of a layer whose output has values of its own for each class.

    Attributes:
        name: of the layer in its network.
        groups: number of equal groups in the output, each with all classes: anchors of one position.
        rows: consecutive values of each class in a group: 4 box offsets.
        background: whether the classes begin with the background.

    """

    name: str
    groups: int = 1
    rows: int = 1
    background: bool = True

    def carried(self, own: Tensor, given: Tensor, sources: Mapping[int, int]) -> Tensor:
        """A copy of a weight or bias with the rows of a trained one for some classes, and for the background.

        Args:
            own: (groups x classes x rows, ...) of the new layer.
            given: the same of the trained layer, with its own number of classes.
            sources: index of a class in the trained layer by its index in the new one.

        """
        rows = {0: 0} if self.background else {}
        rows |= {new + self.background: old + self.background for new, old in sources.items()}
        result = own.clone()
        by_class, trained = self._by_class(result), self._by_class(given)
        by_class[:, list(rows)] = trained[:, list(rows.values())].to(own.dtype)
        return result

    def _by_class(self, value: Tensor) -> Tensor:
        """(groups, classes, rows, ...), a view."""
        return value.view(self.groups, -1, self.rows, *value.shape[1:])
