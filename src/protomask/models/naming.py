"""What a caller's name for a model stands for, the same for every verb; needs no PyTorch.

A name is looked up without downloading or reading anything, so a wrong one is answered at once.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from protomask.downloads import fetch_from_hub, fetch_url
from protomask.errors import CheckpointError, ConfigError, UnknownModelError
from protomask.files import names_in, near_path
from protomask.models.published import PUBLISHED
from protomask.models.zoo import ZOO, zoo_entry

OWN_SUFFIXES = (".safetensors",)
FOREIGN_SUFFIXES = (".pth", ".pt", ".pkl", ".params")
EXPORTED_SUFFIXES = (".onnx", ".xml", ".pt2", ".tflite", ".pte", ".param")
_SUFFIXES = (*OWN_SUFFIXES, *FOREIGN_SUFFIXES, *EXPORTED_SUFFIXES)
_HUB = "hf://"
_RUN_WEIGHTS = ("best.safetensors", "last.safetensors")

Kind = Literal["zoo", "published", "own", "foreign", "exported"]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What a name stands for.

    Attributes:
        name: as the caller gave it; of a run folder the path of its weights.
        kind: "zoo" for a name of the zoo, "published" for a name of `protomask.models.published.PUBLISHED`; of a file
            "own" (.safetensors), "foreign" (of another codebase) or "exported" (.onnx, .xml, .pt2, .tflite, .pte,
            .param).
        path: file on this machine; None for names, and for files of the hub, until they are `fetched`.
        hub: repository, file and revision of a file of the hub.

    """

    name: str
    kind: Kind
    path: Path | None = None
    hub: tuple[str, str, str | None] | None = None

    @property
    def packaged(self) -> str | None:
        """File name of weights that ship with the package, where these do."""
        return ZOO[self.name].packaged if self.kind == "zoo" else None

    def fetched(self) -> Self:
        """The same with a file on this machine, downloaded once; weights in the package need none.

        Raises:
            CheckpointError: nobody publishes these weights, or they are neither cached nor reachable.

        """
        if self.path is not None or self.packaged is not None:
            return self
        try:
            if self.hub is not None:
                return replace(self, path=_fetch_hub_file(*self.hub))
            return replace(self, path=fetch_published(self.name))
        except CheckpointError as error:
            shipped = ", ".join(name for name, entry in ZOO.items() if entry.packaged)
            raise CheckpointError(f"{error}\nModels that need no download: {shipped}") from error


def find_model(name: str | Path) -> ModelSource:
    """Look up what a name stands for; nothing is downloaded or read.

    Args:
        name: zoo name; publisher's name of `protomask.models.published.PUBLISHED`; file of ours (.safetensors), of
            another codebase (.pth, .pt, .pkl, .params), or of `protomask export` (.onnx, .xml, .pt2, .tflite,
            .pte, .param); run folder of a training, which stands for its best weights; or ``hf://owner/repository/file``
            with any of these files, with ``@revision`` behind the repository to pin it to a commit or tag.

    Raises:
        CheckpointError: there is no such file; the message says what is spelled almost like it.
        UnknownModelError: likewise, for a word that is not a path.
        ConfigError: not a name, or not a complete address.

    """
    if not isinstance(name, str | os.PathLike) or not str(name):
        raise ConfigError(f"model: expected a name, file, run folder or hf:// address, got {name!r:.200}")
    text = str(name)
    if text in ZOO:
        return ModelSource(name=text, kind="zoo")
    if text in PUBLISHED:
        return ModelSource(name=text, kind="published")
    if text.startswith(_HUB):
        return _find_on_hub(text)
    path = Path(text)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:  # too long a name, a NUL in it
        raise CheckpointError(f"{text}: cannot be read: {error}") from error
    if is_folder:
        path = run_weights(path)
        return ModelSource(name=str(path), kind="own", path=path)
    if not is_file:
        raise _missing(text)
    return ModelSource(name=text, kind=_kind(path), path=path)


def run_weights(folder: Path) -> Path:
    """The weights of a run folder: the best ones, else the last ones.

    Raises:
        CheckpointError: the folder holds none; the message names runs inside it.

    """
    for name in _RUN_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    inside = [str(folder / name) for name in names_in(folder) if _is_model(folder / name)]
    raise CheckpointError(
        f"{folder}: expected the folder of a training run, found no weights in it{_did_you_mean(inside)}"
    )


def fetch_published(name: str) -> Path:
    """The published weights file of a zoo name or publisher's name, downloaded once and cached.

    Raises:
        CheckpointError: nobody publishes this model, or it is neither cached nor reachable.

    """
    entry = None if name in PUBLISHED else zoo_entry(name)
    elsewhere = name if entry is None else entry.published
    if elsewhere is not None:
        weights = PUBLISHED[elsewhere]
        return fetch_url(weights.url, weights.sha256_prefix)
    if entry is None or entry.repository is None or entry.filename is None:
        raise CheckpointError(
            f"{name}: no published weights to download; train it, or load a file "
            f"of yours with load('FILE.pth', model={name!r})"
        )
    return fetch_from_hub(entry.repository, entry.filename, revision=entry.revision, sha256=entry.sha256)


def _find_on_hub(address: str) -> ModelSource:
    owner, _, rest = address.removeprefix(_HUB).partition("/")
    repository, _, filename = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not (owner and repository and filename):
        raise ConfigError(
            f"source: expected hf://owner/repository/file or .../repository@revision/file, got {address!r}"
        )
    place = (f"{owner}/{repository}", filename, revision or None)
    return ModelSource(name=address, kind=_kind(Path(filename)), hub=place)


def _fetch_hub_file(repository: str, filename: str, revision: str | None) -> Path:
    path = fetch_from_hub(repository, filename, revision=revision)
    if filename.endswith((".xml", ".param")):  # OpenVINO and ncnn keep the weights beside it
        fetch_from_hub(repository, f"{filename.rpartition('.')[0]}.bin", revision=revision)
    return path


def _kind(path: Path) -> Kind:
    if path.suffix in OWN_SUFFIXES:
        return "own"
    if path.suffix in FOREIGN_SUFFIXES:
        return "foreign"
    if path.suffix in EXPORTED_SUFFIXES:
        return "exported"
    *most, last = _SUFFIXES
    raise CheckpointError(f"{path}: expected a {', '.join(most)} or {last} file, or a run folder")


def _missing(text: str) -> CheckpointError:
    """The error of a name that stands for nothing."""
    path = Path(text)
    near = near_path(path)
    nearest = [] if near is None or not _is_model(near) else [str(near)]
    if path.suffix in _SUFFIXES or path.name != text:
        beside = [str(path.parent / name) for name in names_in(path.parent) if _is_model(path.parent / name)]
        what = "file" if path.suffix in _SUFFIXES else "file or folder"
        return CheckpointError(f"{text}: no such {what}{_did_you_mean(nearest or beside)}")
    names = difflib.get_close_matches(text, [*ZOO, *PUBLISHED], n=3, cutoff=0.7)
    hint = _did_you_mean([*nearest, *names]) or f"; known models: {', '.join(ZOO)}"
    return UnknownModelError(f"{text}: no such file or folder, and no model of that name{hint}")


def _is_model(path: Path) -> bool:
    """Whether a path is that of a model file or a run folder."""
    if path.is_dir():
        return any((path / name).is_file() for name in _RUN_WEIGHTS)
    return path.suffix in _SUFFIXES


def _did_you_mean(choices: list[str]) -> str:
    *most, last = choices[:4] or [""]
    if not last:
        return ""
    return f"; did you mean {', '.join(most)} or {last}?" if most else f"; did you mean {last}?"
