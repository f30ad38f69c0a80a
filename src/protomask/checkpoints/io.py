"""Our own weights files: one .safetensors with the tensors and a header that says everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protomask.errors import CheckpointError, ConfigError
from protomask.files import replacing
from protomask.models.build import build_network
from protomask.models.families import FAMILIES, family_of
from protomask.models.layers.module import Module
from protomask.models.network import Network

FORMAT_VERSION = "1"
_HEADER = "protomask"


def save_weights(
    network: Network,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a network to one .safetensors file: tensors, config, class names, preprocessing, provenance.

    Args:
        network: to save.
        path: file to write; it appears whole or not at all.
        provenance: where the weights come from; plain JSON types.
        dtype: store floating-point tensors in this type (float16 halves the file); a tensor with values beyond its
            range keeps its own type.

    Raises:
        CheckpointError: the file cannot be written.

    """
    from safetensors.torch import save

    path = Path(path)
    header = {
        "format_version": FORMAT_VERSION,
        "family": family_of(network.config).name,
        "config": network.config.to_dict(),
        "class_names": list(network.class_names),
        "preprocessing": {"channel_order": "RGB", **asdict(network.geometry)},
        "provenance": dict(provenance or {}),
    }
    tensors = {key: _as_stored(value.detach().cpu(), dtype).contiguous() for key, value in network.state_dict().items()}
    content = save(tensors, metadata={_HEADER: json.dumps(header)})
    with replacing(path, error=CheckpointError) as file:
        # Not by safetensors' own file writer: its files are readable by their owner alone.
        file.write(content)
    return path


def _as_stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    return converted if torch.equal(converted.isfinite(), tensor.isfinite()) else tensor


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of one of our files.

    Raises:
        CheckpointError: not a file of ours.

    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file: {error}") from error
    if _HEADER not in metadata:
        raise CheckpointError(f"{path}: expected weights saved by protomask, found no {_HEADER!r} header")
    try:
        header: dict[str, Any] = dict(json.loads(metadata[_HEADER]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the {_HEADER!r} header is not a JSON object: {error}") from error
    if header.get("format_version") != FORMAT_VERSION or header.get("family") not in FAMILIES:
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION} of family {' or '.join(FAMILIES)}, "
            f"got version {header.get('format_version')} of family {header.get('family')}"
        )
    return header


def load_weights(path: str | Path, *, map_location: str | torch.device = "cpu") -> Network:
    """Read one of our .safetensors files into a new network, in evaluation mode.

    Raises:
        CheckpointError: missing file, not a file of ours, or tensors that do not fit the config in the header.

    """
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    header = read_header(path)
    try:
        config = FAMILIES[header["family"]].config.from_dict(header["config"])
        network = build_network(config, class_names=tuple(header["class_names"]))
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header's config and class names cannot be read: {error}") from error
    tensors = {
        key: value.float() if value.is_floating_point() else value
        for key, value in load_file(path, device=str(map_location)).items()
    }
    load_exactly(network, tensors, source=str(path))
    return network.to(map_location).eval()


def load_exactly(network: Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a network that must have exactly these.

    Raises:
        CheckpointError: lists every missing, unexpected and misshapen key.

    """
    own = network.state_dict()
    missing = [key for key in own if key not in tensors]
    unexpected = [key for key in tensors if key not in own]
    misshapen = [
        f"{key} (model {tuple(own[key].shape)}, file {tuple(tensors[key].shape)})"
        for key in own
        if key in tensors and own[key].shape != tensors[key].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if any(problems.values()):
        lines = [f"{source}: the weights do not fit the model"]
        lines += [f"  {len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]
        raise CheckpointError("\n".join(lines))
    network.load_state_dict(dict(tensors))


def load_matching(network: Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors whose name and shape fit; the rest of the network stays as it is.

    Returns:
        Names in the network that were not loaded.

    """
    own = network.state_dict()
    fitting = {key: value for key, value in tensors.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    return [key for key in own if key not in fitting]


def fill_counters(network: Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill in the batch norm counters that files of old PyTorch versions lack; they play no part in prediction."""
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked") and key not in tensors:
            tensors[key] = torch.zeros_like(value)
    return tensors
