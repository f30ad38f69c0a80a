from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protomask.detection.options import PredictOptions
from protomask.detection.regions import RegionRows, paint, settle_crop
from protomask.errors import ConfigError
from protomask.masks.grids import MaskPaste

Floats = NDArray[np.float32]
NAMES = ("a", "b", "c")
INPUT = (40, 60)
SIZE = (80, 90)  # twice as high, half as wide again


def rows(count: int = 3, mask_scores: Floats | None = None) -> RegionRows:
    boxes = np.array([[10, 10, 30, 20], [-5, 8, 26, 50], [40, 20, 70, 30]], dtype=np.float32)[:count]
    return RegionRows(
        boxes=boxes,
        labels=np.arange(count),
        class_scores=np.array([0.9, 0.8, 0.7], dtype=np.float32)[:count],
        mask_probs=np.ones((count, 28, 28), dtype=np.float32),
        mask_scores=mask_scores,
        input_size=INPUT,
    )


def test_boxes_and_masks_are_scaled_to_the_original_image_and_end_with_it() -> None:
    found = paint(rows(), SIZE, NAMES, paste="continuous")
    assert found.image_size == SIZE
    assert found.names == ["a", "b", "c"]
    assert found.boxes.tolist() == [[15, 20, 45, 40], [0, 16, 39, 80], [60, 40, 90, 60]]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.tolist(), strict=True):
        assert np.array_equal(mask, (x > x1) & (x < x2) & (y > y1) & (y < y2))


@pytest.mark.parametrize("paste", ["integer", "continuous", "pixels"])
def test_masks_are_pasted_on_boxes_as_they_were_before_the_image_cut_them(paste: MaskPaste) -> None:
    """The left half of a mask is that of its whole box, not of what the image leaves of it."""
    kept = rows()
    kept.mask_probs[:, :, 14:] = 0
    found = paint(kept, SIZE, NAMES, paste=paste)
    right = [np.nonzero(one.mask)[1].max() + 1 for one in found]
    np.testing.assert_allclose(right, [30, 15.75, 82.5], atol=2)


def test_the_final_score_decides_the_order() -> None:
    kept = rows(mask_scores=np.array([0.5, 1.5, 0.9], dtype=np.float32))
    found = paint(kept, SIZE, NAMES, paste="integer")
    np.testing.assert_allclose(found.scores, [0.8, 0.63, 0.45], rtol=1e-6)
    assert found.names == ["b", "c", "a"]
    assert found.mask_scores is not None
    np.testing.assert_allclose(found.mask_scores, [1, 0.9, 0.5], rtol=1e-6)


def test_no_rows() -> None:
    found = paint(rows(0), SIZE, NAMES, paste="integer")
    assert len(found) == 0
    assert found.masks.shape == (0, *SIZE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("paste", ["integer", "continuous", "pixels"])
def test_diverged_masks_stay_in_their_boxes(value: float, paste: MaskPaste) -> None:
    kept = rows()
    kept.mask_probs[:, ::3, ::2] = value
    found = paint(kept, SIZE, NAMES, paste=paste)
    assert not found.masks[0, 45:].any()
    assert found.masks.shape == (3, *SIZE)


def test_the_part_at_the_centre_of_each_box() -> None:
    kept = rows()
    kept.mask_probs[:] = 0
    kept.mask_probs[:, 8:20, 8:20] = 1
    kept.mask_probs[:, 24:, 24:] = 1
    whole = paint(kept, SIZE, NAMES, paste="integer")
    parts = paint(kept, SIZE, NAMES, paste="integer", crop="component")
    assert (parts.areas <= whole.areas).all()
    assert parts.areas.sum() < whole.areas.sum()
    assert (parts.areas > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "mask_iou"}, "^overlap: expected none with a model, whose masks are made for each box"),
        ({"crop": "none"}, "^crop: expected box or component with a model"),
        ({"crop_margin": 0.1}, "^crop_margin: expected none"),
        ({"edges": "pixels"}, "^edges: expected none"),
    ],
)
def test_what_asks_for_prototypes_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settle_crop(PredictOptions(**options), "a model")
    assert settle_crop(PredictOptions(crop="component"), "a model") == "component"
