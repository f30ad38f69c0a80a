"""Weights on disk: our own .safetensors with a header, and foreign files, never unpickling arbitrary objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protomask.checkpoints import mmdet_yolact, official_yolact
from protomask.checkpoints.download import fetch_url
from protomask.checkpoints.foreign import ForeignFile, read_foreign
from protomask.checkpoints.rcnn_formats import RCNNArchitecture, RCNNFormat, coco_names, rcnn_architecture, rcnn_format
from protomask.errors import CheckpointError, ConfigError
from protomask.files import replacing
from protomask.models.config import RCNNConfig, YolactConfig
from protomask.models.published import PUBLISHED
from protomask.models.zoo import ZOO, Network, ZooEntry, build_network, zoo_entry

FORMAT_VERSION = "1"
_HEADER = "protomask"
FAMILIES: Mapping[str, type[YolactConfig] | type[RCNNConfig]] = {"yolact": YolactConfig, "rcnn": RCNNConfig}


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
        "family": next(name for name, kind in FAMILIES.items() if isinstance(network.config, kind)),
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
        config = FAMILIES[header["family"]].from_dict(header["config"])
        network = build_network(config, class_names=tuple(header["class_names"]))
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: the header's config and class names cannot be read: {error}") from error
    tensors = {
        key: value.float() if value.is_floating_point() else value
        for key, value in load_file(path, device=str(map_location)).items()
    }
    load_exactly(network, tensors, source=str(path))
    return network.to(map_location).eval()


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
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


def load_matching(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy the tensors whose name and shape fit; the rest of the network stays as it is.

    Returns:
        Names in the network that were not loaded.

    """
    own = network.state_dict()
    fitting = {key: value for key, value in tensors.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    return [key for key in own if key not in fitting]


def load_network(source: str | Path, *, model: str | None = None, class_names: Sequence[str] | None = None) -> Network:
    """A trained network in evaluation mode, from wherever its weights are.

    Args:
        source: zoo name or publisher's name of `protomask.models.published.PUBLISHED` (weights that ship with the
            package, or published ones that are downloaded once), file of ours (.safetensors), file of another codebase
            (.pth, .pkl; see `load_foreign`), or ``hf://owner/repository/file``.
        model: zoo name of the network in a foreign file whose file name does not tell.
        class_names: of a foreign file that was trained on other classes than the zoo's.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown model, or names that contradict the file.

    """
    name = str(source)
    if name in ZOO:
        packaged = ZOO[name].packaged
        if packaged is None:
            return load_foreign(fetch_published(name), model=name, class_names=class_names)
        with as_file(files("protomask") / "weights" / packaged) as path:
            return _load_own(path, model, class_names)
    if name in PUBLISHED:
        return load_foreign(_fetch(name), model=model, class_names=class_names)
    if name.startswith("hf://"):
        owner, _, rest = name.removeprefix("hf://").partition("/")
        repository, _, filename = rest.partition("/")
        if not (owner and repository and filename):
            raise ConfigError(f"source: expected hf://owner/repository/file, got {name!r}")
        path = fetch_from_hub(f"{owner}/{repository}", filename)
    else:
        path = Path(name)
    if not path.is_file():
        raise CheckpointError(f"{name}: no such file, and no model of that name; known models: {', '.join(ZOO)}")
    if path.suffix == ".safetensors":
        return _load_own(path, model, class_names)
    if path.suffix in (".pth", ".pt", ".pkl"):
        return load_foreign(path, model=model, class_names=class_names)
    raise CheckpointError(f"{path}: expected a .safetensors, .pth, .pt or .pkl file")


def _load_own(path: Path, model: str | None, class_names: Sequence[str] | None) -> Network:
    """A file of ours says itself what it holds: what the caller says must agree."""
    network = load_weights(path)
    if model is not None and model != network.config.name:
        other = build_network(model, class_names=network.class_names)
        load_exactly(other, network.state_dict(), source=f"{path}: holds {network.config.name}, got model {model}")
        raise ConfigError(f"model: {path} holds {network.config.name}, got {model}")
    if class_names is not None and tuple(class_names) != network.class_names:
        raise ConfigError(
            f"class_names: {path} brings its own, {', '.join(network.class_names)}; got {', '.join(class_names)}"
        )
    return network


def load_foreign(
    path: str | Path,
    *,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Network:
    """Read a file of another codebase into a new network, in evaluation mode.

    Args:
        path: ``.pth`` of the official YOLACT and Mask Scoring R-CNN, of MMDetection's YOLACT, Mask R-CNN and Mask
            Scoring R-CNN, of maskrcnn-benchmark, of torchvision's Mask R-CNN, or ``.pkl`` of Detectron2's.
        model: zoo name; when not given, the name of an official YOLACT file tells it (``yolact_base_54_800000.pth``),
            and the tensors of all others.
        class_names: of a model trained on other classes than COCO's, where the file does not hold them itself.

    Raises:
        CheckpointError: missing or unreadable file, no model that fits, or keys that do not fit.

    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    if model is not None:
        zoo_entry(model)
    file = read_foreign(path)
    rcnn = rcnn_format(file.tensors)
    if rcnn is not None:
        return _load_rcnn(path, file, rcnn, model, class_names)
    if mmdet_yolact.recognises(file.tensors):
        return _load_mmdet_yolact(path, file, model, class_names)
    name = model if model is not None else model_from_filename(path.name)
    tensors = official_yolact.rename(file.tensors)
    network = build_network(name, class_names=class_names)
    load_exactly(network, fill_counters(network, tensors), source=f"{path} as {name} ({_official(zoo_entry(name))})")
    return network.eval()


def _load_mmdet_yolact(path: Path, file: ForeignFile, model: str | None, class_names: Sequence[str] | None) -> Network:
    """The network of the zoo with MMDetection's conventions."""
    name = model if model is not None else mmdet_yolact.model_of(file.tensors)
    if name is None:
        known = ", ".join(mmdet_yolact.MODEL_OF_BLOCKS.values())
        raise CheckpointError(
            f"{path}: cannot tell the model from the blocks of its backbone, expected those of one of {known}; "
            "say which with the setting model"
        )
    tensors = mmdet_yolact.rename(file.tensors)
    names = class_names or _fitting_names(file, len(tensors.get("semantic.bias", ())))
    network = build_network(name, class_names=names, **mmdet_yolact.CONVENTIONS)
    renamed = fill_counters(network, tensors)
    load_exactly(network, renamed, source=f"{path} as {name} (of MMDetection)")
    return network.eval()


def _load_rcnn(
    path: Path, file: ForeignFile, origin: RCNNFormat, model: str | None, class_names: Sequence[str] | None
) -> Network:
    """A Mask R-CNN or Mask Scoring R-CNN in the conventions it was trained in."""
    tensors = origin.rename(file.tensors)
    source = f"{path} (of {origin.name})"
    found = rcnn_architecture(tensors, source=source)
    name = model if model is not None else _rcnn_model(found, source)
    if not isinstance(zoo_entry(name).preset(), RCNNConfig):
        raise CheckpointError(f"{source}: expected a Mask R-CNN of the zoo to load it as, got model {name}")
    names = class_names or _fitting_names(file, found.num_classes) or coco_names(found.num_classes)
    if names is not None and len(names) != found.num_classes:
        raise CheckpointError(f"{source}: expected {found.num_classes} class names, got {len(names)}")
    network = build_network(
        name,
        class_names=names,
        num_classes=found.num_classes,
        conventions=origin.conventions(path.name, file.config_text),
    )
    load_exactly(network, fill_counters(network, tensors), source=f"{source} as {name}")
    return network.eval()


def _fitting_names(file: ForeignFile, num_classes: int) -> tuple[str, ...] | None:
    """Class names that a file holds, unless they are not those of its tensors."""
    return file.class_names if file.class_names and len(file.class_names) == num_classes else None


def _rcnn_model(found: RCNNArchitecture, source: str) -> str:
    """Zoo name of an architecture."""
    wanted = (found.backbone, found.version == "v2", found.mask_iou_head)
    for name, entry in ZOO.items():
        preset = entry.preset()
        if not isinstance(preset, RCNNConfig):
            continue
        if (preset.backbone, preset.convolutional_heads, preset.mask_iou) == wanted:
            return name
    mask_iou = "with" if found.mask_iou_head else "without"
    raise CheckpointError(
        f"{source}: no model of the zoo has a {found.backbone} and {found.version} heads {mask_iou} mask IoU head"
    )


def _official(entry: ZooEntry) -> str:
    return f"official name {entry.official_name}" if entry.official_name else "no official name"


def fill_counters(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill in the batch norm counters that files of old PyTorch versions lack; they play no part in prediction."""
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked") and key not in tensors:
            tensors[key] = torch.zeros_like(value)
    return tensors


def model_from_filename(filename: str) -> str:
    """Zoo name from an official file name such as ``yolact_base_54_800000.pth``.

    Raises:
        CheckpointError: the name says nothing; the message says how to name the model.

    """
    stem = filename.partition(".")[0]
    names = {entry.official_name: name for name, entry in ZOO.items() if entry.official_name}
    names |= {name: name for name in ZOO}
    fitting = [official for official in names if stem == official or stem.startswith(f"{official}_")]
    if not fitting:
        raise CheckpointError(
            f"{filename}: cannot tell the model from the file name; say which with the setting model, "
            f"one of {', '.join(ZOO)}"
        )
    return names[max(fitting, key=len)]


def fetch_published(name: str) -> Path:
    """The published weights file of a zoo name, downloaded once and cached by `huggingface_hub` or `torch.hub`.

    Raises:
        CheckpointError: nobody publishes this model, or it is neither cached nor reachable.

    """
    entry = zoo_entry(name)
    if entry.published is not None:
        return _fetch(entry.published)
    if entry.repository is None or entry.filename is None:
        raise CheckpointError(
            f"{name}: no published weights to download; train it (protomask train), or load a file of "
            f"yours with load('FILE.pth', model={name!r})"
        )
    return fetch_from_hub(entry.repository, entry.filename)


def _fetch(published: str) -> Path:
    weights = PUBLISHED[published]
    return fetch_url(weights.url, weights.sha256_prefix)


def fetch_from_hub(repository: str, filename: str) -> Path:
    """A file of a Hugging Face repository, from the cache or downloaded.

    Raises:
        CheckpointError: neither cached nor reachable; the message says what to do.

    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        return Path(hf_hub_download(repository, filename))
    except Exception as error:  # the hub raises its own, httpx's and the operating system's errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{repository}/{filename}: not in the cache ({HF_HUB_CACHE}) and the download failed: "
            f"{type(error).__name__}: {reason[0]}\n"
            f"Either connect to the internet and try again, or download the file from the Hugging Face repository "
            f"{repository} on another machine and load it by its path: load('{filename}')."
        ) from error
