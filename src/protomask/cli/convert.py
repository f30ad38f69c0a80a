"""`protomask convert`."""

from __future__ import annotations

from typing import Any, Literal

EXAMPLE = "protomask convert yolact_base_54_800000.pth yolact_base.safetensors"
POSITIONAL = ("source", "destination")


def run(
    source: str,
    destination: str,
    *,
    model: str | None = None,
    class_names: list[str] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    model_options: dict[str, Any] | None = None,
) -> int:
    """Turn a weights file into one .safetensors file that says what it holds.

    Args:
        source: weights from another codebase (.pth, .pkl, .params), or our own, to store them in another number type: a
            file, a run folder, a zoo name or an hf:// address.
        destination: .safetensors file to write.
        model: zoo name of the network in the file; read from the file name (or MMDetection's tensors) by default.
        class_names: names of the classes, for a file that was not trained on those of the zoo model, for example
            [cat,dog].
        dtype: number type the weights are stored in; float16 halves the file.
        model_options: fields of the model's configuration to change, by name, such as '{"max_detections": 400}'; only
            fields that need no different weights.
    """
    from pathlib import Path

    from protomask.errors import ConfigError
    from protomask.extras import require_torch
    from protomask.files import check_writable
    from protomask.models.naming import find_model
    from protomask.models.zoo import zoo_entry

    if not destination.endswith(".safetensors"):
        raise ConfigError(f"destination: expected a .safetensors file, got {destination}")
    require_torch("protomask convert")
    found = find_model(source)
    if model is not None:
        zoo_entry(model)
    check_writable(Path(destination), "destination")
    found = found.fetched()

    import torch

    from protomask.checkpoints.io import load_matching, read_header, save_weights
    from protomask.checkpoints.sources import load_network
    from protomask.models.build import build_network

    network = load_network(found, model=model, class_names=class_names)
    if model_options:
        changed = build_network(network.config.override(**model_options), class_names=network.class_names)
        others = load_matching(changed, network.state_dict())
        if others:
            raise ConfigError(f"model_options: expected some that keep the weights, got others for {', '.join(others)}")
        changed.calibration = network.calibration
        network = changed
    origin = read_header(found.path)["provenance"] if found.kind == "own" and found.path is not None else {}
    provenance = {**origin, "converted_from": found.name if found.path is None else found.path.name}
    path = save_weights(network, destination, provenance=provenance, dtype=getattr(torch, dtype))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{path}: {network.config.name}, {len(network.class_names)} classes, {parameters / 1e6:.1f} M parameters, "
        f"{path.stat().st_size / 2**20:.1f} MiB"
    )
    return 0
