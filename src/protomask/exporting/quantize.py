"""A graph's network in 8 bits (NNCF's post-training quantisation)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from torch import Tensor

from protomask.errors import MissingExtraError


def require_nncf() -> None:
    """Raises: MissingExtraError if NNCF is not installed: asked before the work begins."""
    # NNCF imports PyTorch's compiler of extensions, which warns where there are GPU libraries and no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        import nncf  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("8-bit files need NNCF: pip install 'protomask[int8]'") from error


def quantize(model: Any, calibration: Sequence[Tensor], left_out: Sequence[str], *, channel_ranges: bool = True) -> Any:
    """The same model with its network in 8 bits.

    Args:
        model: `onnx.ModelProto` or `openvino.Model` with the input "image", (1, 3, H, W) uint8.
        calibration: (3, H, W) uint8 images that give the ranges of 8-bit numbers.
        left_out: names of the operations that stay as they are.
        channel_ranges: the input of a depthwise convolution has a range for each channel.

    """
    import nncf
    from nncf.quantization.advanced_parameters import QuantizationParameters

    nncf.set_log_level(logging.ERROR)
    images = nncf.Dataset([{"image": image[None].numpy()} for image in calibration])
    # Its progress bars are not part of our output.
    with redirect_stdout(sys.stderr):
        return nncf.quantize(
            model,
            images,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=list(left_out), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_quantization_params=QuantizationParameters(per_channel=None if channel_ranges else False)
            ),
        )


def is_quantized(module: str, float_parts: Sequence[str]) -> bool:
    """Whether a module computes in 8 bits, by its name within a graph: those of the network but for some parts."""
    return module.startswith("network.") and not module.startswith(tuple(f"network.{part}" for part in float_parts))
