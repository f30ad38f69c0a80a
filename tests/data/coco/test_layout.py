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
    assert paths.splits["val"].images == tmp_path / "images" / "val"
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


def make(folder: Path, *splits: str) -> Path:
    """A folder with these splits, whose annotation files are empty."""
    for split in splits:
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / f"{split}.json").touch()
        (folder / "images" / split).mkdir(parents=True)
    return folder


def as_yaml(folder: Path, *splits: str) -> Path:
    lines = [f"{split}_annotations: annotations/{split}.json\n{split}_images: images/{split}\n" for split in splits]
    (folder / "set.yaml").write_text("".join(lines))
    return folder / "set.yaml"


def test_any_split(tmp_path: Path) -> None:
    names = ("zoo", "val", "train", "2024_night")
    make(tmp_path, *names)
    (tmp_path / "annotations" / "captions.json").touch()  # without images
    for dataset in (tmp_path, as_yaml(tmp_path, *names)):
        for split in names:
            paths = open_dataset(dataset, (split,))
            assert paths.splits[split] == (tmp_path / "annotations" / f"{split}.json", tmp_path / "images" / split)
            assert sorted(paths.splits) == sorted(names)
    assert list(open_dataset(tmp_path).splits) == ["train", "val", "2024_night", "zoo"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("tset", r"tset.*; its splits are train, val, test; did you mean 'test'\?$"),
        ("other", r"other.*; its splits are train, val, test$"),
        ("half", r"half_images is missing, expected the folder .*images.half; its splits are train, val, test$"),
        ("../up", r"\.\./up_annotations is missing"),
    ],
)
def test_a_split_that_is_not_there(tmp_path: Path, split: str, message: str) -> None:
    make(tmp_path, "train", "val", "test")
    (tmp_path / "annotations" / "half.json").touch()
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path, (split,))
    if split in ("tset", "other"):
        with pytest.raises(DataError, match=message):
            open_dataset(as_yaml(tmp_path, "train", "val", "test"), (split,))


def test_a_data_set_of_one_split_is_no_training_set(tmp_path: Path) -> None:
    make(tmp_path, "test")
    assert list(open_dataset(tmp_path, ("test",)).splits) == ["test"]
    with pytest.raises(DataError, match=r"train_annotations is missing.*; its splits are test$"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"expected the split 'train'; its splits are test$"):
        open_dataset(as_yaml(tmp_path, "test"))


def test_a_yaml_may_name_the_only_classes(tmp_path: Path) -> None:
    file = as_yaml(make(tmp_path, "train", "val"), "train", "val")
    assert open_dataset(file).classes is None
    file.write_text(file.read_text() + "classes: [dog, cat]\n")
    assert open_dataset(file).classes == ("dog", "cat")
    assert open_dataset(file, classes=["dog"]).classes == ("dog",)
    file.write_text(file.read_text().replace("[dog, cat]", "dog"))
    with pytest.raises(DataError, match=r"classes: expected a list of names; got 'dog'"):
        open_dataset(file)
