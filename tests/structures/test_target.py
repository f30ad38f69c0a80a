from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from protomask.errors import ConfigError, DataError  # noqa: E402
from protomask.images.draw import PALETTE  # noqa: E402
from protomask.structures.instances import Instances  # noqa: E402
from protomask.structures.target import Target  # noqa: E402
from targets import empty_target, target_of_boxes  # noqa: E402

SIZE = (12, 16)


def make_target(count: int = 4, **changes: Any) -> Target:
    generator = torch.Generator().manual_seed(count)
    values: dict[str, Any] = {
        "boxes": torch.rand(count, 4, generator=generator),
        "labels": torch.arange(count) % 3,
        "masks": torch.rand(count, *SIZE, generator=generator) > 0.5,
        "is_crowd": torch.arange(count) % 2 == 1,
        "image_size": SIZE,
        "image_id": 7,
    }
    return Target(**values | changes)


INDICES: dict[str, tuple[Any, list[int]]] = {
    "bool tensor": (torch.tensor([True, False, True, False]), [0, 2]),
    "bool tensor, none": (torch.zeros(4, dtype=torch.bool), []),
    "bool list": ([False, True, False, True], [1, 3]),
    "bool array": (np.array([False, True, False, True]), [1, 3]),
    "index tensor": (torch.tensor([3, 0, 0]), [3, 0, 0]),
    "negative tensor": (torch.tensor([-1]), [3]),
    "empty index tensor": (torch.zeros(0, dtype=torch.int64), []),
    "tensor without dimensions": (torch.tensor(2), [2]),
    "index list": ([2, 1], [2, 1]),
    "negative list": ([-1, 0], [3, 0]),
    "empty list": ([], []),
    "index array": (np.array([1, 3]), [1, 3]),
    "array scalar": (np.int64(3), [3]),
    "int": (1, [1]),
    "negative int": (-1, [3]),
    "slice": (slice(1, 3), [1, 2]),
    "stepped slice": (slice(None, None, 2), [0, 2]),
    "reversed slice": (slice(None, None, -1), [3, 2, 1, 0]),
    "empty slice": (slice(4, None), []),
}


@pytest.mark.parametrize(("index", "chosen"), INDICES.values(), ids=INDICES)
def test_indexing_keeps_everything_together(index: Any, chosen: list[int]) -> None:
    whole = make_target()
    part = whole[index]
    assert isinstance(part, Target)
    assert len(part) == len(chosen)
    for field in ("boxes", "labels", "masks", "is_crowd"):
        assert torch.equal(getattr(part, field), getattr(whole, field)[chosen]), field
    assert part.image_size == SIZE
    assert part.image_id == 7


@pytest.mark.parametrize("index", [4, -5, [9], torch.tensor([4]), torch.tensor([True])])
def test_an_index_out_of_range_is_an_index_error(index: Any) -> None:
    with pytest.raises(IndexError):
        make_target()[index]


WRONG: dict[str, tuple[str, Any]] = {
    "boxes dtype": ("boxes", torch.zeros(4, 4, dtype=torch.float64)),
    "boxes shape": ("boxes", torch.zeros(4, 5)),
    "boxes count": ("boxes", torch.zeros(3, 4)),
    "labels dtype": ("labels", torch.zeros(4, dtype=torch.int32)),
    "labels shape": ("labels", torch.zeros(4, 1, dtype=torch.int64)),
    "masks dtype": ("masks", torch.zeros(4, *SIZE)),
    "masks frame": ("masks", torch.zeros(4, 16, 12, dtype=torch.bool)),
    "is_crowd dtype": ("is_crowd", torch.zeros(4)),
}


@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG)
def test_a_wrong_target_is_refused_by_field_and_image(field: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"target of image 7: {field}: expected .* got"):
        make_target(**{field: value})


def test_no_objects() -> None:
    empty = empty_target(SIZE, image_id=3)
    assert len(empty) == len(empty[empty.is_crowd]) == len(empty[:2]) == 0
    assert empty.masks.shape == (0, *SIZE)
    assert empty.image_id == 3
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    assert (empty.draw(image, class_names=()) == image).all()


def test_a_target_moves_as_a_whole() -> None:
    moved = make_target().to("meta")
    assert {value.device.type for value in (moved.boxes, moved.labels, moved.masks, moved.is_crowd)} == {"meta"}
    assert moved.image_id == 7


# Drawing

WIDE = (120, 200)
GRAY = np.full((*WIDE, 3), 128, dtype=np.uint8)


def two() -> Target:
    """Two squares apart."""
    return target_of_boxes([(20, 30, 70, 80), (110, 40, 170, 100)], size=WIDE)


def test_targets_are_drawn_as_instances_are() -> None:
    target = two()
    found = Instances(
        boxes=target.boxes.numpy(), labels=target.labels.numpy(), class_scores=np.ones(2, dtype=np.float32),
        masks=target.masks.numpy(), image_size=WIDE, class_names=("a", "b", "c"),
    )  # fmt: skip
    drawn = target.draw(GRAY, class_names=("a", "b", "c"), color_by="class")
    np.testing.assert_array_equal(drawn, found.draw(GRAY, scores=False, color_by="class"))
    plain = target.draw(torch.from_numpy(GRAY).permute(2, 0, 1))
    np.testing.assert_array_equal(plain, found.draw(GRAY, labels=False, color_by="instance"))
    assert (GRAY == 128).all()


@pytest.mark.parametrize(("color_by", "expected"), [("class", 2), ("instance", 1)])
def test_colors(color_by: Any, expected: int) -> None:
    drawn = two()[[0, 1]].draw(GRAY, color_by=color_by, opacity=1.0)
    assert tuple(drawn[70, 140]) == PALETTE[1]
    third = target_of_boxes([(0, 0, 5, 5), (6, 0, 11, 5), (110, 40, 170, 100)], size=WIDE)[1:]
    assert tuple(third.draw(GRAY, color_by=color_by, opacity=1.0)[70, 140]) == PALETTE[expected]


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (GRAY[:50], {}, DataError, r"image: expected \(H, W\) = \(120, 200\) as annotated, got \(50, 200\)"),
        (GRAY, {"opacity": -0.1}, ConfigError, "opacity: expected a number from 0 to 1, got -0.1"),
        (GRAY, {"color_by": "auto"}, ConfigError, "color_by: expected class or instance, got 'auto'"),
        (GRAY, {"class_names": ("a",)}, ConfigError, "class_names: expected names of labels up to 1, got 1 names"),
    ],
)
def test_wrong_arguments_of_drawing(image: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        two().draw(image, **options)


def test_weights_of_masks_stay_with_their_objects() -> None:
    weighed = make_target(mask_weights=torch.tensor([1.0, 0.5, 0.25, 0.0]))
    part = weighed[[3, 1]].to("cpu")
    assert part.mask_weights is not None
    assert part.mask_weights.tolist() == part.mask_trust.tolist() == [0.0, 0.5]
    assert make_target().mask_trust.tolist() == [1.0] * 4
    assert make_target().to("cpu").mask_weights is None
    with pytest.raises(DataError, match="mask_weights"):
        make_target(mask_weights=torch.ones(3))
