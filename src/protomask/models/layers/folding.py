"""A network made ready for prediction: batch norm folded into the convolutions before it, weights in lower precision.

Batch norm with fixed statistics is a product and a sum per channel (Ioffe & Szegedy 2015, section 3.1), which the
convolution before it can do on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from itertools import chain, pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck

from protomask.models.layers.efficientnet_lite import EfficientNetLite0, InvertedResidual, SeparableBlock
from protomask.models.layers.module import Module
from protomask.models.layers.separable import SeparableConv, SharedConv

_Network = TypeVar("_Network", bound=Module)

# Modules that run a convolution and then a batch norm, and their names; in an nn.Sequential neighbours are enough.
_PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    BasicBlock: (("conv1", "bn1"), ("conv2", "bn2")),
    Bottleneck: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    nn.ModuleDict: (("conv1", "bn1"),),  # the stem of a ResNet
    EfficientNetLite0: (("conv_stem", "bn1"),),
    SeparableBlock: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def prepare_for_inference(
    network: _Network, dtype: torch.dtype = torch.float32, *, fold: bool = True, contiguous: bool = False
) -> _Network:
    """A copy for prediction only; what is not changed in it shares its memory with the original.

    Args:
        network: in any mode, which it keeps. Its batch norms in places that this module does not know stay as they are.
        dtype: of the weights of convolutions and linear layers; below float32 the copy runs under `torch.autocast`.
        fold: fold batch norms into convolutions.
        contiguous: lay the copy's tensors out one dimension after the other, whatever layout the network's have.

    """
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    prepared = deepcopy(network, shared).eval()
    for module in list(prepared.modules()):
        children = dict(module.named_children())
        for conv_name, norm_name in _conv_norm_pairs(module):
            conv, norm = children.get(conv_name), children.get(norm_name)
            if fold and type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.track_running_stats:
                setattr(module, conv_name, _folded(conv, norm))
                setattr(module, norm_name, nn.Identity())
        for name, child in children.items() if fold else ():
            if isinstance(child, SeparableConv | SharedConv) and len(child.levels) == len(child.norms):
                setattr(module, name, child.folded(_folded))
    if dtype != torch.float32:
        for module in prepared.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    if contiguous:
        _lay_out_contiguously(prepared)
    return prepared


def _lay_out_contiguously(network: Module) -> None:
    """Replaces tensors instead of moving them, since the original may own them, too."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if _has_other_layout(parameter):
                own = parameter.detach().clone(memory_format=torch.contiguous_format)
                setattr(module, name, nn.Parameter(own, requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if _has_other_layout(buffer):
                setattr(module, name, buffer.clone(memory_format=torch.contiguous_format))


def _has_other_layout(tensor: Tensor) -> bool:
    """`Tensor.is_contiguous` overlooks dimensions of size 1, from whose strides exporters guess a layout."""
    return tensor.stride() != torch.empty_like(tensor, memory_format=torch.contiguous_format).stride()


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Worked out in double precision, so that weights are rounded once."""
    return fuse_conv_bn_eval(deepcopy(conv).double(), deepcopy(norm).double()).to(conv.weight.dtype)


def _conv_norm_pairs(module: nn.Module) -> Iterable[tuple[str, str]]:
    if isinstance(module, nn.Sequential):
        return pairwise(name for name, _ in module.named_children())
    return next((pairs for kind, pairs in _PAIRS.items() if isinstance(module, kind)), ())
