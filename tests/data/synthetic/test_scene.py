from __future__ import annotations

import numpy as np
import pytest
import torch

from protomask.data.synthetic.plan import plan_scene
from protomask.data.synthetic.scene import GENERATOR_VERSION, VAL_INDEX_START, render_scene
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.errors import ConfigError


def test_same_seed_and_index_give_the_same_scene() -> None:
    first_image, first = render_scene(3, 5)
    again_image, again = render_scene(3, 5)
    assert np.array_equal(first_image, again_image)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.labels, again.labels)


@pytest.mark.parametrize(
    ("seed", "index", "labels", "areas", "colour"),
    [
        (3, 5, [8, 8, 8], [56, 287, 110], [122.2, 123.9, 90.8]),
        (0, VAL_INDEX_START, [6, 3, 4, 2, 0, 5, 1], [77, 201, 104, 1044, 749, 308, 436], [101.5, 85.0, 98.5]),
    ],
)
def test_scenes_of_generator_version_1(
    seed: int, index: int, labels: list[int], areas: list[int], colour: list[float]
) -> None:
    assert GENERATOR_VERSION == 1
    image, target = render_scene(seed, index, image_size=(96, 128))
    assert target.labels.tolist() == labels
    # Other versions of Pillow and NumPy may change single pixels.
    assert target.masks.flatten(1).sum(dim=1).tolist() == pytest.approx(areas, abs=3)
    assert image.reshape(-1, 3).mean(axis=0) == pytest.approx(colour, abs=0.3)


@pytest.mark.parametrize(("seed", "index"), [(3, 6), (4, 5), (3, VAL_INDEX_START + 5)])
def test_another_seed_or_index_gives_another_scene(seed: int, index: int) -> None:
    assert not np.array_equal(render_scene(3, 5)[0], render_scene(seed, index)[0])


@pytest.mark.parametrize("image_size", [(256, 256), (120, 333), (300, 97), (32, 32), (33, 200), (512, 384)])
def test_masks_are_disjoint_and_boxes_tight_in_any_frame(image_size: tuple[int, int]) -> None:
    for index in range(4):
        image, target = render_scene(1, index, image_size=image_size)
        assert image.shape == (*image_size, 3)
        assert image.dtype == np.uint8
        assert target.image_size == image_size
        assert target.image_id == index
        assert target.masks.shape == (len(target), *image_size)
        assert target.masks.sum(dim=0).max() <= 1
        assert not target.is_crowd.any()
        for mask, box, label in zip(target.masks, target.boxes, target.labels, strict=True):
            assert 0 <= label < len(CLASS_NAMES)
            rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(side) for side in tight]


def test_scenes_without_objects_are_rare_and_ordinary() -> None:
    empty = [index for index in range(200) if not plan_scene(11, index)]
    assert 1 <= len(empty) <= 12
    image, target = render_scene(11, empty[0])
    assert image.std() > 0
    assert len(target) == 0
    assert target.masks.shape == (0, 256, 256)


def test_objects_stand_out_from_their_surroundings() -> None:
    steps = []
    for index in range(12):
        image, target = render_scene(5, index)
        for mask in target.masks.numpy():
            grown = np.zeros_like(mask)
            grown[3:-3, 3:-3] = mask[6:, 3:-3] | mask[:-6, 3:-3] | mask[3:-3, 6:] | mask[3:-3, :-6]
            around = grown & ~mask
            if around.sum() > 20:
                steps.append(np.abs(image[mask].mean(axis=0) - image[around].mean(axis=0)).max())
    assert np.quantile(steps, 0.05) > 8
    assert np.median(steps) > 35


@pytest.mark.parametrize(
    ("seed", "index", "image_size"), [(-1, 0, (64, 64)), (0, -1, (64, 64)), (0, 0, (31, 64)), (0, 0, (64, 0))]
)
def test_impossible_scenes_are_refused(seed: int, index: int, image_size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        render_scene(seed, index, image_size=image_size)
