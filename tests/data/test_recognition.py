from __future__ import annotations

import json
from pathlib import Path

import pytest

import exports
from coco_folders import write_coco
from protomask.data.coco.layout import open_dataset
from protomask.data.recognition import conversion_hint, recognise
from protomask.errors import DataError

OUTLINE = [[1, 1, 5, 1, 5, 4, 1, 4]]


@pytest.fixture
def cvat(tmp_path: Path) -> Path:
    exports.write_cvat(write_coco(tmp_path / "coco", {"a.jpg": [("cell", OUTLINE)]}), tmp_path / "my export 1.5")
    return tmp_path / "my export 1.5"


def test_the_command_can_be_typed(cvat: Path) -> None:
    hint = conversion_hint(cvat)
    assert hint == (
        f"; this looks like CVAT (annotations.xml): `protomask data convert '{cvat}' '{cvat}-converted' "
        f"--split 0.8,0.2` makes a data set of it"
    )


def test_a_file_alone_and_the_folder_one_is_in(cvat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cvat / "annotations.xml"
    assert f"convert '{file}' '{cvat / 'annotations-converted'}' --split" in conversion_hint(file)
    monkeypatch.chdir(cvat)
    assert f"convert . '{cvat}-converted' --split" in conversion_hint(Path())
    with pytest.raises(DataError, match=r"this looks like CVAT \(annotations\.xml\)"):
        open_dataset(".")


@pytest.mark.parametrize("name", ["valid/annotations.json", "images/val/x.json", "instances_val2017.json"])
def test_a_split_is_not_proposed_where_there_is_one(cvat: Path, name: str) -> None:
    (cvat / name).parent.mkdir(parents=True, exist_ok=True)
    (cvat / name).write_text("{}")
    assert "--split" not in conversion_hint(cvat)


def test_of_several_formats_one_is_chosen_and_all_are_named(cvat: Path) -> None:
    (cvat / "export.json").write_text(json.dumps([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}]))
    assert list(recognise(cvat)) == ["cvat", "label-studio"]
    hint = conversion_hint(cvat)
    assert "CVAT (annotations.xml) or Label Studio (export.json with tasks)" in hint
    assert "--from cvat --split" in hint


def test_what_is_no_data_set_gets_no_hint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[{}]")
    (tmp_path / "page.xml").write_text("<annotation/>")
    (tmp_path / "table.csv").write_text("a,b")
    for path in (tmp_path, tmp_path / "broken.json", tmp_path / "list.json", tmp_path / "nothing"):
        assert conversion_hint(path) == ""
