"""Whether a network is still what a copy of it was made from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from protomask.models.network import Network


class Snapshot:
    """What a network was when a copy was made of it.

    Tensors that the copy shares may change as they like. Of those that it does not share, the content counts, however
    it is written: ``tensor.data`` and other views leave no trace in a tensor's version.

    Args:
        network: as it is now.
        copy: made from it, sharing some of its tensors.

    """

    def __init__(self, network: Network, copy: Network) -> None:
        stores: list[dict[str, Any]] = []
        for module in network.modules():
            stores += [module._parameters, module._buffers, module._modules]
        self._stores = [(store, len(store)) for store in stores]
        # To look these up takes a tenth of the time that finding the tensors again would take.
        self._slots = [(store, name, value) for store in stores for name, value in store.items()]
        self._tensors = [*network.parameters(), *network.buffers()]
        self._places = [tensor.data_ptr() for tensor in self._tensors]
        shared = {tensor.data_ptr() for tensor in (*copy.parameters(), *copy.buffers())}
        self._copied = [_words(tensor) for tensor in self._tensors if tensor.data_ptr() not in shared]
        self._sums = self._summed()

    def holds(self) -> bool:
        """Whether the network is still the same."""
        return (
            all(len(store) == count for store, count in self._stores)
            and all(store.get(name) is value for store, name, value in self._slots)
            and [tensor.data_ptr() for tensor in self._tensors] == self._places
            and torch.equal(self._summed(), self._sums)
        )

    def _summed(self) -> Tensor:
        with torch.no_grad():
            sums = [words.sum() for words in self._copied]
            return torch.stack(sums) if sums else torch.zeros(0)


def _words(tensor: Tensor) -> Tensor:
    """The memory of a tensor as whole numbers, whose sum is exact and as fast as memory."""
    content = tensor.detach()
    if not (content.is_contiguous() or content.is_contiguous(memory_format=torch.channels_last)):
        return content.view(_OF_SIZE[content.element_size()])
    flat = torch.as_strided(content, (content.numel(),), (1,), content.storage_offset())
    wide = content.numel() * content.element_size() % 8 == 0 and content.data_ptr() % 8 == 0
    return flat.view(torch.int64 if wide else _OF_SIZE[content.element_size()])


_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
