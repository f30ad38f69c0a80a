"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from protomask.errors import DataError, ProtomaskError
from protomask.files import replacing


def write_half(path: Path, interruption: BaseException) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise interruption


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_takes_the_place_of_the_old_at_the_end(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "folder" / "file.txt"
    with replacing(path, durable=durable) as file:
        file.write(b"old")
    with replacing(path, durable=durable) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [ValueError("wrong"), KeyboardInterrupt()])
def test_an_interruption_leaves_the_old_content_and_nothing_else(tmp_path: Path, interruption: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(interruption)):
        write_half(path, interruption)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ProtomaskError, DataError])
def test_an_error_of_the_system_names_the_file(tmp_path: Path, error: type[ProtomaskError]) -> None:
    with (
        pytest.raises(error, match=r"file\.txt: cannot be written: No space left on device") as told,
        replacing(tmp_path / "file.txt", error=error),
    ):
        raise OSError(28, "No space left on device")
    assert type(told.value) is error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtomaskError, match="cannot be written"), replacing(tmp_path / "file" / "inside"):
        pass


def test_errors_of_the_system_can_be_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError), replacing(tmp_path / "file.txt", error=None):
        raise TimeoutError
