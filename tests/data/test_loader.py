from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from protomask.data.loader import build_loader, collate, set_epoch
from protomask.errors import ConfigError, DataError
from protomask.structures.instances import Target


class Noise(Dataset[tuple[Tensor, Target]]):
    """Item k: one random image whose first pixel is k, k % 3 objects."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
        image[:, 0, 0] = index
        count = index % 3
        return image, Target(
            boxes=torch.zeros(count, 4),
            labels=torch.zeros(count, dtype=torch.int64),
            masks=torch.zeros(count, 4, 4, dtype=torch.bool),
            is_crowd=torch.zeros(count, dtype=torch.bool),
            image_size=(4, 4),
            image_id=index,
        )


def run(epochs: list[int], **options: object) -> list[Tensor]:
    loader = build_loader(Noise(), **({"batch_size": 4, "shuffle": True, "seed": 3} | options))  # type: ignore[arg-type]
    seen = []
    for epoch in epochs:
        set_epoch(loader, epoch)
        seen.append(torch.cat([images for images, _ in loader]))
    return seen


def test_collate() -> None:
    images, targets = collate([Noise()[k] for k in (0, 1, 2)])
    assert images.shape == (3, 3, 4, 4)
    assert images.dtype == torch.uint8
    assert [len(target) for target in targets] == [0, 1, 2]


def test_collate_names_images_of_different_size() -> None:
    small, target = Noise()[1]
    with pytest.raises(DataError, match=r"\(3, 4, 4\) of image 1, \(3, 5, 4\) of image 2"):
        collate([(small, target), (torch.zeros(3, 5, 4, dtype=torch.uint8), Noise()[2][1])])


def test_every_item_once_and_targets_with_their_images() -> None:
    loader = build_loader(Noise(), batch_size=4, shuffle=True)
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    ids = [target.image_id for _, targets in batches for target in targets]
    assert sorted(ids) == list(range(11))
    assert ids == [int(image[0, 0, 0]) for images, _ in batches for image in images]


def test_drop_last_and_order() -> None:
    (seen,) = run([0], drop_last=True, shuffle=False)
    assert seen[:, 0, 0, 0].tolist() == list(range(8))


def test_epochs_differ_and_repeat() -> None:
    first, second, again = run([0, 1, 0])
    assert torch.equal(first, again)
    assert first[:, 0, 0, 0].tolist() != second[:, 0, 0, 0].tolist()
    assert not torch.equal(run([0], seed=4)[0], first)


def test_resume_sees_what_the_whole_run_saw() -> None:
    whole = run([0, 1, 2])
    torch.rand(7)  # whatever happened before
    assert torch.equal(run([2])[0], whole[2])


def test_augmentation_changes_from_epoch_to_epoch() -> None:
    first, second = run([0, 1], shuffle=False)
    assert not torch.equal(first, second)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build = build_loader(Noise(), batch_size=4, shuffle=True)
    images, _ = collate([build.dataset[(0, 0, 1)]])
    assert len(images) == 1
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    here, workers = run([0, 1]), run([0, 1], num_workers=2)
    assert all(torch.equal(a, b) for a, b in zip(here, workers, strict=True))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 1, "num_workers": -1}])
def test_options_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"expected .* got"):
        build_loader(Noise(), shuffle=False, **options)


def test_set_epoch_of_another_loader() -> None:
    with pytest.raises(ConfigError, match="expected one made by build_loader"):
        set_epoch(torch.utils.data.DataLoader(Noise()), 1)  # type: ignore[arg-type]
