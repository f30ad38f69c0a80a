from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.mixing import TrainingImages, join_targets, paste_objects
from protomask.ops.geometry import Geometry, ImageGeometry, ShortSideGeometry
from protomask.structures.target import Target

SQUARE = ImageGeometry(image_size=(64, 64), mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0), antialias=True)
SHORT_SIDE = ShortSideGeometry(image_size=48, max_image_size=96, mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0))


def scene(value: int, boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (40, 60)) -> tuple[Any, Target]:
    """A black image with rectangles of one grey level; the last box is a crowd where there are more than two."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
        image[:, y0:y1, x0:x1] = value
    return image, Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.full((len(boxes),), value),
        masks=masks,
        is_crowd=torch.tensor([index > 1 for index in range(len(boxes))], dtype=torch.bool),
        image_size=size,
        image_id=value,
    )


class Scenes:
    """Image k has objects of the grey level 100 + 20 k, and k + 1 of them."""

    boxes = ((4, 4, 24, 22), (30, 10, 52, 34), (2, 26, 20, 38))

    def __len__(self) -> int:
        return 3

    def image_size(self, index: int) -> tuple[int, int]:
        return (40 + index, 60)

    def load_sample(self, index: int, at_least: tuple[int, int]) -> tuple[Any, Target]:
        return scene(100 + 20 * index, list(self.boxes[: index + 1]), size=self.image_size(index))


def images(geometry: Geometry = SQUARE, **changes: float) -> TrainingImages:
    quiet = {"photometric": 0.0, "zoom_out": 0.0, "crop": 0.0, "horizontal_flip": 0.0}
    jitter = {"scale_jitter_min": 0.5, "scale_jitter_max": 1.5}
    return TrainingImages(Scenes(), AugmentationConfig(**{**quiet, **jitter, **changes}), geometry)  # type: ignore[arg-type]


MIXED = {"mosaic": 0.7, "copy_paste": 0.7, "scale_jitter": 0.5, "rotate90": 0.5, "horizontal_flip": 0.5}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 2), scale=st.sampled_from([0.5, 1.0, 1.6]))
@pytest.mark.parametrize("geometry", [SQUARE, SHORT_SIDE])
def test_truth_fits_the_picture(geometry: Geometry, seed: int, index: int, scale: float) -> None:
    torch.manual_seed(seed)
    image, target = images(geometry, **MIXED).draw(index, scale=scale)
    assert image.dtype == torch.uint8
    assert tuple(image.shape[1:]) == target.image_size
    if geometry is SQUARE:
        assert target.image_size == {0.5: (32, 32), 1.0: (64, 64), 1.6: (96, 96)}[scale]
    elif scale != 1:
        assert all(side % 32 == 0 for side in target.image_size)
    assert bool((target.masks[~target.is_crowd].sum(dim=0) <= 1).all())
    assert target.image_id == 100 + 20 * index
    for box, mask, label in zip(target.boxes, target.masks, target.labels, strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        tight = torch.stack([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
        assert float((box - tight).abs().max()) <= 2.5
        inner = image[0][mask].float()
        # Edges are interpolated; what is inside shows the object and no other.
        assert float(inner.max()) <= int(label) + 1
        assert float(inner.max()) >= int(label) - 1 or len(inner) < 100


def test_mosaic_shows_several_images_and_all_of_their_objects() -> None:
    torch.manual_seed(2)
    seen = set()
    for _ in range(8):
        image, target = images(mosaic=1.0).draw(0, scale=1.0)
        seen.add(len(set(target.labels.tolist())))
        # Whatever shines has its mask, up to interpolated edges.
        shining = image[0] > 90
        assert float((shining & ~target.masks.any(dim=0)).sum()) <= 0.35 * float(shining.sum())
    assert max(seen) == 3


def test_mixing_can_be_left_out() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        _, target = images(mosaic=1.0, copy_paste=1.0).draw(1, mixes=False)
        assert target.labels.tolist() == [120, 120]


def test_pasted_objects_hide_what_is_below() -> None:
    image, target = scene(50, [(0, 0, 20, 20), (30, 10, 40, 20)])
    other = scene(200, [(10, 0, 30, 40)])
    mixed, found = paste_objects((image, target), other)
    assert found.labels.tolist() == [50, 50, 200]
    assert found.boxes.tolist() == [[0, 0, 10, 20], [30, 10, 40, 20], [10, 0, 30, 40]]
    assert int(found.masks.sum(dim=0).max()) == 1
    assert bool((mixed[:, :, 10:30] == 200).all())
    assert torch.equal(mixed[:, :, :10], image[:, :, :10])
    assert int(image[0, 0, 15]) == 50  # the input is left alone


@pytest.mark.parametrize(
    ("below", "expected"), [((12, 5, 20, 15), []), ((9, 5, 20, 15), []), ((7, 5, 20, 15), [(7, 5, 10, 15)])]
)
def test_objects_hidden_whole_are_dropped(below: tuple[int, int, int, int], expected: list[Any]) -> None:
    _, found = paste_objects(scene(50, [below]), scene(200, [(10, 0, 30, 40)]))
    assert [tuple(box) for box in found.boxes[found.labels == 50].tolist()] == expected


def test_crowds_are_not_pasted_and_nothing_to_paste_changes_nothing() -> None:
    sample = scene(50, [(0, 0, 20, 20)])
    for seed in range(10):
        torch.manual_seed(seed)
        _, found = paste_objects(sample, scene(200, [(30, 0, 40, 9), (30, 10, 40, 20), (41, 10, 50, 20)]))
        assert not bool(found.is_crowd.any())
    assert paste_objects(sample, scene(200, [])) is sample


def test_an_object_of_which_only_the_box_is_known_is_not_pasted() -> None:
    sample = scene(50, [(0, 0, 20, 20)])
    image, target = scene(200, [(30, 0, 39, 9), (30, 10, 39, 20)])
    assert paste_objects(sample, (image, replace(target, mask_weights=torch.zeros(2)))) is sample
    _, found = paste_objects(sample, (image, replace(target, mask_weights=torch.tensor([0.0, 0.5]))))
    assert found.mask_trust.tolist() == [1.0, 0.5]


def test_joined_targets() -> None:
    joined = join_targets([scene(50, [(0, 0, 2, 2)])[1], scene(60, [])[1], scene(70, [(1, 1, 4, 4), (2, 2, 9, 9)])[1]])
    assert joined.labels.tolist() == [50, 70, 70]
    assert joined.image_id == 50


def test_weights_of_masks_go_with_them() -> None:
    class Weighed(Scenes):
        def load_sample(self, index: int, at_least: tuple[int, int]) -> tuple[Any, Target]:
            image, target = super().load_sample(index, at_least)
            return image, target if index == 0 else replace(target, mask_weights=target.labels / 200)

    mixed = images(SQUARE, **MIXED)
    mixed.dataset = Weighed()  # type: ignore[assignment]
    for seed in range(20):
        torch.manual_seed(seed)
        _, target = mixed.draw(seed % 3)
        expected = torch.where(target.labels == 100, 1.0, target.labels / 200)
        assert torch.equal(target.mask_trust, expected)


def test_a_pass_may_show_images_several_times_or_never() -> None:
    quiet = images().augmentation
    shown = TrainingImages(Scenes(), quiet, SQUARE, shown=np.array([2, 0, 2]))  # type: ignore[arg-type]
    assert [shown.draw(place)[1].image_id for place in range(len(shown))] == [140, 100, 140]


def test_kept_images_change_nothing() -> None:
    class Counting(Scenes):
        loads = 0

        def load_sample(self, index: int, at_least: tuple[int, int]) -> tuple[Any, Target]:
            self.loads += 1
            return super().load_sample(index, at_least)

    found = []
    for mix_from in (0, 2):
        counting = Counting()
        mixed = TrainingImages(counting, images(SQUARE, **MIXED).augmentation.replace(mix_from=mix_from), SQUARE)  # type: ignore[arg-type]
        torch.manual_seed(5)
        drawn = [mixed.draw(place % 2, recent=(0, 1)) for place in range(12)]
        found.append((counting.loads, drawn))
    assert found[1][0] == 2 < found[0][0]
    for (image, target), (again, same) in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(image, again)
        assert torch.equal(target.masks, same.masks)
        assert set(target.labels.tolist()) <= {100, 120}
