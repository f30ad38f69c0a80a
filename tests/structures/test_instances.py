from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protomask.errors import ConfigError, DataError, MissingExtraError
from protomask.images.draw import PALETTE
from protomask.masks.polygons import polygons_to_mask
from protomask.masks.rle import decode_rle
from protomask.masks.runs import Runs
from protomask.structures.instance import Instance
from protomask.structures.instances import Instances
from protomask.structures.mask_sources import DenseMasks, GridMasks, RunMasks

SIZE = (12, 16)
NAMES = ("cat", "dog", "owl")
FIELDS = ("boxes", "labels", "class_scores", "scores", "masks", "areas")


def grid_masks(count: int) -> GridMasks:
    return GridMasks(np.random.default_rng(count).random((count, 6, 8), dtype=np.float32), SIZE)


def dense_masks(count: int) -> NDArray[np.bool_]:
    return make_instances(count, masks=grid_masks(count)).masks


def make_instances(count: int = 4, *, dense: bool = True, **changes: Any) -> Instances:
    low = np.random.default_rng(count).random((count, 2), dtype=np.float32) * 6
    values: dict[str, Any] = {
        "boxes": np.concatenate((low, low + 3), axis=1),
        "labels": np.arange(count) % 3,
        "class_scores": np.linspace(0.9, 0.1, count, dtype=np.float32),
        "image_size": SIZE,
        "class_names": NAMES,
        **changes,
    }
    if "masks" not in values:
        values["masks"] = dense_masks(count) if dense else grid_masks(count)
    return Instances(**values)


def assert_same(one: Instances, other: Instances) -> None:
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)
    assert one.image_size == other.image_size
    assert one.class_names == other.class_names
    assert (one.mask_scores is None) == (other.mask_scores is None)
    assert one.columns.keys() == other.columns.keys()
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)


# Choosing

INDICES: dict[str, tuple[Any, list[int]]] = {
    "bool array": (np.array([True, False, True, False]), [0, 2]),
    "bool array, none": (np.zeros(4, dtype=np.bool_), []),
    "bool list": ([False, True, False, True], [1, 3]),
    "index array": (np.array([3, 0, 0]), [3, 0, 0]),
    "unsigned array": (np.array([3, 1], dtype=np.uint8), [3, 1]),
    "empty index array": (np.zeros(0, dtype=np.int64), []),
    "array without dimensions": (np.array(2), [2]),
    "array scalar": (np.int32(3), [3]),
    "index list": ([2, 1], [2, 1]),
    "index tuple": ((2, 1), [2, 1]),
    "range": (range(1, 3), [1, 2]),
    "negative list": ([-1, 0], [3, 0]),
    "empty list": ([], []),
    "int": (1, [1]),
    "negative int": (-1, [3]),
    "slice": (slice(1, 3), [1, 2]),
    "everything": (slice(None), [0, 1, 2, 3]),
    "stepped slice": (slice(None, None, 2), [0, 2]),
    "reversed slice": (slice(None, None, -1), [3, 2, 1, 0]),
    "stepped back": (slice(3, 0, -2), [3, 1]),
    "empty slice": (slice(4, None), []),
    "slice beyond the end": (slice(2, 99), [2, 3]),
    "class name": ("cat", [0, 3]),
    "other class name": ("owl", [2]),
}


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("used", [True, False], ids=["masks used before", "masks not used"])
@pytest.mark.parametrize(("index", "chosen"), INDICES.values(), ids=INDICES)
def test_indexing_keeps_everything_together(index: Any, chosen: list[int], used: bool, dense: bool) -> None:
    whole = make_instances(
        dense=dense,
        mask_scores=np.array([0.5, 1, 0.25, 0.75], dtype=np.float32),
        columns={"track_ids": np.array([7, 8, 9, 10]), "ages": np.array([1.5, 2, 3, 4])},
    )
    if used:
        assert whole.masks.any()
    part = whole[index]
    assert isinstance(part, Instances)
    assert len(part) == len(chosen)
    for field in (*FIELDS, "mask_scores", "track_ids"):
        np.testing.assert_array_equal(getattr(part, field), getattr(whole, field)[chosen], err_msg=field)
    np.testing.assert_array_equal(part.columns["ages"], whole.columns["ages"][chosen])
    assert part.image_size == SIZE
    assert part.class_names == NAMES


@pytest.mark.parametrize("kind", ["bool", "int"])
def test_tensors_choose_too(kind: str) -> None:
    torch = pytest.importorskip("torch")
    index = torch.tensor([False, True, False, True]) if kind == "bool" else torch.tensor([1, 3])
    assert_same(make_instances()[index], make_instances()[[1, 3]])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (4, "instance 4 of 4"),
        (-5, "instance -5 of 4"),
        ([0, 9], "instance 9 of 4"),
        ([True, False], "expected 4 truth values for 4 instances, got 2"),
        (True, "expected 4 truth values"),
        (1.0, "expected whole numbers, truth values, a slice or a class name"),
        (None, "expected whole numbers"),
        (["cat"], "expected whole numbers"),
    ],
)
def test_what_chooses_nothing_is_an_index_error(index: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        make_instances()[index]


def test_an_unknown_class_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^class name: expected one of cat, dog, owl, got 'Cat'$"):
        make_instances()["Cat"]
    assert len(make_instances(1)["owl"]) == 0


def test_instances_of_some_classes() -> None:
    found = make_instances(5)
    some = found.of_classes(("owl", "cat"))
    assert some.class_names == ("owl", "cat")
    assert some.labels.tolist() == [1, 0, 1]  # of cat, dog, owl, cat, dog
    np.testing.assert_array_equal(some.boxes, found.boxes[[0, 2, 3]])
    np.testing.assert_array_equal(some.masks, found.masks[[0, 2, 3]])
    assert len(found.of_classes(())) == 0
    with pytest.raises(ConfigError, match=r"expected names of the model's classes, got eel$"):
        found.of_classes(("cat", "eel"))


def test_the_order_of_final_scores() -> None:
    found = make_instances(mask_scores=np.array([0.1, 1, 0.5, 1], dtype=np.float32))
    ordered = found.best_first()
    assert (np.diff(ordered.scores) <= 0).all()
    assert_same(ordered, found[np.argsort(-found.scores, kind="stable")])
    assert ordered.best_first() is ordered
    ties = make_instances(class_scores=np.array([0.5, 0.7, 0.5, 0.7], dtype=np.float32)).best_first()
    assert ties.labels.tolist() == [1, 0, 0, 2]


# Construction

WRONG: dict[str, tuple[str, Any]] = {
    "boxes dtype": ("boxes", np.zeros((4, 4), dtype=np.float64)),
    "boxes shape": ("boxes", np.zeros(4, dtype=np.float32)),
    "boxes list": ("boxes", [[0.0] * 4] * 4),
    "labels dtype": ("labels", np.zeros(4, dtype=np.float32)),
    "labels shape": ("labels", np.zeros((4, 1), dtype=np.int64)),
    "class_scores count": ("class_scores", np.zeros(5, dtype=np.float32)),
    "mask_scores dtype": ("mask_scores", np.zeros(4, dtype=np.int64)),
    "masks frame": ("masks", np.zeros((4, 3, 3), dtype=np.bool_)),
    "masks dtype": ("masks", np.zeros((4, *SIZE), dtype=np.uint8)),
    "masks count": ("masks", grid_masks(3)),
    "label beyond the names": ("labels", np.array([0, 1, 2, 3])),
    "negative label": ("labels", np.array([0, 1, -1, 2])),
    "columns": ("columns", {"age": np.zeros(3)}),
    "columns without rows": ("columns", {"age": np.float32(3)}),
    "columns called as something else": ("columns", {"scores": np.zeros(4)}),
}


@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG)
def test_wrong_instances_are_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"^{field}.*: expected .*, got"):
        make_instances(masks=np.zeros((4, *SIZE), dtype=np.bool_), **{field: value}) if field != "masks" else (
            make_instances(masks=value)
        )


def test_tensors_become_arrays() -> None:
    torch = pytest.importorskip("torch")
    arrays = make_instances(mask_scores=np.full(4, 0.5, dtype=np.float32))
    fields = ("boxes", "labels", "class_scores", "mask_scores", "masks")
    tensors: dict[str, Any] = {name: torch.from_numpy(np.array(getattr(arrays, name))) for name in fields}
    found = make_instances(**tensors, columns={"track_ids": torch.arange(4)})
    assert_same(found, arrays.replace(track_ids=np.arange(4)))
    assert all(isinstance(getattr(found, name), np.ndarray) for name in (*fields, "track_ids"))


def test_numbers_of_numpy_become_plain_ones() -> None:
    found = make_instances(image_size=np.array(SIZE))
    assert found.image_size == SIZE
    assert [type(side) for side in found.image_size] == [int, int]


def test_scores_are_the_product_where_there_are_mask_scores() -> None:
    mask_scores = np.array([0.5, 1.0, 0.0, 0.25], dtype=np.float32)
    found = make_instances(mask_scores=mask_scores)
    np.testing.assert_array_equal(found.scores, found.class_scores * mask_scores)
    assert found.scores.dtype == np.float32
    plain = make_instances()
    assert plain.mask_scores is None
    np.testing.assert_array_equal(plain.scores, plain.class_scores)


def test_nothing_found() -> None:
    empty = Instances.empty(SIZE, NAMES)
    assert_same(empty, make_instances(0))
    assert_same(empty[empty.scores > 0.5], empty)
    for nothing in (list(empty), empty.rle(), empty.polygons(), empty.to_coco(1), empty.names):
        assert nothing == []
    assert empty.masks.shape == (0, *SIZE)
    assert not empty.label_map().any()
    assert len(Instances.empty(SIZE, ())) == 0


# Immutability


def test_nothing_can_be_changed() -> None:
    found = make_instances(mask_scores=np.ones(4, dtype=np.float32), columns={"track_ids": np.arange(4)})
    for name in ("boxes", "scores", "masks", "class_names", "anything"):
        with pytest.raises(AttributeError, match=f"replace|{name}"):
            setattr(found, name, None)
        with pytest.raises(AttributeError):
            delattr(found, name)
    arrays: list[Any] = [found.boxes, found.labels, found.class_scores, found.mask_scores, found.masks,
                         found.track_ids, *found.runs(), found[:2].boxes, found[0].masks]  # fmt: skip
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        found.columns["more"] = np.arange(4)  # type: ignore[index]


def test_what_they_are_made_from_may_change() -> None:
    arrays: dict[str, Any] = {
        "boxes": np.ones((4, 4), dtype=np.float32),
        "labels": np.ones(4, dtype=np.int64),
        "class_scores": np.ones(4, dtype=np.float32),
        "mask_scores": np.ones(4, dtype=np.float32),
    }
    columns = {"track_ids": np.ones(4, dtype=np.int64)}
    found = make_instances(**arrays, columns=columns)
    for array in (*arrays.values(), *columns.values()):
        array[:] = 0
    columns.clear()
    for name in (*arrays, "track_ids"):
        assert (getattr(found, name) == 1).all(), name


def test_replace_makes_new_ones() -> None:
    found = make_instances(columns={"ages": np.arange(4)})
    changed = found.replace(class_scores=np.full(4, 0.5, dtype=np.float32), class_names=("a", "b", "c"))
    assert changed.scores.tolist() == [0.5] * 4
    assert changed.names == ["a", "b", "c", "a"]
    assert changed.columns.keys() == {"ages"}
    np.testing.assert_array_equal(changed.masks, found.masks)
    assert found.names == ["cat", "dog", "owl", "cat"]
    assert_same(found.replace(), found)


def test_other_names_become_columns() -> None:
    found = make_instances().replace(track_ids=np.array([4, 3, 2, 1]), ages=[1, 2, 3, 4])
    assert found.track_ids is not None
    assert found.track_ids.tolist() == [4, 3, 2, 1]
    assert found.columns["ages"].tolist() == [1, 2, 3, 4]
    more = found.replace(columns={"ages": np.zeros(4), "speeds": np.ones(4)})
    assert more.columns.keys() == {"track_ids", "ages", "speeds"}
    assert more.columns["ages"].tolist() == [0] * 4
    assert make_instances().track_ids is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((3, 4), dtype=np.float32)}, "boxes: expected"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels: expected"),
        ({"scores": np.zeros(4, dtype=np.float32)}, "columns: expected names .* got 'scores'"),
        ({"ages": [1, 2]}, r"columns\['ages'\]: expected 4 rows, got"),
    ],
)
def test_what_does_not_fit_cannot_replace(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        make_instances().replace(**changes)


def test_cat_keeps_the_order_of_its_parts() -> None:
    first, second = make_instances(2, columns={"track_ids": np.array([1, 2])}), make_instances(3, dense=False)
    both = Instances.cat([first, second])
    assert len(both) == 5
    for field in FIELDS:
        np.testing.assert_array_equal(
            getattr(both, field), np.concatenate([getattr(first, field), getattr(second, field)]), err_msg=field
        )
    assert both.track_ids is None  # not all parts have them
    tracked = Instances.cat([first, second.replace(track_ids=np.array([5, 6, 7]))])
    assert tracked.track_ids is not None
    assert tracked.track_ids.tolist() == [1, 2, 5, 6, 7]
    assert_same(Instances.cat([first]), first)


@pytest.mark.parametrize("order", [1, -1])
def test_parts_without_instances_take_nothing_from_the_others(order: int) -> None:
    scored = make_instances(mask_scores=np.full(4, 0.5, dtype=np.float32), columns={"track_ids": np.arange(4)})
    assert_same(Instances.cat([scored, Instances.empty(SIZE, NAMES)][::order]), scored)
    empty = Instances.empty(SIZE, NAMES)
    assert_same(Instances.cat([empty, empty]), empty)


@pytest.mark.parametrize(
    "parts",
    [[], [make_instances(), Instances.empty((9, 9), NAMES)], [make_instances(), Instances.empty(SIZE, ("cat",))]],
    ids=["none", "sizes", "names"],
)
def test_parts_that_do_not_fit_together(parts: list[Instances]) -> None:
    with pytest.raises(DataError, match=r"^cat: expected"):
        Instances.cat(parts)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_copies_and_pickles(dense: bool, used: bool) -> None:
    found = make_instances(dense=dense, mask_scores=np.ones(4, dtype=np.float32), columns={"track_ids": np.arange(4)})
    if used:
        found.runs()
    for same in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert_same(same, found)
        with pytest.raises(ValueError, match="read-only"):
            same.boxes[:] = 0
    one = pickle.loads(pickle.dumps(list(found)[1]))
    assert (one.name, one.score, one.area) == ("dog", list(found)[1].score, list(found)[1].area)


# Masks


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_masks_made_on_demand_are_the_dense_ones(count: int) -> None:
    dense, lazy = make_instances(count), make_instances(count, dense=False)
    assert lazy.masks.shape == (count, *SIZE)
    assert lazy.masks.dtype == np.bool_
    np.testing.assert_array_equal(lazy.masks, dense.masks)
    assert lazy.masks is lazy.masks
    assert lazy.rle() == dense.rle()
    np.testing.assert_array_equal(lazy.areas, dense.masks.sum(axis=(1, 2)))
    for one, other in zip(lazy.polygons(), dense.polygons(), strict=True):
        np.testing.assert_array_equal(polygons_to_mask(one, SIZE), polygons_to_mask(other, SIZE))


def test_masks_are_interpolated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_instances(dense=False)
    calls = []
    whole = GridMasks.runs

    def counted(masks: GridMasks) -> Iterator[Runs]:
        calls.append(len(masks))
        return whole(masks)

    monkeypatch.setattr(GridMasks, "runs", counted)
    wanted = [found.rle(), found.polygons(), found.masks, found.areas, found.to_geojson(), found.label_map()]
    assert len(wanted) == 6
    assert found[1:].rle() == found.rle()[1:]
    assert len(calls) == 1


def test_masks_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = make_instances(5, dense=False)
    monkeypatch.setattr("protomask.structures.instances._CHUNK_BYTES", 2 * SIZE[0] * SIZE[1])
    chunks = list(found.iter_masks())
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), found.masks)


@pytest.mark.parametrize("dense", [True, False])
def test_windows_are_tight_and_hold_every_pixel(dense: bool) -> None:
    found = make_instances(dense=dense)[[0, 1, 2]]
    masks = np.zeros_like(found.masks)
    for mask, (top, left, part) in zip(masks, found.windows(), strict=True):
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    np.testing.assert_array_equal(masks, found.masks)


def test_codes_and_outlines_give_the_masks_back() -> None:
    found = make_instances()
    assert len(found.rle()) == len(found.polygons()) == 4
    for mask, rle, polygons in zip(found.masks, found.rle(), found.polygons(), strict=True):
        assert rle["size"] == list(SIZE)
        np.testing.assert_array_equal(decode_rle(rle), mask)
        np.testing.assert_array_equal(polygons_to_mask(polygons, SIZE), mask)


def test_the_first_instance_is_seen_where_masks_overlap() -> None:
    found = make_instances(5)
    numbers = found.label_map()
    assert numbers.dtype == np.uint16
    wanted = np.zeros(SIZE, dtype=np.uint16)
    for number in range(5, 0, -1):
        wanted[found.masks[number - 1]] = number
    np.testing.assert_array_equal(numbers, wanted)


# One by one


def test_iteration_gives_single_instances() -> None:
    found = make_instances(mask_scores=np.full(4, 0.5, dtype=np.float32), columns={"track_ids": np.arange(4, 8)})
    singles = list(found)
    assert [type(one) for one in singles] == [Instance] * 4
    for row, one in enumerate(singles):
        assert one.name == found.names[row]
        assert one.label == found.labels[row]
        assert one.score == float(found.scores[row])
        assert one.class_score == float(found.class_scores[row])
        assert one.mask_score == 0.5
        assert one.track_id == 4 + row
        assert one.area == found.areas[row] == one.mask.sum()
        assert one.rle() == found.rle()[row]
        np.testing.assert_array_equal(one.box, found.boxes[row])
        np.testing.assert_array_equal(one.mask, found.masks[row])
        np.testing.assert_array_equal(one.runs, found.runs()[row])
        np.testing.assert_array_equal(polygons_to_mask(one.polygons(), SIZE), found.masks[row])
        assert one.perimeter > 0
        plain: list[Any] = [
            one.label,
            one.score,
            one.class_score,
            one.mask_score,
            one.track_id,
            one.area,
            one.perimeter,
        ]
        assert {type(value) for value in plain} == {int, float}
    plain_one = next(iter(make_instances()))
    assert plain_one.mask_score is plain_one.track_id is None


def test_an_instance_without_pixels() -> None:
    (one,) = make_instances(1, masks=RunMasks([np.zeros((0, 2), dtype=np.int64)]))
    assert one.area == one.perimeter == 0
    assert one.polygons() == []
    assert not one.mask.any()
    assert one.window.mask.shape == (0, 0)
    assert decode_rle(one.rle()).shape == SIZE


def test_an_instance_cannot_be_changed() -> None:
    one = next(iter(make_instances()))
    with pytest.raises(AttributeError):
        one.score = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        one.box[0] = 1


def test_words() -> None:
    assert repr(make_instances(2)) == "Instances(2 in 16x12: cat 0.90, dog 0.10)"
    assert repr(make_instances(7)).endswith("dog 0.37, ...)")
    assert repr(make_instances(0)) == "Instances(0 in 16x12: )"
    boxes = np.array([[1, 2, 3, 4.4]], dtype=np.float32)
    assert repr(next(iter(make_instances(1, boxes=boxes)))) == "Instance(cat 0.90 in 1,2..3,4)"


# For others


def plain_types(value: Any) -> set[type]:
    """Types of everything in nested JSON."""
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {type(value)}.union(*map(plain_types, inside))


JSON_TYPES = {dict, list, str, int, float, bool, type(None)}


def test_a_plain_dict() -> None:
    found = make_instances(
        mask_scores=np.full(4, 0.5, dtype=np.float32),
        columns={"track_ids": np.arange(4), "notes": np.array(["a", "b", "c", "d"]), "speeds": np.ones((4, 2))},
    )
    told = found.to_dict()
    assert plain_types(told) <= JSON_TYPES
    assert json.loads(json.dumps(told)) == told
    assert told["size"] == list(SIZE)
    second = told["instances"][1]
    assert (second["number"], second["label"], second["class_name"]) == (2, 1, "dog")
    assert second["score"] == float(found.scores[1])
    assert second["class_score"] == float(found.class_scores[1])
    assert second["mask_score"] == 0.5
    assert second["box"] == found.boxes[1].tolist()
    assert (second["track_id"], second["notes"], second["speeds"]) == (1, "b", [1.0, 1.0])
    np.testing.assert_array_equal(decode_rle(second["segmentation"]), found.masks[1])
    assert "segmentation" not in found.to_dict(masks=False)["instances"][0]
    assert make_instances(0).to_dict() == {"size": list(SIZE), "instances": []}


@pytest.mark.parametrize("number", [int, np.int64, np.uint8, np.int32])
def test_coco_rows(number: type) -> None:
    found = make_instances(mask_scores=np.full(4, 0.5, dtype=np.float32))
    rows = found.to_coco(number(42), category_ids=[number(3), number(17), number(90)])
    assert plain_types(rows) <= JSON_TYPES
    assert json.loads(json.dumps(rows)) == rows
    assert [row["category_id"] for row in rows] == [3, 17, 90, 3]
    assert {row["image_id"] for row in rows} == {42}
    for row, box, score, class_score in zip(rows, found.boxes, found.scores, found.class_scores, strict=True):
        x1, y1, x2, y2 = box.tolist()
        assert row["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert row["score"] == float(score)
        assert row["class_score"] == float(class_score)
    assert [row["segmentation"] for row in rows] == found.rle()
    assert not any("track_id" in row for row in rows)
    tracked = found.replace(track_ids=np.array([9, 8, 7, 6])).to_coco(42)
    assert plain_types(tracked) <= JSON_TYPES
    assert [row["track_id"] for row in tracked] == [9, 8, 7, 6]


@pytest.mark.parametrize("track_ids", [np.ones(4), np.ones((4, 1), dtype=np.int64), [1, 2, 3]], ids=str)
def test_track_ids_are_whole_numbers(track_ids: Any) -> None:
    with pytest.raises(DataError, match="track_ids: expected int64"):
        make_instances().replace(track_ids=track_ids)


def test_coco_rows_without_category_ids_or_mask_scores() -> None:
    rows = make_instances().to_coco(1)
    assert [row["category_id"] for row in rows] == [1, 2, 3, 1]
    assert "class_score" not in rows[0]
    assert make_instances().to_coco(1, category_ids=np.array([5, 6, 7]))[2]["category_id"] == 7  # type: ignore[arg-type]
    with pytest.raises(DataError, match="category_ids: expected one for each of 3 classes, got 2"):
        make_instances().to_coco(1, category_ids=[1, 2])


def test_geojson() -> None:
    masks = np.zeros((3, *SIZE), dtype=np.bool_)
    masks[0, 2:5, 3:9] = True
    masks[0, 3, 4] = False
    masks[1, 0, 0] = masks[1, 5, 5] = True
    told = make_instances(3, masks=masks, columns={"track_ids": np.array([5, 6, 7])}).to_geojson()
    assert plain_types(told) <= JSON_TYPES
    assert json.loads(json.dumps(told)) == told
    assert (told["type"], told["size"]) == ("FeatureCollection", list(SIZE))
    first, second, third = told["features"]
    assert first["geometry"] == {
        "type": "Polygon",
        "coordinates": [
            [[3, 2], [9, 2], [9, 5], [3, 5], [3, 2]],
            [[4, 3], [4, 4], [5, 4], [5, 3], [4, 3]],
        ],
    }
    assert first["properties"]["track_id"] == 5
    assert (first["properties"]["number"], first["properties"]["class_name"]) == (1, "cat")
    assert second["geometry"]["type"] == "MultiPolygon"
    assert [len(part[0]) for part in second["geometry"]["coordinates"]] == [5, 5]
    assert third["geometry"] is None


@pytest.mark.parametrize("count", [0, 4])
def test_supervision(count: int) -> None:
    pytest.importorskip("supervision")
    found = make_instances(count)
    detections: Any = found.to_supervision()
    assert len(detections) == count
    np.testing.assert_array_equal(detections.xyxy, found.boxes)
    np.testing.assert_array_equal(detections.mask, found.masks)
    np.testing.assert_array_equal(detections.confidence, found.scores)
    assert detections.class_id.tolist() == found.labels.tolist()
    assert detections.data["class_name"].tolist() == found.names
    assert detections.tracker_id is None
    tracked: Any = found.replace(track_ids=np.arange(count)).to_supervision()
    assert tracked.tracker_id.tolist() == list(range(count))


def test_without_supervision_the_message_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'protomask\[supervision\]'"):
        make_instances().to_supervision()


# Drawing

WIDE = (120, 200)


def gray() -> NDArray[np.uint8]:
    return np.full((*WIDE, 3), 128, dtype=np.uint8)


def two(labels: tuple[int, int] = (0, 1), **changes: Any) -> Instances:
    """Two squares apart."""
    masks = np.zeros((2, *WIDE), dtype=np.bool_)
    masks[0, 30:80, 20:70] = masks[1, 40:100, 110:170] = True
    values: dict[str, Any] = {
        "boxes": np.array([[20, 30, 70, 80], [110, 40, 170, 100]], dtype=np.float32),
        "labels": np.array(labels),
        "class_scores": np.array([0.9, 0.8], dtype=np.float32),
        "masks": masks,
        "image_size": WIDE,
        "class_names": NAMES,
    }
    return Instances(**values | changes)


def test_drawing_is_on_a_copy_of_any_kind_of_image() -> None:
    image = gray()
    drawn = two().draw(image)
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn != 128).any()
    np.testing.assert_array_equal(two().draw(Image.fromarray(image)), drawn)


def test_parts_of_the_drawing_can_be_left_out() -> None:
    masks = two().draw(gray(), boxes=False, labels=False)
    np.testing.assert_array_equal((masks != 128).any(axis=2), two().masks.any(axis=0))
    boxes = two().draw(gray(), masks=False, labels=False)
    assert 0 < (boxes != 128).any(axis=2).sum() < 2 * 4 * 60
    assert (two().draw(gray(), masks=False, boxes=False, labels=False) == 128).all()
    with_scores, without = (
        (two().draw(gray(), masks=False, boxes=False, scores=scores) != 128).any(axis=2).sum()
        for scores in (True, False)
    )
    assert 0 < without < with_scores


@pytest.mark.parametrize(
    ("changes", "color_by", "expected"),
    [
        ({"labels": (2, 2)}, "auto", (2, 2)),
        ({"labels": (0, 0), "class_names": ("disc",)}, "auto", (0, 1)),
        ({"labels": (2, 2)}, "instance", (0, 1)),
        ({"labels": (0, 0), "class_names": ("disc",)}, "class", (0, 0)),
        ({"labels": (2, 1), "columns": {"track_ids": np.array([4, 7])}}, "auto", (4, 7)),
        ({"labels": (2, 1), "columns": {"track_ids": np.array([4, 7])}}, "instance", (4, 7)),
        ({"labels": (2, 1), "columns": {"track_ids": np.array([4, 7])}}, "class", (2, 1)),
    ],
)
def test_colors(changes: dict[str, Any], color_by: Any, expected: tuple[int, int]) -> None:
    drawn = two(**changes).draw(gray(), boxes=False, labels=False, opacity=1.0, color_by=color_by)
    assert (tuple(drawn[50, 40]), tuple(drawn[70, 140])) == (PALETTE[expected[0]], PALETTE[expected[1]])


def test_tracks_are_written_behind_the_class() -> None:
    options: dict[str, Any] = {"masks": False, "boxes": False, "scores": False}
    plain = two().draw(gray(), **options)
    tracked = two(columns={"track_ids": np.array([0, 1])}).draw(gray(), color_by="class", **options)
    assert (tracked != 128).any(axis=2).sum() > (plain != 128).any(axis=2).sum()


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (gray()[:50], {}, DataError, r"image: expected \(H, W\) = \(120, 200\) as predicted, got \(50, 200\)"),
        (gray(), {"opacity": 1.5}, ConfigError, "opacity: expected a number from 0 to 1, got 1.5"),
        (gray(), {"color_by": "shape"}, ConfigError, "color_by: expected auto, class or instance, got 'shape'"),
        ("missing.jpg", {}, DataError, "missing.jpg: no such file"),
    ],
)
def test_wrong_arguments_of_drawing(image: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        two().draw(image, **options)


def test_dense_masks_are_not_copied() -> None:
    masks = np.zeros((4, *SIZE), dtype=np.bool_)
    assert np.shares_memory(make_instances(masks=masks).masks, masks)
    assert isinstance(make_instances(masks=DenseMasks(masks)).masks, np.ndarray)


# The image, where it is known


def test_the_image_of_a_path_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(gray()).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    found = two(image_source="a.png")
    monkeypatch.chdir(tmp_path.parent)
    assert found.image_source == str(tmp_path / "a.png")
    np.testing.assert_array_equal(found.draw(), found.draw(gray()))
    Image.fromarray(gray()[:50]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"as predicted, got \(50, 200\)"):
        found.draw()
    assert found.draw(gray()).shape == (*WIDE, 3)


def test_an_unknown_image_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^image: expected the image that was predicted, got none"):
        two().draw()


def test_the_image_stays_known() -> None:
    found = make_instances(image_source="https://example.org/a.jpg")
    assert found.image_source == "https://example.org/a.jpg"
    for other in (found[:2], found["cat"], found.best_first(), found.replace(age=np.arange(4)), copy.deepcopy(found),
                  pickle.loads(pickle.dumps(found)), Instances.cat([found, found[:1]]), found.from_image(None),
                  found.of_classes(["owl"])):  # fmt: skip
        assert other.image_source == found.image_source
    assert Instances.cat([found, found.replace(image_source="b.jpg")]).image_source is None
    assert make_instances().image_source is None
    with pytest.raises(AttributeError, match="never change"):
        found.image_source = "b.jpg"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_saving(tmp_path: Path, name: str) -> None:
    path = two().save(tmp_path / name, gray(), labels=False)
    assert path == tmp_path / name
    read = np.asarray(Image.open(path).convert("RGB")).astype(int)
    drawn = two().draw(gray(), labels=False)
    assert np.abs(read - drawn).mean() < (0.1 if name == "a.png" else 5)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.png.json"])
def test_other_endings_are_refused_before_drawing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a file that ends in \.png, \.jpg, \.jpeg, \.webp, got"):
        two().save(tmp_path / name, "missing.jpg")
    assert not list(tmp_path.iterdir())


def test_showing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Any, str]] = []
    monkeypatch.setattr("protomask.structures.overlays.show_image", lambda pixels, title: shown.append((pixels, title)))
    two().show(gray(), scores=False)
    two(image_source="/a.png").show(gray())
    assert [title for _, title in shown] == ["protomask", str(Path("/a.png").absolute())]
    np.testing.assert_array_equal(shown[0][0], two().draw(gray(), scores=False))


@pytest.mark.parametrize("count", [0, 4])
def test_pandas(count: int) -> None:
    pandas = pytest.importorskip("pandas")
    found = make_instances(count, columns={"track_ids": np.arange(count), "colour": np.full(count, "red")})
    table = found.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == count
    assert list(table) == [
        "number", "label", "class_name", "score", "class_score", "mask_score", "x1", "y1", "x2", "y2", "area",
        "perimeter", "track_id", "colour",
    ]  # fmt: skip
    np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]].to_numpy().reshape(-1, 4), found.boxes)
    assert table["class_name"].tolist() == found.names
    assert table["score"].tolist() == found.scores.tolist()
    assert table["area"].tolist() == found.areas.tolist()
    assert table["perimeter"].tolist() == [round(one.perimeter, 2) for one in found]
    assert table["track_id"].tolist() == list(range(count))
    assert table["mask_score"].isna().all()


def test_without_pandas_the_message_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'protomask\[pandas\]'"):
        make_instances().to_pandas()
