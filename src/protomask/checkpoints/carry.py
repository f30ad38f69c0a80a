"""Trained weights in a network with other classes: rows of class-dependent layers go by the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from protomask.models.build import placeholder_names
from protomask.models.class_layers import ClassLayer
from protomask.models.families import family_of
from protomask.models.network import Network

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What `carry_weights` took, and what it left as it was.

    Attributes:
        taken: names of the tensors that were copied, whole or row by row.
        partial: those of them that have rows of new classes, which were not trained.
        initialised: names of the tensors that were not trained at all.
        classes: name in the weights of each class that both know, by its name in the network.
        new: classes that the weights do not know.
        dropped: classes that the network does not have.
        nameless: the weights have no class names.

    """

    taken: tuple[str, ...]
    partial: tuple[str, ...]
    initialised: tuple[str, ...]
    classes: Mapping[str, str]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    nameless: bool = False

    def describe(self, source: str) -> list[str]:
        """Lines about it; ``source`` is what to call the weights."""
        initialised = f"; re-initialised: {', '.join(self.initialised)}" if self.initialised else ""
        lines = [f"{source}: {len(self.taken)} tensors taken{initialised}"]
        if self.nameless:
            lines.append(
                f"{source}: the weights have no class names, so no class can be carried over; "
                "convert them with their class names first to change that"
            )
        elif not (self.new or self.dropped):
            lines.append(f"classes: carried over by name: {_listed(list(self.classes))}; none is new or left out")
        else:
            carried = [name if name == old else f"{name} (there {old})" for name, old in self.classes.items()]
            lines.append(
                f"classes: carried over by name: {_listed(carried)}; new: {_listed(self.new)}; "
                f"in the weights but not in the data: {_listed(self.dropped)}"
            )
        return lines


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def carry_weights(network: Network, source: Network) -> Carried:
    """Copy a trained network into another one of the same kind.

    Tensors of the same name and shape are copied. In layers that depend on the classes a class gets the rows of the
    class of its name (see `same_classes`), and the background those of the background, whatever the number and the
    order of the classes; the rows of other classes stay as they are.

    Args:
        network: that is to learn; changed in place.
        source: the trained network.

    """
    nameless = source.class_names == placeholder_names(len(source.class_names)) != network.class_names
    pairs = {} if nameless else same_classes(network.class_names, source.class_names)
    layers = _tensors_of(family_of(network.config).class_layers(network.config))
    trained_layers = _tensors_of(family_of(source.config).class_layers(source.config))
    trained, own = source.state_dict(), network.state_dict()
    state: dict[str, Tensor] = {}
    partial = []
    for key, value in own.items():
        layer, given = layers.get(key), trained.get(key)
        if given is None or given.shape[1:] != value.shape[1:]:
            continue
        if layer is None:
            if given.shape == value.shape and key not in trained_layers:
                state[key] = given
        elif layer == trained_layers.get(key) and (pairs or layer.background):
            state[key] = layer.carried(value, given, pairs)
            if len(pairs) < len(network.class_names):
                partial.append(key)
    network.load_state_dict(state, strict=False)
    known = {source.class_names[index] for index in pairs.values()}
    return Carried(
        taken=tuple(state),
        partial=tuple(partial),
        initialised=tuple(key for key in own if key not in state),
        classes={network.class_names[new]: source.class_names[old] for new, old in pairs.items()},
        new=tuple(name for index, name in enumerate(network.class_names) if index not in pairs),
        dropped=tuple(name for name in source.class_names if name not in known),
        nameless=nameless,
    )


def _tensors_of(layers: Sequence[ClassLayer]) -> dict[str, ClassLayer]:
    return {f"{layer.name}.{kind}": layer for layer in layers for kind in ("weight", "bias")}


def same_classes(names: Sequence[str], trained: Sequence[str]) -> dict[int, int]:
    """Index of each class in a trained list, by its index in the new one; only classes that both have.

    Names that are equal belong together; of the rest, those that differ only in case, spaces, hyphens and underscores,
    where no other name of either list does so too.
    """
    pairs = {index: trained.index(name) for index, name in enumerate(names) if name in trained}
    spelled = [_by_spelling(names), _by_spelling(trained)]
    for spelling, indices in spelled[0].items():
        others = spelled[1].get(spelling, [])
        if len(indices) == len(others) == 1:
            pairs.setdefault(indices[0], others[0])
    return dict(sorted(pairs.items()))


def _by_spelling(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(re.sub(r"[\s_\-]+", " ", name).strip().casefold(), []).append(index)
    return found
