from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from protomask.data.coco.dataset import CocoDataset
from protomask.data.synthetic.write import write_dataset
from protomask.data.training.loader import (
    Share,
    TrainBatch,
    Variety,
    batches_per_epoch,
    collate,
    image_batches,
    training_batches,
    validation_batches,
)
from protomask.errors import ConfigError, DataError
from protomask.ops.geometry import ImageGeometry
from protomask.structures.target import Target

GEOMETRY = ImageGeometry(image_size=(24, 32), mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0), antialias=True)


class Noise:
    """Item k: one random image whose first pixels are k, 100 times the scale and whether it mixes, k % 3 objects."""

    def __len__(self) -> int:
        return 11

    def __init__(self) -> None:
        self.recent: dict[int, list[int]] = {}
        self.is_remote = False

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        return random.permutation(len(self))

    def draw(
        self, index: int, *, scale: float = 1.0, mixes: bool = True, recent: Sequence[int] = ()
    ) -> tuple[Tensor, Target]:
        self.recent[index] = list(recent)
        image = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
        image[:, 0, 0] = index
        image[:, 0, 1] = round(100 * scale)
        image[:, 0, 2] = mixes
        count = index % 3
        return image, Target(
            boxes=torch.zeros(count, 4),
            labels=torch.zeros(count, dtype=torch.int64),
            masks=torch.zeros(count, 4, 4, dtype=torch.bool),
            is_crowd=torch.zeros(count, dtype=torch.bool),
            image_size=(4, 4),
            image_id=index,
        )


def run(first: int, last: int, *, batch_size: int = 4, seed: int = 3, **options: Any) -> list[TrainBatch]:
    options = {"num_workers": 0, **options}
    batches = training_batches(
        Noise(), batch_size=batch_size, seed=seed, first_iteration=first, last_iteration=last, **options
    )
    return list(batches)


def ids(batches: list[TrainBatch]) -> list[list[int | None]]:
    return [[target.image_id for target in targets] for _, targets in batches]


def assert_same(first: list[TrainBatch], second: list[TrainBatch]) -> None:
    assert ids(first) == ids(second)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))


def test_collate() -> None:
    images, targets = collate([Noise().draw(k) for k in (0, 1, 2)])
    assert images.shape == (3, 3, 4, 4)
    assert images.dtype == torch.uint8
    assert [len(target) for target in targets] == [0, 1, 2]


def test_collate_names_images_of_different_size() -> None:
    small, target = Noise().draw(1)
    with pytest.raises(DataError, match=r"\(3, 4, 4\) of image 1, \(3, 5, 4\) of image 2"):
        collate([(small, target), (torch.zeros(3, 5, 4, dtype=torch.uint8), Noise().draw(2)[1])])


@pytest.mark.parametrize(("images", "batch_size", "expected"), [(11, 4, 2), (12, 4, 3), (3, 4, 1), (1, 1, 1)])
def test_batches_per_epoch(images: int, batch_size: int, expected: int) -> None:
    assert batches_per_epoch(images, batch_size) == expected


def test_scale_changes_from_step_to_step_alike_for_all_and_mixing_ends() -> None:
    variety = Variety(multi_scale=0.3, plain_from=4)
    everything = run(0, 6, variety=variety)
    scales = [images[:, 0, 0, 1].tolist() for images, _ in everything]
    assert all(len(set(step)) == 1 for step in scales)
    assert len({step[0] for step in scales}) == 6
    assert all(70 <= step[0] <= 130 for step in scales)
    assert [bool(images[0, 0, 0, 2]) for images, _ in everything] == [True] * 4 + [False] * 2
    assert_same(run(2, 6, variety=variety), everything[2:])
    second = run(0, 6, batch_size=2, variety=variety, share=Share(process=1, processes=2))
    assert [int(images[0, 0, 0, 1]) for images, _ in second] == [int(step[0]) for step in scales]


def test_images_are_mixed_with_those_shown_before() -> None:
    dataset = Noise()
    options: dict[str, Any] = {"batch_size": 2, "seed": 3, "last_iteration": 4, "num_workers": 0}
    variety = Variety(plain_from=3, mix_from=3)
    shown = ids(list(training_batches(dataset, first_iteration=0, variety=variety, **options)))
    before = {one: dataset.recent[one] for batch in shown for one in batch if one is not None}
    assert before[shown[2][0] or 0] == before[shown[2][1] or 0] == [shown[0][1], *shown[1]]
    assert before[shown[1][0] or 0][1:] == shown[0]
    assert len(before[shown[0][0] or 0]) == 3
    assert before[shown[3][0] or 0] == []
    resumed = ids(list(training_batches(dataset, first_iteration=2, variety=variety, **options)))
    assert resumed == shown[2:]
    assert dataset.recent == dataset.recent | before


def test_an_epoch_shows_no_image_twice_and_targets_go_with_their_images() -> None:
    batches = run(0, 2)
    assert [len(images) for images, _ in batches] == [4, 4]
    seen = [image_id for batch in ids(batches) for image_id in batch]
    assert len(set(seen)) == 8
    assert seen == [int(image[0, 0, 0]) for images, _ in batches for image in images]


def test_epochs_differ_in_order_and_augmentation() -> None:
    batches = run(0, 22, batch_size=11)
    assert len({tuple(order) for order in ids(batches)}) == 22
    by_id = [
        {target.image_id: image for image, target in zip(images, targets, strict=True)} for images, targets in batches
    ]
    assert not torch.equal(by_id[0][5], by_id[1][5])
    assert not torch.equal(by_id[0][5], by_id[0][6])


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_run_continued_anywhere_sees_what_the_whole_run_saw(first: int) -> None:
    whole = run(0, 7)
    torch.rand(7)  # whatever happened before
    assert_same(run(first, 7), whole[first:])


def test_the_seed_decides() -> None:
    assert_same(run(0, 3), run(0, 3))
    assert ids(run(0, 3)) != ids(run(0, 3, seed=4))


def test_nothing_is_left_to_do() -> None:
    assert run(5, 5) == []


def test_fewer_images_than_a_batch() -> None:
    assert [len(images) for images, _ in run(0, 3, batch_size=20)] == [11, 11, 11]


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_global_random_state_is_left_alone(num_workers: int) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run(0, 3, num_workers=num_workers)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    assert_same(run(0, 6), run(0, 6, num_workers=2))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    folder = tmp_path_factory.mktemp("scenes") / "set"
    write_dataset(folder, images=3, seed=1, image_size=(48, 64), val_images=1)
    return CocoDataset(folder / "annotations" / "train.json", Path(folder, "images", "train"))


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_validation_shows_every_image_once_in_order_as_prediction_does(scenes: CocoDataset, num_workers: int) -> None:
    batches = list(validation_batches(scenes, GEOMETRY, batch_size=2, num_workers=num_workers))
    images = [batch for batch, _, _ in batches if isinstance(batch, Tensor)]
    assert [len(batch) for batch in images] == [2, 1]
    assert [image_id for _, _, batch in batches for image_id in batch] == list(scenes.image_ids)
    assert [size for _, sizes, _ in batches for size in sizes] == [(48, 64)] * 3
    expected = torch.stack([GEOMETRY.preprocess(scenes.load_image(index)) for index in range(3)])
    assert torch.equal(torch.cat(images), expected)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_images_come_once_in_order_as_they_are(scenes: CocoDataset, num_workers: int) -> None:
    batches = list(image_batches(scenes, batch_size=2, num_workers=num_workers))
    assert [image_id for _, ids in batches for image_id in ids] == list(scenes.image_ids)
    images = [image for batch, _ in batches for image in batch]
    wanted = [scenes.load_image(index).permute(1, 2, 0).numpy() for index in range(len(scenes))]
    assert all(np.array_equal(image, own) for image, own in zip(images, wanted, strict=True))
    assert all(image.flags.c_contiguous for image in images)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(0, 0), (1, -1)])
def test_options_are_checked(scenes: CocoDataset, batch_size: int, num_workers: int) -> None:
    with pytest.raises(ConfigError, match=r"expected .* got"):
        run(0, 1, batch_size=batch_size, num_workers=num_workers)
    with pytest.raises(ConfigError, match=r"expected .* got"):
        validation_batches(scenes, GEOMETRY, batch_size=batch_size, num_workers=num_workers)
    with pytest.raises(ConfigError, match=r"expected .* got"):
        image_batches(scenes, batch_size=batch_size, num_workers=num_workers)
