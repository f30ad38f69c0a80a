from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from protomask.checkpoints.download import fetch_from_hub, fetch_url
from protomask.checkpoints.sources import load_network
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
    assert f"load('{published.name}')" in message
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Response:
        reads = 0

        def __enter__(self) -> Response:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, _: int) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise ConnectionResetError("connection reset")
            return CONTENT

    monkeypatch.setattr("protomask.checkpoints.download.urlopen", lambda url, timeout: Response())
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

    def download(repository: str, filename: str, *, revision: str | None) -> str:
        asked.append((repository, filename, revision))
        return str(link)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
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
