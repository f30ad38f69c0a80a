"""Published weights from the web: downloaded once, checked, and kept where PyTorch keeps its own."""

from __future__ import annotations

import hashlib
import re
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import torch

from protomask.errors import CheckpointError
from protomask.files import replacing

_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20


def fetch_url(url: str, sha256_prefix: str) -> Path:
    """A file of weights, from the cache (the checkpoints folder of `torch.hub`) or downloaded.

    Args:
        url: of the file.
        sha256_prefix: first hexadecimal digits of the SHA-256 of its content, which publishers put into its name.

    Raises:
        CheckpointError: neither cached nor reachable (the message says what to do), or another content than expected.

    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(unquote(urlsplit(url).path)).name
    if path.is_file():
        if sha256_prefix:
            _check_digest(path, sha256_prefix)
        return path
    digest = hashlib.sha256()
    try:
        with replacing(path, error=None) as file, urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            if not digest.hexdigest().startswith(sha256_prefix.lower()):
                raise CheckpointError(
                    f"{url}: expected a file whose SHA-256 begins with {sha256_prefix}, got {digest.hexdigest()}; "
                    f"nothing was kept, try again"
                )
    except (OSError, HTTPException) as error:
        raise CheckpointError(
            f"{path.name}: not in the cache ({folder}) and the download failed: {type(error).__name__}: {error}\n"
            f"Either connect to the internet and try again, or download {url} on another machine and put it into that "
            f"folder, or load it by its path: load('{path.name}')."
        ) from error
    return path


def _check_digest(path: Path, sha256_prefix: str) -> None:
    """Raises: CheckpointError unless the SHA-256 of a file begins so."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256_prefix.lower()):
        raise CheckpointError(
            f"{path}: expected a file whose SHA-256 begins with {sha256_prefix}, got {digest}; it is damaged or "
            "another one: remove it, and it is downloaded again"
        )


def fetch_from_hub(repository: str, filename: str, *, revision: str | None = None, sha256: str | None = None) -> Path:
    """A file of a Hugging Face repository, from the cache or downloaded.

    Args:
        repository: owner/name.
        filename: in the repository.
        revision: commit, tag or branch; the main branch when not given.
        sha256: of the content; that which the hub states, where it does, when not given.

    Raises:
        CheckpointError: neither cached nor reachable (the message says what to do), or another content than expected.

    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        path = Path(hf_hub_download(repository, filename, revision=revision))
    except Exception as error:  # the hub raises its own, httpx's and the operating system's errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{repository}/{filename}: not in the cache ({HF_HUB_CACHE}) and the download failed: "
            f"{type(error).__name__}: {reason[0]}\n"
            f"Either connect to the internet and try again, or download the file from the Hugging Face repository "
            f"{repository} on another machine and load it by its path: load('{filename}')."
        ) from error
    stated = path.resolve().name  # large files lie in the cache under their digest
    known = sha256 or (stated if re.fullmatch("[0-9a-f]{64}", stated) else "")
    if known:
        _check_digest(path, known)
    return path
