from __future__ import annotations

from pathlib import Path

import numpy as np

from protomask.data.synthetic.write import write_dataset
from protomask.evaluation.evaluate import open_split
from protomask.explaining.shifted import LEAST_AREA, shift_masks, shift_pixels, shifted_dataset


def test_pixels_and_masks_move_together() -> None:
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[2:4, 2:6] = 200
    moved = shift_pixels(pixels, 0.25)
    assert (moved[4:6, 6:10] == 200).all()
    assert (moved[:2] == 12).all()  # the mean colour comes in
    masks = shift_masks(pixels[None, :, :, 0] > 0, 0.25)
    assert np.array_equal(masks[0], moved[:, :, 0] == 200)


def test_a_data_set_moves_with_its_objects(tmp_path: Path) -> None:
    write_dataset(tmp_path / "scenes", images=0, val_images=3, seed=2, image_size=(64, 96))
    dataset = open_split(str(tmp_path / "scenes"))
    (tmp_path / "moved").mkdir()
    moved = shifted_dataset(dataset, 0.25, tmp_path / "moved")
    assert moved.image_ids == dataset.image_ids
    assert moved.class_names == dataset.class_names
    for index in range(len(dataset)):
        before, _ = dataset.load_target(index, (64, 96))
        after, _ = moved.load_target(index, (64, 96))
        kept = [mask for mask in shift_masks(before.masks.numpy(), 0.25) if mask.sum() >= LEAST_AREA]
        assert np.array_equal(after.masks.numpy(), np.array(kept).reshape(-1, 64, 96))
        assert np.array_equal(moved.load_pixels(index), shift_pixels(dataset.load_pixels(index), 0.25))
