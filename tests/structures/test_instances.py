from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from protomask.errors import ConfigError, DataError
from protomask.masks.rle import decode_rle, encode_runs
from protomask.masks.polygons import polygons_to_mask
from protomask.structures.mask_sources import DenseMasks, GridMasks, MaskSource, RegionMasks
from protomask.structures.instances import Instances
from protomask.structures.target import Target

SIZE = (12, 16)
NAMES = ("cat", "dog", "owl")


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


def painted(source: MaskSource) -> Tensor:
    """(N, H, W) bool."""
    codes = encode_runs(list(source.runs()), SIZE)
    return torch.stack([torch.zeros(SIZE, dtype=torch.bool), *map(decode_rle, codes)])[1:]


def make_instances(count: int = 4, *, dense: bool = True, **changes: Any) -> Instances:
    generator = torch.Generator().manual_seed(count)
    low = torch.rand(count, 2, generator=generator) * 6
    grid = GridMasks(torch.rand(count, 6, 8, generator=generator), SIZE)
    values: dict[str, Any] = {
        "boxes": torch.cat((low, low + 3), dim=1),
        "labels": torch.arange(count) % 3,
        "class_scores": torch.linspace(0.9, 0.1, count) if count else torch.zeros(0),
        "masks": painted(grid) if dense else grid,
        "image_size": SIZE,
        "class_names": NAMES,
    }
    return Instances(**values | changes)


INDICES: dict[str, tuple[Any, list[int]]] = {
    "bool tensor": (torch.tensor([True, False, True, False]), [0, 2]),
    "bool tensor, none": (torch.zeros(4, dtype=torch.bool), []),
    "bool list": ([False, True, False, True], [1, 3]),
    "bool array": (np.array([False, True, False, True]), [1, 3]),
    "index tensor": (torch.tensor([3, 0, 0]), [3, 0, 0]),
    "empty index tensor": (torch.zeros(0, dtype=torch.int64), []),
    "scalar tensor": (torch.tensor(2), [2]),
    "index list": ([2, 1], [2, 1]),
    "negative list": ([-1, 0], [3, 0]),
    "empty list": ([], []),
    "index array": (np.array([1, 3]), [1, 3]),
    "array scalar": (np.int64(3), [3]),
    "int": (1, [1]),
    "negative int": (-1, [3]),
    "slice": (slice(1, 3), [1, 2]),
    "stepped slice": (slice(None, None, 2), [0, 2]),
    "empty slice": (slice(4, None), []),
}


@pytest.mark.parametrize(("index", "chosen"), INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("make", [make_target, make_instances, lambda: make_instances(dense=False)])
def test_indexing_keeps_everything_together(make: Callable[[], Any], index: Any, chosen: list[int]) -> None:
    whole = make()
    part = whole[index]
    assert type(part) is type(whole)
    assert len(part) == len(chosen)
    for field in ("boxes", "labels", "masks"):
        assert torch.equal(getattr(part, field), getattr(whole, field)[chosen]), field
    assert part.image_size == SIZE
    if isinstance(whole, Target):
        assert torch.equal(part.is_crowd, whole.is_crowd[chosen])
        assert part.image_id == 7
    else:
        assert torch.equal(part.class_scores, whole.class_scores[chosen])
        assert part.class_names == NAMES


@pytest.mark.parametrize("index", [4, -5, [9], torch.tensor([4])])
def test_an_index_out_of_range_is_an_index_error(index: Any) -> None:
    for whole in (make_target(), make_instances(), make_instances(dense=False)):
        with pytest.raises(IndexError):
            whole[index]


WRONG_TARGETS: dict[str, tuple[str, Tensor]] = {
    "boxes dtype": ("boxes", torch.zeros(4, 4, dtype=torch.float64)),
    "boxes shape": ("boxes", torch.zeros(4, 5)),
    "boxes count": ("boxes", torch.zeros(3, 4)),
    "labels dtype": ("labels", torch.zeros(4, dtype=torch.int32)),
    "labels shape": ("labels", torch.zeros(4, 1, dtype=torch.int64)),
    "masks dtype": ("masks", torch.zeros(4, *SIZE)),
    "masks frame": ("masks", torch.zeros(4, 16, 12, dtype=torch.bool)),
    "is_crowd dtype": ("is_crowd", torch.zeros(4)),
}


@pytest.mark.parametrize(("field", "value"), WRONG_TARGETS.values(), ids=WRONG_TARGETS)
def test_a_wrong_target_is_refused_by_field_and_image(field: str, value: Tensor) -> None:
    with pytest.raises(DataError, match=f"target of image 7: {field}: expected .* got"):
        make_target(**{field: value})


def test_empty_target() -> None:
    empty = Target.empty(SIZE, image_id=3)
    assert len(empty) == 0
    assert empty.masks.shape == (0, *SIZE)
    assert len(empty[empty.is_crowd]) == len(empty[:2]) == 0
    assert empty.image_id == 3


def test_target_moves_as_a_whole() -> None:
    moved = make_target().to("meta")
    assert {value.device.type for value in (moved.boxes, moved.labels, moved.masks, moved.is_crowd)} == {"meta"}
    assert moved.image_id == 7


WRONG_INSTANCES: dict[str, tuple[str, Any]] = {
    "boxes dtype": ("boxes", torch.zeros(4, 4, dtype=torch.float16)),
    "boxes shape": ("boxes", torch.zeros(4)),
    "labels dtype": ("labels", torch.zeros(4)),
    "class_scores count": ("class_scores", torch.zeros(5)),
    "mask_scores dtype": ("mask_scores", torch.zeros(4, dtype=torch.int64)),
    "masks frame": ("masks", torch.zeros(4, 3, 3, dtype=torch.bool)),
    "masks count": ("masks", GridMasks(torch.zeros(3, 2, 2), SIZE)),
    "label beyond the names": ("labels", torch.tensor([0, 1, 2, 3])),
    "negative label": ("labels", torch.tensor([0, 1, -1, 2])),
}


@pytest.mark.parametrize(("field", "value"), WRONG_INSTANCES.values(), ids=WRONG_INSTANCES)
def test_wrong_instances_are_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"^{field}: expected .* got"):
        make_instances(**{field: value})


def test_scores_are_the_product_where_there_are_mask_scores() -> None:
    mask_scores = torch.tensor([0.5, 1.0, 0.0, 0.25])
    found = make_instances(mask_scores=mask_scores)
    torch.testing.assert_close(found.scores, found.class_scores * mask_scores)
    assert torch.equal(found[2:].mask_scores, mask_scores[2:])
    plain = make_instances()
    assert plain.mask_scores is None
    assert torch.equal(plain.scores, plain.class_scores)


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_masks_made_on_demand_are_the_dense_ones(count: int) -> None:
    dense, lazy = make_instances(count), make_instances(count, dense=False)
    assert lazy.masks.shape == (count, *SIZE)
    assert lazy.masks.dtype == torch.bool
    assert torch.equal(lazy.masks, dense.masks)
    assert lazy.masks is lazy.masks
    assert torch.equal(torch.cat([torch.zeros(0, *SIZE, dtype=torch.bool), *lazy.iter_masks()]), dense.masks)
    assert lazy.rle() == dense.rle()
    for one, other in zip(lazy.polygons(), dense.polygons(), strict=True):
        assert torch.equal(polygons_to_mask(one, SIZE), polygons_to_mask(other, SIZE))


def test_mask_sources_are_indexed_alike() -> None:
    grid = GridMasks(torch.rand(3, 4, 4), SIZE)
    dense = DenseMasks(painted(grid))
    for index in (slice(1, None), torch.tensor([2, 0]), torch.tensor([False, True, False])):
        assert len(grid[index]) == len(dense[index])
        assert torch.equal(painted(grid[index]), painted(dense[index]))
    assert list(dense[slice(0)].runs()) == list(grid[slice(0)].runs()) == []


def test_codes_and_outlines_give_the_masks_back() -> None:
    found = make_instances()
    assert len(found.rle()) == len(found.polygons()) == 4
    for mask, rle, polygons in zip(found.masks, found.rle(), found.polygons(), strict=True):
        assert rle["size"] == list(SIZE)
        assert torch.equal(decode_rle(rle), mask)
        assert torch.equal(polygons_to_mask(polygons, SIZE), mask)


def test_coco_rows() -> None:
    found = make_instances(mask_scores=torch.full((4,), 0.5))
    rows = json.loads(json.dumps(found.to_coco(42, category_ids=(3, 17, 90))))
    assert [row["category_id"] for row in rows] == [3, 17, 90, 3]
    assert {row["image_id"] for row in rows} == {42}
    for row, box, score, class_score in zip(rows, found.boxes, found.scores, found.class_scores, strict=True):
        x1, y1, x2, y2 = box.tolist()
        assert row["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
        assert row["score"] == pytest.approx(float(score))
        assert row["class_score"] == pytest.approx(float(class_score))
    assert [row["segmentation"] for row in rows] == found.rle()


def test_coco_rows_without_category_ids_or_mask_scores() -> None:
    rows = make_instances().to_coco(1)
    assert [row["category_id"] for row in rows] == [1, 2, 3, 1]
    assert "class_score" not in rows[0]
    with pytest.raises(DataError, match="category_ids: expected one for each of 3 classes, got 2"):
        make_instances().to_coco(1, category_ids=[1, 2])


@pytest.mark.parametrize("count", [0, 4])
def test_supervision(count: int) -> None:
    found = make_instances(count)
    detections = found.to_supervision()
    assert len(detections) == count
    np.testing.assert_array_equal(detections.xyxy, found.boxes.numpy())
    np.testing.assert_array_equal(detections.mask, found.masks.numpy())
    np.testing.assert_allclose(detections.confidence, found.scores.numpy())
    assert detections.class_id.tolist() == found.labels.tolist()
    assert detections.data["class_name"].tolist() == [NAMES[label] for label in found.labels]


def test_draw_paints_on_a_copy() -> None:
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    drawn = make_instances().draw(image)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert drawn.any()
    assert not image.any()


def test_iteration_gives_single_instances() -> None:
    found = make_instances()
    singles = list(found)
    assert [len(single) for single in singles] == [1] * 4
    assert torch.equal(torch.cat([single.masks for single in singles]), found.masks)


def test_repr_names_the_best_few() -> None:
    assert repr(make_instances(2)) == "Instances(2 in 16x12: cat 0.90, dog 0.10)"
    assert repr(make_instances(7)).endswith("dog 0.37, ...)")
    assert repr(make_instances(0)) == "Instances(0 in 16x12: )"


def test_empty_instances() -> None:
    empty = make_instances(0, class_names=())
    assert len(empty) == 0
    assert list(empty) == empty.rle() == empty.polygons() == empty.to_coco(1) == []
    assert empty.masks.shape == (0, *SIZE)
    assert len(empty[empty.scores > 0.5]) == 0


def make_regions(count: int = 5, *, continuous: bool = False) -> RegionMasks:
    generator = torch.Generator().manual_seed(count)
    low = torch.rand(count, 2, generator=generator) * 10 - 2
    boxes = torch.cat((low, low + 1 + 6 * torch.rand(count, 2, generator=generator)), dim=1)
    return RegionMasks(torch.rand(count, 28, 28, generator=generator), boxes, SIZE, continuous=continuous)


@pytest.mark.parametrize("continuous", [False, True])
def test_region_masks_lie_in_their_boxes(continuous: bool) -> None:
    regions = RegionMasks(
        torch.ones(2, 28, 28), torch.tensor([[2.0, 3.0, 10.0, 8.0], [-5.0, -5.0, 4.0, 20.0]]), SIZE,
        continuous=continuous,
    )  # fmt: skip
    masks = painted(regions)
    wanted = torch.zeros(2, *SIZE, dtype=torch.bool)
    wanted[0, 3:8, 2:10] = True
    wanted[1, :, :4] = True
    # The integer box has both its ends inside.
    assert torch.equal(masks & wanted, wanted)
    assert (masks ^ wanted).flatten(1).sum(dim=1).le(0 if continuous else 30).all()


@pytest.mark.parametrize(("continuous", "filled"), [(False, False), (True, True)])
def test_a_probability_of_a_half(continuous: bool, filled: bool) -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 12.0]])
    masks = painted(RegionMasks(torch.full((1, 28, 28), 0.5), box, SIZE, continuous=continuous))
    assert bool(masks[0, 2:-2, 2:-2].all()) is filled
    assert bool(masks.any()) is filled


@pytest.mark.parametrize("continuous", [False, True])
def test_region_masks_by_index(continuous: bool) -> None:
    regions = make_regions(continuous=continuous)
    whole = painted(regions)
    assert whole.shape == (5, *SIZE)
    assert torch.equal(painted(regions[torch.tensor([3, 0])]), whole[[3, 0]])
    assert len(regions[:0]) == 0
    assert list(regions[:0].runs()) == []


def test_masks_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_instances(5, dense=False)
    monkeypatch.setattr("protomask.structures.instances._CHUNK_BYTES", 2 * SIZE[0] * SIZE[1])
    chunks = list(found.iter_masks())
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat(chunks), found.masks)


@pytest.mark.parametrize("dense", [True, False])
def test_windows_are_tight_and_hold_every_pixel(dense: bool) -> None:
    found = make_instances(dense=dense)
    found = found[torch.tensor([0, 1, 2])]
    masks = torch.zeros_like(found.masks)
    for mask, (top, left, part) in zip(masks, found.windows(), strict=True):
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert torch.equal(masks, found.masks)


def test_instances_of_some_classes() -> None:
    found = make_instances(5)
    some = found.of_classes(("owl", "cat"))
    assert some.class_names == ("owl", "cat")
    assert some.labels.tolist() == [1, 0, 1]  # of cat, dog, owl, cat, dog
    assert torch.equal(some.boxes, found.boxes[[0, 2, 3]])
    assert torch.equal(some.masks, found.masks[[0, 2, 3]])
    assert len(found.of_classes(())) == 0
    with pytest.raises(ConfigError, match="expected names of the model's classes, got eel"):
        found.of_classes(("cat", "eel"))
