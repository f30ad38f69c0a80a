"""Which images inputs of bulk prediction stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

import pyarrow
from pyarrow import parquet

from image_folders import write_images
from protomask.bulk.listing import image_rows
from protomask.bulk.options import BulkOptions
from protomask.bulk.schema import ImageRow
from protomask.bulk.tables import TableImages
from protomask.errors import ConfigError, DataError
from protomask.storage import place_of


def listed(*inputs: str | Path, **options: Any) -> list[ImageRow]:
    return list(image_rows([str(given) for given in inputs], BulkOptions(output="out", **options)))


def names(rows: list[ImageRow]) -> list[str]:
    return [Path(row.image).name for row in rows]


def write_table(path: Path, row_group_size: int = 3, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, row_group_size=row_group_size)
    return path


def test_folders_globs_files_and_addresses(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos", ["b.jpg", "a.PNG", "sub/c.jpg"])
    (folder / "notes.md").touch()
    (folder / "x.parquet").touch()  # beside images it is none of our business
    assert names(listed(folder)) == ["a.PNG", "b.jpg"]
    assert names(listed(folder, recursive=True)) == ["a.PNG", "b.jpg", "c.jpg"]
    assert names(listed(folder / "**" / "*.jpg")) == ["b.jpg", "c.jpg"]
    assert listed(folder / "notes.md") == [ImageRow(str(folder / "notes.md"), str(folder / "notes.md"))]
    address = "https://example.org/a.jpg"
    assert listed(address) == [ImageRow(address, address)]


def test_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listing = tmp_path / "list.txt"
    listing.write_text("a.jpg\n\n  sub/ö.jpg \r\ns3://bucket/x.jpg\nhttps://example.org/y.jpg")
    rows = listed(listing)
    assert [row.id for row in rows] == ["a.jpg", "sub/ö.jpg", "s3://bucket/x.jpg", "https://example.org/y.jpg"]
    assert rows[0].image == (tmp_path / "a.jpg").as_posix()
    assert [row.image for row in rows[2:]] == [row.id for row in rows[2:]]
    assert listed(listing, image_root="s3://b/all")[1].image == "s3://b/all/sub/ö.jpg"


def test_parquet_with_paths(tmp_path: Path) -> None:
    file = write_table(tmp_path / "t.parquet", image=["a.jpg", None, "/x/b.jpg"], key=[7, 8, 9])
    assert listed(file, image_root="/data") == [
        ImageRow("a.jpg", "/data/a.jpg"),
        ImageRow(f"{file}#1", str(file), 1),
        ImageRow("/x/b.jpg", "/x/b.jpg"),
    ]
    assert [row.id for row in listed(file, id_column="key")] == ["7", "8", "9"]
    coded = pyarrow.array(["a.jpg", "a.jpg"]).dictionary_encode()
    assert len(listed(write_table(tmp_path / "d.parquet", image=coded))) == 2


def test_parquet_with_bytes(tmp_path: Path) -> None:
    contents = [bytes([number]) * 5 for number in range(8)]
    file = write_table(tmp_path / "set" / "b.parquet", pixels=contents)
    rows = listed(tmp_path / "set", image_column="pixels")
    assert rows == [ImageRow(f"{file}#{number}", str(file), number) for number in range(8)]
    reader = TableImages("pixels")
    for number in (0, 1, 2, 3, 7, 6, 2, 2, 5):
        assert reader.read(place_of(str(file)), number) == contents[number]


def test_structs_of_hugging_face(tmp_path: Path) -> None:
    values = [{"bytes": b"x", "path": "p"}, {"bytes": None, "path": "/q.jpg"}, {"bytes": None, "path": None}]
    file = write_table(tmp_path / "h.parquet", image=values)
    assert len(listed(file)) == 3
    reader = TableImages("image")
    assert [reader.read(place_of(str(file)), row) for row in (0, 1)] == [b"x", "/q.jpg"]
    with pytest.raises(DataError, match=r"h\.parquet: row 2 of column image has no image"):
        reader.read(place_of(str(file)), 2)
    with pytest.raises(DataError, match="there are 3 rows"):
        reader.read(place_of(str(file)), 3)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    file = write_table(tmp_path / "t.parquet", image=["a"], number=[1])
    for options, expected in [
        ({"image_column": "picture"}, r"image_column: expected one of image, number in .*t\.parquet, got 'picture'"),
        ({"id_column": "key"}, "id_column: expected one of image, number"),
        ({"image_column": "number"}, "image_column: expected texts, bytes, or structs .* got int64"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            listed(file, **options)
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"no\.parquet: expected a Parquet file"):
        listed(tmp_path / "no.parquet")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        listed(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: stands for no image"):
        listed(tmp_path / "empty")
