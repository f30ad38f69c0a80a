"""Files appear whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from protomask.errors import ConfigError, DataError, ProtomaskError
from protomask.files import (
    LOCK_NAME,
    NewFile,
    check_exists,
    is_locked,
    locked_folder,
    names_in,
    near_path,
    replacing,
    temporary_name,
)


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


def run_apart(code: str, *arguments: str) -> str:
    """Run Python code in another process; returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).strip()


def test_temporary_names_are_new_and_short_enough_for_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120)
    assert temporary_name(path) != temporary_name(path)
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_nothing_is_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    temporary = tmp_path / ".out.json.guessed.protomask.tmp"
    temporary.symlink_to(victim)
    monkeypatch.setattr("protomask.files.temporary_name", lambda path: temporary)
    with pytest.raises(ProtomaskError, match=r"out\.json: cannot be written: File exists"):
        write_half(tmp_path / "out.json", ValueError())
    (tmp_path / "link").symlink_to(victim)
    monkeypatch.undo()
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_threads_that_write_one_path_do_not_meet(tmp_path: Path) -> None:
    path, errors = tmp_path / "t", list[BaseException]()

    def write(content: bytes) -> None:
        try:
            for _ in range(30):
                with replacing(path) as file:
                    for _ in range(20):
                        file.write(content * 500)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in (b"a", b"b")]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    assert not errors
    assert seen <= {b"a" * 10000, b"b" * 10000}
    assert list(tmp_path.iterdir()) == [path]


LEAVES_A_FILE = """
import os, sys
from pathlib import Path
from protomask.files import NewFile
new = NewFile(Path(sys.argv[1]))
new.file.write(b"half")
new.file.flush()
os._exit(9)
"""
WRITES = """
import sys
from pathlib import Path
from protomask.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"new")
"""


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    foreign = tmp_path / ".foreign.123.tmp"
    foreign.write_text("somebody's own")
    alive = NewFile(tmp_path / "alive")
    run_apart(LEAVES_A_FILE, str(tmp_path / "dead"))
    assert len(list(tmp_path.iterdir())) == 3
    assert run_apart(WRITES, str(tmp_path / "other")) == ""
    assert sorted(path.name.split(".")[1] for path in tmp_path.glob(".*")) == ["alive", "foreign"]
    alive.complete()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".foreign.123.tmp", "alive", "other"]


LOCKS = """
import sys
from pathlib import Path
from protomask.errors import ConfigError
from protomask.files import is_locked, locked_folder
print(is_locked(Path(sys.argv[1])))
try:
    with locked_folder(Path(sys.argv[1]), "output"):
        print("locked")
except ConfigError as error:
    print(error)
"""
HOLDS = """
import os, sys
from pathlib import Path
from protomask.files import locked_folder
with locked_folder(Path(sys.argv[1]), "output"):
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(9)
"""


def test_a_folder_is_written_by_one_process_until_it_ends_in_whatever_way(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    assert is_locked(folder)
    with pytest.raises(ConfigError, match=r"output: expected a folder that nothing else is writing, got .*new, where"):
        locked_folder(folder, "output").__enter__()
    holder.kill()
    holder.communicate()
    assert (folder / LOCK_NAME).exists()
    assert run_apart(LOCKS, str(folder)).splitlines() == ["False", "locked"]
    assert not list(folder.iterdir())


def test_a_folder_is_written_by_one_thread(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked_folder(tmp_path, "output"):
        assert is_locked(tmp_path)
        with pytest.raises(ConfigError, match="output"):
            locked_folder(tmp_path, "output").__enter__()
        assert run_apart(LOCKS, str(tmp_path)).splitlines()[0] == "True"
    with locked_folder(tmp_path, "output"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("runs/shapes/best.txt", "runs/shapes/best.txt"),
        ("runs/shapes/bets.txt", "runs/shapes/best.txt"),
        ("run/shape/best.txt", "runs/shapes/best.txt"),
        ("runs/other/best.txt", None),
        ("runs/shapes/best.txt/more", None),
        ("zzz", None),
        ("run", "runs"),
    ],
)
def test_paths_spelled_almost_like_one_that_exists(
    name: str, near: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "shapes").mkdir(parents=True)
    (tmp_path / "runs" / "shapes" / "best.txt").touch()
    (tmp_path / ".hidden").touch()
    assert near_path(tmp_path / name) == (None if near is None else tmp_path / near)
    monkeypatch.chdir(tmp_path)
    assert near_path(Path(name)) == (None if near is None else Path(near))
    assert names_in(Path()) == ["runs"]
    assert names_in(Path("nowhere")) == []


def test_what_must_exist(tmp_path: Path) -> None:
    (tmp_path / "results.json").touch()
    check_exists(tmp_path / "results.json")
    with pytest.raises(DataError, match=r"result\.json: no such file or folder; did you mean .*results\.json\?$"):
        check_exists(tmp_path / "result.json")
    with pytest.raises(DataError, match=r"other: no such file or folder$"):
        check_exists(tmp_path / "other")
