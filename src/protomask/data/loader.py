"""Batches whose order and random augmentation depend on seed, epoch and item only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from protomask.errors import ConfigError, DataError
from protomask.structures.instances import Target

Batch = tuple[Tensor, list[Target]]
_Key = tuple[int, int, int]  # seed, epoch, item


def collate(samples: Sequence[tuple[Tensor, Target]]) -> Batch:
    """Stack the images of one batch.

    Args:
        samples: (image (3, H, W), target) of equal H and W; each target keeps its own number of objects.

    Returns:
        images (B, 3, H, W) of the images' dtype, and the B targets.

    Raises:
        DataError: the images differ in size.

    """
    images, targets = [image for image, _ in samples], [target for _, target in samples]
    shapes = {tuple(image.shape): target.image_id for image, target in samples}
    if len(shapes) > 1:
        sizes = ", ".join(f"{shape} of image {image_id}" for shape, image_id in shapes.items())
        raise DataError(f"expected images of one size in a batch, got {sizes}: a transform must resize them")
    return torch.stack(images), targets


class EpochSampler(Sampler[_Key]):
    """Order of the items in one epoch, the same whenever that epoch is run again.

    Args:
        length: number of items.
        shuffle: random order, a new one each epoch, or 0, 1, 2 ...
        seed: of the order and of the items' own randomness.

    """

    def __init__(self, length: int, *, shuffle: bool, seed: int) -> None:
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration runs."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[_Key]:
        order: Sequence[int] = range(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch, -1))
            order = torch.randperm(self.length, generator=generator).tolist()
        return ((self.seed, self.epoch, item) for item in order)


class _SeededDataset(Dataset[tuple[Tensor, Target]]):
    """Items drawn with a random state of their own, whatever process draws them and whatever was drawn before."""

    def __init__(self, dataset: Dataset[tuple[Tensor, Target]]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: _Key) -> tuple[Tensor, Target]:
        with torch.random.fork_rng(devices=[]):
            # manual_seed of the default generator only: torch.manual_seed would touch accelerators in a worker.
            torch.default_generator.manual_seed(_mix(*key))
            return self.dataset[key[2]]


def build_loader(
    dataset: Dataset[tuple[Tensor, Target]],
    *,
    batch_size: int,
    shuffle: bool,
    num_workers: int = 0,
    seed: int = 0,
    drop_last: bool = False,
) -> DataLoader[Batch]:
    """Loader of batches made by :func:`collate`.

    Order and augmentation of an epoch depend on ``seed`` and the epoch only, not on the number of workers nor on the
    epochs before, so a resumed run sees what the uninterrupted one would have: call :func:`set_epoch` before each.

    Args:
        dataset: sized; items (image, target), images of one size.
        batch_size: at least 1.
        shuffle: a new order every epoch.
        num_workers: processes that prepare batches, kept over epochs; 0 prepares them here.
        seed: of order and augmentation.
        drop_last: leave out an incomplete last batch.

    Raises:
        ConfigError: ``batch_size`` or ``num_workers`` is out of range.

    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    if num_workers < 0:
        raise ConfigError(f"num_workers: expected 0 or more, got {num_workers}")
    seeded = _SeededDataset(dataset)
    return DataLoader(
        seeded,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=EpochSampler(len(seeded), shuffle=shuffle, seed=seed),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        worker_init_fn=_init_worker,
        persistent_workers=num_workers > 0,
    )


def set_epoch(loader: DataLoader[Batch], epoch: int) -> None:
    """Choose the epoch, counted from 0, that the next pass over a loader of :func:`build_loader` runs."""
    sampler = loader.sampler
    if not isinstance(sampler, EpochSampler):
        raise ConfigError(f"loader: expected one made by build_loader, got the sampler {type(sampler).__name__}")
    sampler.set_epoch(epoch)


def _init_worker(worker_id: int) -> None:
    torch.set_num_threads(1)  # workers share the machine: one core each


def _mix(seed: int, epoch: int, item: int) -> int:
    """One 63-bit seed; equal only for equal inputs, and neighbouring inputs give unrelated ones."""
    return hash((seed, epoch, item)) & 0x7FFF_FFFF_FFFF_FFFF
