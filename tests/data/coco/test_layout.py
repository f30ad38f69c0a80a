from __future__ import annotations

from pathlib import Path

import pytest

from protomask.data.coco.layout import DatasetPaths, open_dataset
from protomask.errors import DataError


def test_open_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_annotations is missing, expected the file .*annotations.train\.json"):
        open_dataset(tmp_path)
    for part in ("annotations/train.json", "annotations/val.json", "images/train/x", "images/val/x"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    paths = open_dataset(tmp_path)
    assert paths.val_images == tmp_path / "images" / "val"
    yaml = tmp_path / "set.yaml"
    yaml.write_text(
        "train_annotations: annotations/train.json\ntrain_images: images/train\n"
        "val_annotations: annotations/val.json\nval_images: images/val\n"
    )
    assert open_dataset(yaml) == paths == DatasetPaths(**vars(paths))
    (tmp_path / "annotations" / "val.json").unlink()
    with pytest.raises(DataError, match=r"val_annotations is missing, expected the file .*annotations.val\.json"):
        open_dataset(yaml)


@pytest.mark.parametrize("text", ["train_annotations: x", "[1]", "a: [", "val_images: 3", ""])
def test_open_dataset_bad_yaml(tmp_path: Path, text: str) -> None:
    file = tmp_path / "set.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"set\.yaml: (expected the keys|cannot be read as YAML)"):
        open_dataset(file)


def test_open_dataset_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a path that does not exist"):
        open_dataset(tmp_path / "nothing")
