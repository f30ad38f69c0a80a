"""Training and validation images in batches; what a run sees depends only on the seed and the iteration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from protomask.data.coco.dataset import CocoDataset
from protomask.data.training.workers import CarriedBatches, Carrying, carry, prepare_worker
from protomask.errors import ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.ops.geometry import Geometry, PaddedImages, padded_size
from protomask.structures.target import Target

TrainBatch = tuple[Tensor, list[Target]]
ValidationBatch = tuple[Tensor | PaddedImages, list[tuple[int, int]], list[int]]

_SCALES = 1  # keeps the random sizes apart from other random numbers of the same seed


class Share(NamedTuple):
    """The part of every step that this process takes.

    Attributes:
        process: number of this process, from 0.
        processes: number of processes.
        accumulate: batches of every process that make up one step.

    """

    process: int = 0
    processes: int = 1
    accumulate: int = 1

    @property
    def batches_per_step(self) -> int:
        """Batches that all processes together take for one step."""
        return self.processes * self.accumulate


EVERYTHING = Share()
"""The share of a single process."""


class Variety(NamedTuple):
    """Differences between the steps of a run.

    Attributes:
        multi_scale: largest share by which images are smaller or larger.
        plain_from: first iteration without mixed images; None for never.
        mix_from: number of images before each batch that its images may be mixed with; 0 for any.

    """

    multi_scale: float = 0.0
    plain_from: int | None = None
    mix_from: int = 0


NO_VARIETY = Variety()
"""All steps are the same."""


class SampleKey(NamedTuple):
    """A sample to draw, see `TrainingDataset.draw`."""

    epoch: int
    image: int
    scale: float
    mixes: bool
    recent: tuple[int, ...] = ()


class TrainingDataset(Protocol):
    """Images with their truth, for example `protomask.data.training.mixing.TrainingImages`."""

    def __len__(self) -> int: ...

    def order(self, random: np.random.Generator) -> NDArray[np.int64]:
        """A pass over all images in random order: every number below their number once."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether images come over a network, by a library whose connections a forked process must not use."""
        ...

    def draw(self, index: int, *, scale: float, mixes: bool, recent: Sequence[int]) -> tuple[Tensor, Target]:
        """Image (3, H, W) uint8 RGB, ``scale`` times its usual size, and its truth in the same frame.

        With ``mixes`` it may be mixed with others: with some of ``recent``, where there are any.
        """
        ...


def collate(samples: Sequence[tuple[Tensor, Target]], *, pad_multiple: int | None = None) -> TrainBatch:
    """Stack the images of one batch.

    Args:
        samples: (image (3, H, W), target); each target keeps its own number of objects and its frame.
        pad_multiple: images are padded, right and below, with zeros to their common size, rounded up to a multiple of
            this; None for images of equal H and W.

    Returns:
        images (B, 3, H, W) of the images' dtype, and the B targets.

    Raises:
        DataError: the images differ in size and may not be padded.

    """
    images, targets = [image for image, _ in samples], [target for _, target in samples]
    if pad_multiple is not None:
        height, width = padded_size([(image.shape[1], image.shape[2]) for image in images], pad_multiple)
        images = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    shapes = {tuple(image.shape): target.image_id for image, target in zip(images, targets, strict=True)}
    if len(shapes) > 1:
        sizes = ", ".join(f"{shape} of image {image_id}" for shape, image_id in shapes.items())
        raise DataError(f"expected images of one size in a batch, got {sizes}: a transform must resize them")
    return torch.stack(images), targets


def batches_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches (of all processes) in a pass over the images; the rest comes in another epoch. At least 1."""
    return max(num_images // batch_size, 1)


def training_batches(
    dataset: TrainingDataset,
    *,
    batch_size: int,
    seed: int,
    first_iteration: int,
    last_iteration: int,
    num_workers: int,
    share: Share = EVERYTHING,
    variety: Variety = NO_VARIETY,
    pad_multiple: int | None = None,
    pin_memory: bool = False,
) -> Iterable[TrainBatch]:
    """Batches of the iterations ``first_iteration`` to ``last_iteration`` - 1, across epochs without a pause.

    The images of iteration k are the same whatever the first iteration, the number of workers and the state of the
    random generators, and also however many batches and processes share them.

    Returns:
        Pairs: images (B, 3, H, W) uint8 RGB, and B targets in their frames; see `collate` for ``pad_multiple``.

    Raises:
        ConfigError: ``batch_size`` or ``num_workers`` is out of range.

    """
    _check_options(batch_size, num_workers)
    loader: DataLoader[Any] = DataLoader(
        Carrying(_SeededSamples(dataset, seed)),
        batch_sampler=_RunOrder(dataset, batch_size, share, seed, range(first_iteration, last_iteration), variety),
        num_workers=num_workers,
        multiprocessing_context=_context(num_workers, is_remote=dataset.is_remote),
        collate_fn=partial(carry, partial(collate, pad_multiple=pad_multiple)),
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # the loader must not draw its workers' seed from the generator the training uses
    )
    return CarriedBatches(loader)


def validation_batches(
    dataset: CocoDataset,
    geometry: Geometry,
    *,
    batch_size: int,
    num_workers: int,
    share: Share = EVERYTHING,
    pin_memory: bool = False,
) -> Iterable[ValidationBatch]:
    """Every image of this process' share once, in order, prepared exactly as for prediction.

    Returns:
        Triples: a batch of the geometry, the images' original sizes (H, W), their ids.

    Raises:
        ConfigError: ``batch_size`` or ``num_workers`` is out of range.

    """
    _check_options(batch_size, num_workers)
    loader: DataLoader[Any] = DataLoader(
        Carrying(_PreparedImages(dataset, geometry)),
        batch_size=batch_size,
        sampler=range(share.process, len(dataset), share.processes),
        num_workers=num_workers,
        multiprocessing_context=_context(num_workers, is_remote=dataset.is_remote),
        collate_fn=partial(carry, partial(_collate_validation, geometry)),
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )
    return CarriedBatches(loader)


def image_batches(
    dataset: CocoDataset, *, batch_size: int, num_workers: int
) -> Iterator[tuple[list[Pixels], list[int]]]:
    """Every image once, in order, as it is.

    Yields:
        Pairs: images (H, W, 3) uint8 RGB of any sizes, their ids.

    Raises:
        ConfigError: ``batch_size`` or ``num_workers`` is out of range.

    """
    _check_options(batch_size, num_workers)
    loader: DataLoader[Any] = DataLoader(
        Carrying(_Images(dataset)),
        batch_size=batch_size,
        num_workers=num_workers,
        multiprocessing_context=_context(num_workers, is_remote=dataset.is_remote),
        collate_fn=partial(carry, _collate_images),
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )
    return (([image.numpy() for image in images], ids) for images, ids in CarriedBatches(loader))


def _check_options(batch_size: int, num_workers: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    if num_workers < 0:
        raise ConfigError(f"num_workers: expected 0 or more, got {num_workers}")


def _context(num_workers: int, *, is_remote: bool) -> str | None:
    """How processes begin that load images: the system's way, but a new interpreter where forks would hang."""
    return "spawn" if num_workers and is_remote else None


class _RunOrder(Sampler[list[SampleKey]]):
    """Yields this process' keys of each iteration; each epoch has its own shuffle."""

    def __init__(
        self,
        dataset: TrainingDataset,
        batch_size: int,
        share: Share,
        seed: int,
        iterations: range,
        variety: Variety,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.share = share
        self.seed = seed
        self.iterations = iterations
        self.variety = variety

    def __len__(self) -> int:
        return len(self.iterations) * self.share.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        step_size = self.batch_size * self.share.batches_per_step
        per_epoch = batches_per_epoch(len(self.dataset), step_size)
        shuffled_epoch, order = -1, np.empty(0, dtype=np.int64)
        for iteration in self.iterations:
            epoch, position = divmod(iteration, per_epoch)
            if epoch != shuffled_epoch:
                order = self.dataset.order(np.random.default_rng((self.seed, epoch)))
                shuffled_epoch = epoch
            plain_from, reach = self.variety.plain_from, self.variety.multi_scale
            mixes = plain_from is None or iteration < plain_from
            scale = 1.0
            if reach:
                scale += reach * np.random.default_rng((self.seed, iteration, _SCALES)).uniform(-1, 1)
            for number in range(self.share.accumulate):
                start = position * step_size + (number * self.share.processes + self.share.process) * self.batch_size
                chosen = order[start : start + self.batch_size]
                before = range(start - self.variety.mix_from, start) if mixes else ()
                recent = tuple(order.take(before, mode="wrap").tolist()) if before else ()
                yield [SampleKey(epoch, int(index), scale, mixes, recent) for index in chosen]


class _SeededSamples(Dataset[tuple[Tensor, Target]]):
    """Draws the augmentation of a sample only from the seed, the epoch and the image."""

    def __init__(self, dataset: TrainingDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Target]:
        sample_seed = int(np.random.SeedSequence((self.seed, key.epoch, key.image)).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(sample_seed)
            return self.dataset.draw(key.image, scale=key.scale, mixes=key.mixes, recent=key.recent)


class _PreparedImages(Dataset[tuple[Tensor, tuple[int, int], int]]):
    def __init__(self, dataset: CocoDataset, geometry: Geometry) -> None:
        self.dataset = dataset
        self.geometry = geometry

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[int, int], int]:
        image = self.dataset.load_image(index)
        return self.geometry.preprocess(image), (image.shape[1], image.shape[2]), self.dataset.image_ids[index]


class _Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        # As a tensor, which reaches the other process without a copy.
        return torch.from_numpy(self.dataset.load_pixels(index)), self.dataset.image_ids[index]


def _collate_images(samples: Sequence[tuple[Tensor, int]]) -> tuple[list[Tensor], list[int]]:
    images, ids = zip(*samples, strict=True)
    return list(images), list(ids)


def _collate_validation(geometry: Geometry, samples: Sequence[tuple[Tensor, tuple[int, int], int]]) -> ValidationBatch:
    images, sizes, ids = zip(*samples, strict=True)
    return geometry.batch(images), list(sizes), list(ids)
