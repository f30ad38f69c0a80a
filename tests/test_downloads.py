from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from protomask import downloads
from protomask.checkpoints.sources import load_network
from protomask.downloads import check_reachable, fetch_from_hub, fetch_url, stated_digest
from protomask.errors import CheckpointError

CONTENT = b"weights" * 1000
DIGITS = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "server" / f"model coco-{DIGITS[:8]}.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("digits", [DIGITS[:8], DIGITS[:8].upper(), DIGITS, ""])
def test_a_file_is_downloaded_once(cache: Path, published: Path, digits: str) -> None:
    url = published.as_uri()
    path = fetch_url(url, digits)
    assert path == cache / published.name
    assert path.read_bytes() == CONTENT
    published.unlink()
    assert fetch_url(url, digits) == path
    assert list(cache.iterdir()) == [path]


def test_other_content_is_refused_and_not_kept(cache: Path, published: Path) -> None:
    published.write_bytes(CONTENT[:-1])
    other = hashlib.sha256(CONTENT[:-1]).hexdigest()
    with pytest.raises(CheckpointError, match=rf"SHA-256 begins with {DIGITS[:8]}, got {other}; nothing was kept"):
        fetch_url(published.as_uri(), DIGITS[:8])
    assert list(cache.iterdir()) == []


def test_offline_says_what_to_do(cache: Path, published: Path) -> None:
    published.unlink()
    with pytest.raises(CheckpointError) as caught:
        fetch_url(published.as_uri(), DIGITS[:8])
    message = str(caught.value)
    for part in (published.name, "not in the cache", str(cache), "download failed: URLError", published.as_uri()):
        assert part in message
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        reads = 0
        headers: ClassVar[dict[str, str]] = {"Content-Length": "14000"}

        def __enter__(self) -> Response:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise ConnectionResetError("connection reset")
            return CONTENT

    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Response())
    with pytest.raises(CheckpointError, match="ConnectionResetError: connection reset"):
        fetch_url(published.as_uri(), DIGITS[:8])
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_refused(cache: Path, published: Path) -> None:
    path = fetch_url(published.as_uri(), DIGITS[:8])
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=r"SHA-256 begins with .*remove it"):
        fetch_url(published.as_uri(), DIGITS[:8])


def test_files_of_the_hub_are_pinned_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    blob, link = tmp_path / DIGITS, tmp_path / "model.pth"
    blob.write_bytes(CONTENT)
    link.symlink_to(blob)

    def download(repository: str, filename: str, *, revision: str | None, etag_timeout: float) -> str:
        asked.append((repository, filename, revision))
        return str(link)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url, timeout: None)
    assert fetch_from_hub("owner/name", "model.pth", revision="abc") == link
    assert fetch_from_hub("owner/name", "model.pth", sha256=DIGITS) == link
    with pytest.raises(CheckpointError, match="SHA-256"):
        fetch_from_hub("owner/name", "model.pth", sha256="0" * 64)
    blob.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match=rf"model\.pth: expected a file whose SHA-256 begins with {DIGITS}"):
        fetch_from_hub("owner/name", "model.pth")
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_network("hf://owner/name@v1/model.pth")
    assert asked[-1] == ("owner/name", "model.pth", "v1")
    assert asked[0] == ("owner/name", "model.pth", "abc")


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def fail(url: str, *, timeout: float) -> None:
        asked.append(url)
        assert timeout <= 10
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)  # which would ask again and again
    with pytest.raises(CheckpointError) as caught:
        fetch_from_hub("owner/repository", "folder/a.pth", revision="v1")
    message = str(caught.value)
    assert "not in the cache" in message
    assert "download failed: ConnectionError: no route to host\n" in message
    assert "owner/repository/resolve/v1/folder/a.pth on another machine" in message
    with pytest.raises(CheckpointError, match=r"(?s)^owner/repository: not in the cache.*a\.safetensors on another"):
        check_reachable("owner/repository", "a.safetensors", "a.bin")
    assert len(asked) == 2
    assert not caplog.records


def test_a_file_in_the_cache_of_the_hub_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(CONTENT)
    cached = {"a.pth": str(file)}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name, revision: cached.get(name))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(file))
    assert fetch_from_hub("owner/repository", "a.pth") == file
    check_reachable("owner/repository", "b.pth", "a.pth")


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TORCH_HOME": "/t"}, "/t/hub/checkpoints"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/torch/hub/checkpoints"),
        ({"HOME": "/h"}, "/h/.cache/torch/hub/checkpoints"),
    ],
)
def test_the_folder_of_torch_is_known_without_torch(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with_torch = Path(torch.hub.get_dir()) / "checkpoints"
    monkeypatch.delitem(sys.modules, "torch")
    assert downloads._torch_folder() == Path(folder) == with_torch


@pytest.mark.parametrize(
    ("url", "digits"), [("https://x.y/resnet50-11ad3fa6.pth", "11ad3fa6"), ("https://x.y/resnet50.pth", "")]
)
def test_digests_in_names(url: str, digits: str) -> None:
    assert stated_digest(url) == digits
