from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protomask.data.formats.records import DatasetRecord, ImageRecord, ObjectRecord
from protomask.data.formats.splitting import split_dataset


def dataset(labels: list[set[int]], names: list[str] | None = None) -> DatasetRecord:
    images = [
        ImageRecord(
            source=b"",
            name=names[index] if names else f"{index}.jpg",
            size=(1, 1),
            objects=[ObjectRecord(label=label, segmentation=[]) for label in sorted(own)],
        )
        for index, own in enumerate(labels)
    ]
    return DatasetRecord(class_names=("a", "b", "c"), splits={"train": images})


def names_by_split(split: DatasetRecord) -> dict[str, list[str]]:
    return {name: [image.name for image in images] for name, images in split.splits.items()}


@given(
    st.lists(st.sets(st.integers(0, 2)), min_size=3, max_size=40),
    st.sampled_from([(0.8, 0.2), (0.5, 0.5), (0.7, 0.2, 0.1), (0.1, 0.9)]),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_image_is_in_one_split_of_the_asked_size(
    labels: list[set[int]], shares: tuple[float, ...], seed: int
) -> None:
    found = names_by_split(split_dataset(dataset(labels), shares, seed=seed))
    assert list(found) == ["train", "val", "test"][: len(shares)]
    assert sorted(name for names in found.values() for name in names) == sorted(f"{i}.jpg" for i in range(len(labels)))
    for share, names in zip(shares, found.values(), strict=True):
        assert names
        assert abs(len(names) - share * len(labels)) <= len(shares)


def test_rare_classes_get_their_share() -> None:
    labels = [{0}] * 80 + [{0, 1}] * 15 + [{2}] * 5
    split = split_dataset(dataset(labels), (0.8, 0.2))
    counts = [
        [sum(any(found.label == label for found in image.objects) for image in images) for label in range(3)]
        for images in split.splits.values()
    ]
    assert np.allclose(counts, [[76, 12, 4], [19, 3, 1]], atol=1)


def test_a_seed_gives_the_same_split_again() -> None:
    labels = [{index % 3} for index in range(30)]
    splits = [names_by_split(split_dataset(dataset(labels), (0.8, 0.2), seed=seed)) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_together(seed: int) -> None:
    names = [f"frames/video{number % 5}_{number:03d}.jpg" for number in range(40)]
    labels = [{number % 3} for number in range(40)]
    found = names_by_split(split_dataset(dataset(labels, names), (0.6, 0.4), seed=seed, group_by="^[^_]+"))
    videos = [{name.split("_")[0] for name in part} for part in found.values()]
    assert not videos[0] & videos[1]
    assert [len(part) for part in found.values()] == [24, 16]
