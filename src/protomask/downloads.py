"""Published weights from the web: downloaded once, checked, and kept where PyTorch and the hub keep theirs.

Needs no PyTorch. Where there is no network, the error comes within seconds and says how to do without.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from protomask.errors import CheckpointError
from protomask.files import replacing

_TIMEOUT_SECONDS = 10
_HUB_TIMEOUT_SECONDS = 5
_CHUNK_BYTES = 1 << 20


def fetch_url(url: str, sha256_prefix: str) -> Path:
    """A file of weights, from the cache (the checkpoints folder of `torch.hub`) or downloaded.

    Args:
        url: of the file.
        sha256_prefix: first hexadecimal digits of the SHA-256 of its content, which publishers put into its name.

    Raises:
        CheckpointError: neither cached nor reachable (the message says what to do), or content other than expected.

    """
    from http.client import HTTPException
    from urllib.request import urlopen

    folder = _torch_folder()
    path = folder / Path(unquote(urlsplit(url).path)).name
    if path.is_file():
        if sha256_prefix:
            _check_digest(path, sha256_prefix)
        return path
    digest = hashlib.sha256()
    try:
        with (
            replacing(path, error=None) as file,
            urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
            _bar(path.name, response.headers.get("Content-Length")) as bar,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                bar.update(len(chunk))
            if not digest.hexdigest().startswith(sha256_prefix.lower()):
                raise CheckpointError(
                    f"{url}: expected a file whose SHA-256 begins with {sha256_prefix}, got {digest.hexdigest()}; "
                    f"nothing was kept, try again"
                )
    except (OSError, HTTPException) as error:
        raise CheckpointError(
            f"{path.name}: not in the cache ({folder}) and the download failed: {type(error).__name__}: {error}\n"
            f"Either connect to the internet and try again, or download {url} on another machine and put it into that "
            f"folder."
        ) from error
    return path


def stated_digest(url: str) -> str:
    """First digits of the SHA-256 of a file, which publishers put at the end of its name; empty where they do not."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", url)
    return match[1] if match else ""


def _bar(name: str, total: str | None) -> Any:
    """The hub's progress bar: on a terminal, and nowhere else."""
    from huggingface_hub import utils

    hub_utils: Any = utils
    return hub_utils.tqdm(desc=name, total=int(total) if total else None, unit="B", unit_scale=True, disable=None)


def _torch_folder() -> Path:
    """The checkpoints folder of `torch.hub`, found without importing PyTorch."""
    torch = sys.modules.get("torch")
    if torch is not None:  # its folder may have been changed
        return Path(torch.hub.get_dir()) / "checkpoints"
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", caches / "torch")).expanduser() / "hub" / "checkpoints"


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
        CheckpointError: neither cached nor reachable (the message says what to do), or content other than expected.

    """
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        with _quiet_hub():
            _ask_once(repository, filename, revision)
            path = Path(hf_hub_download(repository, filename, revision=revision, etag_timeout=_HUB_TIMEOUT_SECONDS))
    except Exception as error:  # the hub raises its own, its HTTP client's and the operating system's errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        url = hf_hub_url(repository, filename, revision=revision)
        raise CheckpointError(
            f"{repository}/{filename}: not in the cache ({HF_HUB_CACHE}) and the download failed: "
            f"{type(error).__name__}: {reason[0]}\n"
            f"Either connect to the internet and try again, or download {url} on another machine and give the path of "
            f"that file instead of its name."
        ) from error
    stated = path.resolve().name  # large files lie in the cache under their digest
    known = sha256 or (stated if re.fullmatch("[0-9a-f]{64}", stated) else "")
    if known:
        _check_digest(path, known)
    return path


def check_reachable(repository: str, *filenames: str) -> None:
    """Check that another package, which waits long for the hub, will get one of these files from it.

    Args:
        repository: owner/name.
        filenames: any of which would do.

    Raises:
        CheckpointError: none is in the cache, and the hub cannot be reached.

    """
    if any(_is_cached(repository, filename, None) for filename in filenames):
        return
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _quiet_hub():
            _ask_once(repository, filenames[0], None)
    except HfHubHTTPError:
        return  # an answer, if only that it has another file
    except Exception as error:  # as in fetch_from_hub
        raise CheckpointError(
            f"{repository}: not in the cache and the download failed: {type(error).__name__}: {error}\n"
            f"Either connect to the internet and try again, or download {hf_hub_url(repository, filenames[0])} on "
            "another machine and give the path of that file."
        ) from error


def _is_cached(repository: str, filename: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, filename, revision=revision), str)


def _ask_once(repository: str, filename: str, revision: str | None) -> None:
    """Ask the hub for a file that is not in the cache: its own download would ask again and again, for half a minute.

    Raises whatever the hub raises where it does not answer or has no such file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if not _is_cached(repository, filename, revision):
        get_hf_file_metadata(hf_hub_url(repository, filename, revision=revision), timeout=_HUB_TIMEOUT_SECONDS)


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """The hub's client logs every attempt; what failed is said once, by the error."""
    from huggingface_hub.utils import logging

    hub_logging: Any = logging
    former = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(former)
