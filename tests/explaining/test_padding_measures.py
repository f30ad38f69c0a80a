from __future__ import annotations

import numpy as np
import pytest

from protomask.explaining.padding_measures import PADDINGS, Padding, PrototypeRecord, staying, toy_layers


def test_zeros_make_the_column_visible() -> None:
    total = toy_layers("zeros", columns=10, layers=6).sum(axis=0)
    assert total.tolist() == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7]


@pytest.mark.parametrize("padding", [padding for padding in PADDINGS if padding != "zeros"])
def test_with_any_other_padding_there_is_nothing_to_see(padding: Padding) -> None:
    layers = toy_layers(padding, columns=10, layers=6)
    assert layers.shape == (7, 10)
    assert (layers == 1).all()


def record(*images: np.ndarray) -> PrototypeRecord:
    found = PrototypeRecord()
    for image in images:
        found.add(image.astype(np.float32))
    return found


def test_the_share_of_the_place_is_what_stays_the_same() -> None:
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.arange(16.0)[None, :], (12, 16))
    images = []
    for _ in range(40):
        noise = rng.standard_normal((12, 16))
        images.append(np.stack([ramp, noise, ramp / ramp.std() + noise, np.full((12, 16), 3.0)], axis=2))
    found = record(*images)
    only_place, only_content, half, flat = found.place_share()
    assert only_place == pytest.approx(1)
    assert only_content < 0.02
    assert half == pytest.approx(0.5, abs=0.03)
    assert flat == 0
    assert found.mean.shape == (12, 16, 4)
    assert np.allclose(found.mean[:, :, 0], ramp)


def test_what_moves_with_the_image_does_not_stay() -> None:
    rng = np.random.default_rng(1)
    content = rng.random((16, 24))
    place = rng.random((16, 24))
    moved = np.roll(content, (4, 6), axis=(0, 1))
    flat = np.ones((16, 24))
    before = np.stack([place, content, flat], axis=2).astype(np.float16)
    after = np.stack([place, moved, flat], axis=2).astype(np.float16)
    assert staying([before], [after], 0.25).tolist() == [True, False, False]
