"""Splitting a data set: by image or by group of images, with every class in its share of each split."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from protomask.data.formats.records import DatasetRecord, ImageRecord
from protomask.errors import ConfigError

SPLIT_NAMES = ("train", "val", "test")


def split_shares(shares: Sequence[float]) -> tuple[float, ...]:
    """The shares of train, val (and test) with the sum 1, given so or in percent.

    Raises:
        ConfigError: they are not two or three, not above 0, or their sum is another one.

    """
    total = next((whole for whole in (1, 100) if abs(sum(shares) - whole) <= 1e-6 * whole), None)
    if len(shares) not in (2, 3) or total is None or not all(share > 0 for share in shares):
        raise ConfigError(
            f"split: expected two or three shares above 0 with the sum 1 (or 100, in percent), for train, val and "
            f"test; got {', '.join(f'{share:g}' for share in shares)}"
        )
    return tuple(share / total for share in shares)


def split_dataset(
    dataset: DatasetRecord, shares: Sequence[float], *, seed: int = 0, group_by: str | None = None
) -> DatasetRecord:
    """Pool all images of a data set and split them again.

    Groups of images go, those with the rarest class first, to the split that lacks most of that class ("iterative
    stratification", Sechidis et al. 2011) and is not full yet. The same seed gives the same split.

    Args:
        dataset: any splits.
        shares: of the images, for train, val and maybe test; their sum is 1, or 100.
        seed: decides between equals.
        group_by: regular expression; images in whose file names it finds the same text stay together. By default every
            image is its own group.

    Raises:
        ConfigError: the shares or the expression are impossible, or there are fewer groups than splits.

    """
    shares = split_shares(shares)
    images = [image for split in dataset.splits.values() for image in split]
    groups = list(_groups(images, group_by).values())
    if len(groups) < len(shares):
        raise ConfigError(f"split: expected at least {len(shares)} images or groups to split, got {len(groups)}")
    random.Random(seed).shuffle(groups)
    # What each group has: images with each class, then images.
    content = np.zeros((len(groups), len(dataset.class_names) + 1))
    for row, group in zip(content, groups, strict=True):
        for index in group:
            row[-1] += 1
            row[sorted({found.label for found in images[index].objects})] += 1
    split_of = _assign(content, np.array(shares))
    chosen: list[list[ImageRecord]] = [[] for _ in shares]
    for index, split in sorted(
        (index, split) for group, split in zip(groups, split_of, strict=True) for index in group
    ):
        chosen[split].append(images[index])
    if not all(chosen):
        raise ConfigError(f"split: no image is left for {SPLIT_NAMES[chosen.index([])]}: its groups are too large")
    return replace(dataset, splits=dict(zip(SPLIT_NAMES, chosen, strict=False)))


def _groups(images: Sequence[ImageRecord], group_by: str | None) -> dict[str, list[int]]:
    try:
        pattern = None if group_by is None else re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"group_by: expected a regular expression, got {group_by!r}: {error}") from error
    groups: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        found = None if pattern is None else pattern.search(PurePosixPath(image.name).name)
        groups.setdefault(f"{index}" if found is None else f"group {found.group()}", []).append(index)
    return groups


def _assign(content: NDArray[np.float64], shares: NDArray[np.float64]) -> list[int]:
    """Split of each group, where ``content`` (groups, classes + 1) counts images with each class, last all images."""
    lacking = shares[:, None] * content.sum(axis=0)
    # Whole images, at least one for each split.
    sizes = np.maximum(1, np.round(lacking[:, -1]))
    sizes[sizes.argmax()] += content[:, -1].sum() - sizes.sum()
    lacking[:, -1] = sizes
    split_of = [-1] * len(content)
    left = set(range(len(content)))
    while left:
        rows = sorted(left)
        totals = content[rows].sum(axis=0)
        column = int(np.where(totals > 0, totals, np.inf).argmin())
        for row in sorted((row for row in rows if content[row, column]), key=lambda row: -content[row, column]):
            need = np.where(lacking[:, -1] > 0, lacking[:, column], -np.inf)
            split = int(np.lexsort((-lacking[:, -1], -need))[0])
            split_of[row] = split
            lacking[split] -= content[row]
            left.discard(row)
    return split_of
