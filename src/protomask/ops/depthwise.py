"""Depthwise convolutions under autocast on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class DepthwiseGradientsInFloat32(TorchFunctionMode):
    """Within it, depthwise convolutions under autocast on a CPU compute their gradients in float32.

    PyTorch (2.15) has no fast gradient of a depthwise convolution in bfloat16 on CPUs: it takes several times as long
    as in float32, and makes a training step of a light backbone slower than one in float32 alone. What the convolution
    gives, and everything else, stays as autocast has it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation of PyTorch."""
        if func is F.conv2d and torch.is_autocast_enabled("cpu"):
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, whose arguments these are."""
    is_depthwise = 1 < groups == input.shape[1] and weight.shape[1] == 1
    if not is_depthwise or input.device.type != "cpu" or isinstance(padding, str):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    short = torch.get_autocast_dtype("cpu")
    bias = None if bias is None else bias.to(short)
    sides = [(value, value) if isinstance(value, int) else tuple(value) for value in (stride, padding, dilation)]
    return cast("Tensor", _Depthwise.apply(input.to(short), weight.to(short), bias, *sides))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *sides: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sides, ctx.has_bias = sides, bias is not None
        stride, padding, dilation = sides
        return F.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        biases = [len(weight)] if ctx.has_bias else None
        wanted = (*ctx.needs_input_grad[:2], ctx.has_bias)
        found = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight.float(), biases, *ctx.sides, False, (0, 0), x.shape[1], wanted
        )
        return *(None if one is None else one.to(x.dtype) for one in found), None, None, None
