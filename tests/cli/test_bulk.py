from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pyarrow")

from image_folders import write_images

if TYPE_CHECKING:
    from cli.conftest import Run


def test_bulk(run: Run, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", ["a.jpg", "b.jpg", "c.jpg"], broken=["b.jpg"])
    arguments = ("bulk", folder, "--output", tmp_path / "out", "--workers", 1, "--shard-size", 2)
    outcome = run(*arguments)
    assert outcome.code == 0, outcome.err
    assert "note: no --model was named" in outcome.err
    assert "3 images\n2 of 3 images predicted, 1 failed, " in outcome.out
    assert sorted(path.name for path in (tmp_path / "out" / "shards").iterdir()) == ["000000.parquet", "000001.parquet"]
    again = run(*arguments)
    assert (again.code, "output: expected a new folder, or resume" in again.err) == (2, True)
    resumed = run(*arguments, "--resume", "--json")
    assert resumed.json["images_here"] == 0
    assert (resumed.json["images"], resumed.json["failed"]) == (3, 1)


def test_no_image_at_all_is_failed_work(run: Run, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", [], broken=[])
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").write_bytes(b"no image")
    outcome = run("bulk", folder, "--output", tmp_path / "out", "--workers", 1)
    assert outcome.code == 1
    assert "no image could be read" in outcome.err
