"""Where weights come from: a name, an address or a file becomes a network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from protomask.checkpoints.download import fetch_from_hub, fetch_url
from protomask.checkpoints.formats import load_foreign
from protomask.checkpoints.io import load_exactly, load_weights
from protomask.errors import CheckpointError, ConfigError
from protomask.models.build import build_network
from protomask.models.network import Network
from protomask.models.published import PUBLISHED
from protomask.models.zoo import ZOO, zoo_entry


def load_network(source: str | Path, *, model: str | None = None, class_names: Sequence[str] | None = None) -> Network:
    """A trained network in evaluation mode, from wherever its weights are.

    Args:
        source: zoo name or publisher's name of `protomask.models.published.PUBLISHED` (weights that ship with the
            package, or published ones that are downloaded once), file of ours (.safetensors), file of another codebase
            (.pth, .pkl; see `protomask.checkpoints.formats.load_foreign`), or ``hf://owner/repository/file``.
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
            f"{name}: no published weights to download; train it, or load a file "
            f"of yours with load('FILE.pth', model={name!r})"
        )
    return fetch_from_hub(entry.repository, entry.filename)


def _fetch(published: str) -> Path:
    weights = PUBLISHED[published]
    return fetch_url(weights.url, weights.sha256_prefix)
