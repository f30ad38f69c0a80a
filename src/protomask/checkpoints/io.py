"""Our own weights files: one .safetensors with the tensors and a header that says everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protomask.detection.calibration import Calibration
from protomask.errors import CheckpointError, ConfigError, ProtomaskError
from protomask.files import replacing
from protomask.models.build import build_network
from protomask.models.config import ModelConfig
from protomask.models.families import FAMILIES, family_of
from protomask.models.layers.module import Module
from protomask.models.network import Network

FORMAT_VERSION = "1"
_HEADER = "protomask"
_MAX_HEADER = 4 << 20
"""Characters: a damaged file must not ask for gigabytes."""


def save_weights(
    network: Network,
    path: str | Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a network to one .safetensors file: tensors, config, class names, preprocessing, provenance, calibration.

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
        "calibration": None if network.calibration is None else network.calibration.to_dict(),
    }
    tensors = {key: _as_stored(value.detach().cpu(), dtype).contiguous() for key, value in network.state_dict().items()}
    content = save(tensors, metadata={_HEADER: json.dumps(header)})
    with replacing(path, error=CheckpointError) as file:
        # Not by safetensors' own file writer: its files are readable by their owner alone.
        file.write(content)
    return path


def write_calibration(path: Path, output: Path, calibration: Calibration) -> None:
    """Write one of our files again with another calibration; its tensors stay as they are stored.

    Raises:
        CheckpointError: not a file of ours, or the output cannot be written.

    """
    from safetensors.torch import load_file, save

    header = {**read_header(path), "calibration": calibration.to_dict()}
    content = save(load_file(path), metadata={_HEADER: json.dumps(header)})
    with replacing(output, error=CheckpointError) as file:
        file.write(content)


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
    text = metadata[_HEADER]
    if len(text) > _MAX_HEADER:
        raise CheckpointError(
            f"{path}: expected a {_HEADER!r} header of at most {_MAX_HEADER} characters, got {len(text)}"
        )
    try:
        header: dict[str, Any] = dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the {_HEADER!r} header is not a JSON object: {error}") from error
    version, family = header.get("format_version"), header.get("family")
    if version != FORMAT_VERSION or not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION} of family {' or '.join(FAMILIES)}, "
            f"got version {version!s:.80} of family {family!s:.80}"
        )
    names = header.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{path}: expected class_names to be a list of names, got {names!r:.200}")
    if not isinstance(header.get("config"), dict):
        raise CheckpointError(f"{path}: expected config to be an object, got {header.get('config')!r:.200}")
    return header


def load_weights(path: str | Path, *, map_location: str | torch.device = "cpu") -> Network:
    """Read one of our .safetensors files into a new network, in evaluation mode.

    Raises:
        CheckpointError: missing file, not a file of ours, or tensors that do not fit the config in the header.

    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    header = read_header(path)
    try:
        config = FAMILIES[header["family"]].config.from_dict(header["config"])
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        network = build_fitting(config, shapes, source=str(path), class_names=tuple(header["class_names"]))
        given = header.get("calibration")
        network.calibration = None if given is None else Calibration.from_dict(given)
        tensors = load_file(path, device=str(map_location))
    except (ConfigError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: the header's config and class names cannot be read: {error}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file: {error}") from error
    load_exactly(network, tensors, source=str(path))
    return network.to(map_location).eval()


def build_fitting(
    model: str | ModelConfig, shapes: Mapping[str, tuple[int, ...]], *, source: str, **options: Any
) -> Network:
    """An untrained network that must have exactly tensors of these shapes; no memory is taken before that is sure.

    Args:
        model: zoo name or config.
        shapes: of the tensors of a file; counters of batch norm may be absent.
        source: what to call the file in errors.
        options: see `protomask.models.build.build_network`.

    Raises:
        CheckpointError: lists every missing, unexpected and misshapen key.
        ConfigError: as `build_network`.

    """
    try:
        with torch.device("meta"):
            probe = build_network(model, **options)
    except ProtomaskError:
        raise
    except Exception as error:  # what a config that fits no network leads to
        raise CheckpointError(f"{source}: no network has this config: {type(error).__name__}: {error}") from error
    own = {key: tuple(value.shape) for key, value in probe.state_dict().items()}
    _check_keys({key: shape for key, shape in own.items() if key in shapes or not _is_counter(key)}, shapes, source)
    return build_network(model, **options)


def load_exactly(network: Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy tensors into a network that must have exactly these.

    Raises:
        CheckpointError: lists every missing, unexpected and misshapen key.

    """
    own = network.state_dict()
    own_shapes, shapes = ({key: tuple(value.shape) for key, value in some.items()} for some in (own, tensors))
    _check_keys(own_shapes, shapes, source)
    for key, value in tensors.items():
        problem = _problem_of(key, value, own[key])
        if problem is not None:
            raise CheckpointError(f"{source}: tensor {key}: {problem}; the file is damaged, or no weights of a network")
    network.load_state_dict(dict(tensors))


def _check_keys(own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], source: str) -> None:
    problems = {
        "missing": [key for key in own if key not in given],
        "unexpected": [key for key in given if key not in own],
        "misshapen": [
            f"{key} (model {shape}, file {given[key]})"
            for key, shape in own.items()
            if key in given and shape != given[key]
        ],
    }
    if any(problems.values()):
        lines = [f"{source}: the weights do not fit the model"]
        lines += [f"  {len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]
        raise CheckpointError("\n".join(lines))


def _problem_of(key: str, value: Tensor, untrained: Tensor) -> str | None:
    """Why a tensor cannot be weights; None where it can."""
    if value.is_floating_point() != untrained.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        kind = "real numbers" if untrained.is_floating_point() else "whole numbers"
        return f"expected {kind}, got {str(value.dtype).removeprefix('torch.')}"
    if not value.is_floating_point():
        return None
    total = value.float().sum()
    if not total.isfinite() and not value.float().isfinite().all():
        return "expected finite numbers, got some that are not"
    # Biases begin at zero, and so do layers that are to do nothing at first.
    if total == 0 and value.ndim > 1 and value.numel() and not value.float().any() and untrained.any():
        return "expected weights, got zeros"
    if key.endswith("running_var") and value.numel() and float(value.float().min()) < 0:
        return "expected variances, got negative ones"
    return None


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


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
        if _is_counter(key) and key not in tensors:
            tensors[key] = torch.zeros_like(value)
    return tensors
