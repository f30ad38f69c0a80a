from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protomask.detection import nms
from protomask.detection.nms import batched_nms, cross_class_fast_nms, fast_nms, pairwise_iou
from protomask.detection.soft_nms import batched_soft_nms, soft_nms
from protomask.errors import ConfigError

Floats = NDArray[np.float32]
Selection = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
Scene = tuple[Floats, Floats]
ALL: dict[str, Callable[..., Selection]] = {
    "fast": fast_nms,
    "cross_class": cross_class_fast_nms,
    "batched": batched_nms,
    "soft": batched_soft_nms,
}
seeds = st.integers(0, 2**32)


@st.composite
def scenes(draw: st.DrawFn, max_boxes: int = 40, max_classes: int = 4) -> Scene:
    """Boxes on a coarse grid, so that they coincide, touch and are empty, and scores with many ties."""
    random = np.random.default_rng(draw(seeds))
    count, classes = draw(st.integers(0, max_boxes)), draw(st.integers(1, max_classes))
    levels = draw(st.sampled_from([2, 10, 100000]))
    side = draw(st.sampled_from([4, 12]))
    corner, extent = random.integers(0, side, (2, count, 2))
    scores = random.integers(0, levels, (classes, count)) / levels
    return np.concatenate([corner, corner + extent], axis=1).astype(np.float32), scores.astype(np.float32)


def distinct(scores: Floats, seed: int = 0) -> Floats:
    order = np.random.default_rng(seed).permutation(scores.size)
    # The odd power keeps products with simple IoUs, as Soft-NMS makes them, from coinciding.
    return (((order + 1) / (scores.size + 1)) ** 1.37).astype(np.float32).reshape(scores.shape)


def best(scores: Floats) -> NDArray[np.int64]:
    """Best first; equal ones in their order."""
    return np.argsort(-scores, kind="stable")


def assert_same(got: Selection, expected: Selection) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def overlaps(boxes: Floats) -> NDArray[np.float32]:
    """(N, N) IoU, NaN for two empty boxes."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
    shared = sides.clip(0).prod(axis=2)
    with np.errstate(invalid="ignore"):
        iou: NDArray[np.float32] = shared / (area[:, None] + area - shared)
    return iou


def gathered(rows: list[NDArray[np.int64]], scores: Floats, max_detections: int | None) -> Selection:
    """The kept rows of each class as one selection."""
    labels = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *rows])
    # In the order of classes and, within one, of rows; then by score.
    places = np.lexsort((flat, labels))
    flat, labels = flat[places], labels[places]
    order = best(scores[labels, flat])[:max_detections]
    return flat[order], labels[order], scores[labels, flat][order]


def dense_fast_nms(
    boxes: Floats,
    scores: Floats,
    *,
    iou_threshold: float,
    max_candidates: int,
    max_detections: int | None,
    score_threshold: float | None = None,
    empty_suppress: bool = True,
) -> Selection:
    """The definition, word for word: sort, IoU matrix, strict upper triangle, column maximum."""
    kept = []
    for own in scores:
        ranked = best(own)[:max_candidates]
        iou = np.nan_to_num(overlaps(boxes[ranked]), nan=np.inf if empty_suppress else 0.0)
        most = np.triu(iou, 1).max(axis=0, initial=0)
        ranked = ranked[most <= np.float32(iou_threshold)]
        kept.append(ranked if score_threshold is None else ranked[own[ranked] > score_threshold])
    return gathered(kept, scores, max_detections)


def plain_greedy_nms(boxes: Floats, scores: Floats, *, iou_threshold: float, max_detections: int | None) -> Selection:
    """The definition: the best that is left is kept, and what overlaps it too much is not left."""
    iou = overlaps(boxes).astype(np.float64)
    kept = []
    for own in scores:
        left, rows = best(own).tolist(), []
        while left:
            rows.append(left.pop(0))
            left = [row for row in left if not iou[rows[-1], row] > iou_threshold]
        kept.append(np.array(rows, dtype=np.int64))
    return gathered(kept, scores, max_detections)


@pytest.fixture(params=["as it is", "in small blocks", "class by class"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes that decide how the work is cut, made small enough to matter in small scenes."""
    if request.param != "as it is":
        monkeypatch.setattr(nms, "_SHARED_BOXES", 0)
    if request.param == "in small blocks":
        monkeypatch.setattr(nms, "_BLOCK", 4)


# Goldens of the official code


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, NDArray[Any]]:
    with np.load(golden_dir / "yolact" / "ops.npz") as arrays:
        kinds = ("nms", "sparse", "cython_nms", "detect")
        return {name: arrays[name] for name in arrays.files if name.startswith(kinds)}


def official_batched(boxes: Floats, scores: Floats) -> Selection:
    return batched_nms(boxes * np.float32(550), scores, score_threshold=0.05, legacy_offset=1.0, inclusive=True)


MODES: dict[str, Callable[[Floats, Floats], Selection]] = {
    "nms_fast": fast_nms,
    "nms_fast_top50": lambda boxes, scores: fast_nms(boxes, scores, max_candidates=50),
    "nms_fast_second": lambda boxes, scores: fast_nms(boxes, scores, score_threshold=0.05),
    "nms_cc": cross_class_fast_nms,
    "nms_trad": official_batched,
    "sparse_fast": fast_nms,
    "sparse_fast_second": lambda boxes, scores: fast_nms(boxes, scores, score_threshold=0.05),
    "sparse_cc": cross_class_fast_nms,
    "sparse_trad": official_batched,
}


@pytest.mark.parametrize("name", MODES)
def test_official_results(golden: dict[str, NDArray[Any]], name: str) -> None:
    source = name.split("_")[0]
    boxes, scores = golden[f"{source}.boxes"], golden[f"{source}.scores"]
    indices, labels, kept_scores = MODES[name](boxes, scores)
    assert np.array_equal(indices, golden[f"{name}.row"])
    assert np.array_equal(labels, golden[f"{name}.class"])
    assert np.array_equal(kept_scores, golden[f"{name}.score"])
    tolerance = 1e-6 if name.endswith("trad") else 0.0  # the official code scales these boxes up and down again
    np.testing.assert_allclose(boxes[indices], golden[f"{name}.box"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "select"), [("fast", fast_nms), ("cc", cross_class_fast_nms), ("trad", official_batched)]
)
def test_official_detections_from_logits(
    golden: dict[str, NDArray[Any]], name: str, select: Callable[[Floats, Floats], Selection]
) -> None:
    deltas, anchors = golden["detect.loc"][0], golden["detect.priors"]
    centres = anchors[:, :2] + deltas[:, :2] * np.float32(0.1) * anchors[:, 2:]
    sizes = anchors[:, 2:] * np.exp(deltas[:, 2:] * np.float32(0.2))
    boxes = np.concatenate([centres - sizes / 2, centres - sizes / 2 + sizes], axis=1)
    scores = golden["detect.conf"][0].T[1:]
    rows = np.flatnonzero(scores.max(axis=0) > 0.05)
    indices, labels, kept_scores = select(boxes[rows], scores[:, rows])
    assert np.array_equal(rows[indices], golden[f"detect_{name}.row"])
    assert np.array_equal(labels, golden[f"detect_{name}.class"])
    assert np.array_equal(kept_scores, golden[f"detect_{name}.score"])


def test_official_single_class_nms(golden: dict[str, NDArray[Any]]) -> None:
    table = golden["cython_nms.dets"]
    indices, _, _ = batched_nms(table[:, :4], table[:, 4][None], max_detections=None, legacy_offset=1.0, inclusive=True)
    assert np.array_equal(np.sort(indices), np.sort(golden["cython_nms.keep"]))


def soft_nms_cases() -> list[str]:
    with np.load(Path(__file__).resolve().parents[1] / "golden" / "soft_nms.npz") as arrays:
        return sorted(name.removesuffix("_keep") for name in arrays.files if name.endswith("_keep"))


@pytest.mark.parametrize("case", soft_nms_cases())
def test_soft_nms_goldens(golden_dir: Path, case: str) -> None:
    match = re.fullmatch(r"(linear|gaussian)_(iou|sigma)([\d.]+)_min([\d.]+)_off(\d)", case)
    assert match is not None
    method, parameter, value, minimum, offset = match.groups()
    options: dict[str, Any] = {"iou": {"iou_threshold": float(value)}, "sigma": {"sigma": float(value)}}[parameter]
    with np.load(golden_dir / "soft_nms.npz") as arrays:
        boxes, scores = arrays["boxes"], arrays["scores"]
        keep, decayed = arrays[f"{case}_keep"], arrays[f"{case}_scores"]
    options |= {"method": method, "min_score": float(minimum), "offset": float(offset)}
    indices, got = soft_nms(boxes, scores, **options)
    assert np.array_equal(indices, keep)
    np.testing.assert_allclose(got, decayed, rtol=1e-7)  # float32 of what is computed in float64


# Properties


@pytest.mark.usefixtures("blocks")
@given(
    scenes(),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    st.integers(1, 15),
    st.sampled_from([1, 2, 7, 100]),
    st.sampled_from([None, 0.0, 0.5]),
    st.booleans(),
)
@settings(max_examples=200)
def test_fast_nms_is_the_dense_definition(
    scene: Scene, iou: float, candidates: int, detections: int, score: float | None, empty: bool
) -> None:
    options: dict[str, Any] = {
        "iou_threshold": iou,
        "max_candidates": candidates,
        "max_detections": detections,
        "score_threshold": score,
        "empty_suppress": empty,
    }
    assert_same(fast_nms(*scene, **options), dense_fast_nms(*scene, **options))


def clustered(boxes: int, classes: int, *, spread: float = 0.03) -> Scene:
    random = np.random.default_rng(1)
    corner = random.random((6, 2))[random.integers(0, 6, boxes)] + spread * random.standard_normal((boxes, 2))
    return (
        np.concatenate([corner, corner + 0.2], axis=1).astype(np.float32),
        random.random((classes, boxes), dtype=np.float32),
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("boxes", "classes"), [(400, 20), (900, 3), (1500, 1)])
def test_fast_nms_is_the_dense_definition_at_full_size(boxes: int, classes: int, tied: bool) -> None:
    scene = clustered(boxes, classes)
    if tied:
        scene[1][:] = 0.5
    for limits in ({"max_candidates": 200, "max_detections": 100}, {"max_candidates": 1500, "max_detections": 400}):
        options: dict[str, Any] = {"iou_threshold": 0.5, **limits}
        assert_same(fast_nms(*scene, **options), dense_fast_nms(*scene, **options))


@given(scenes(max_classes=5), st.sampled_from([0.3, 0.5]), st.integers(1, 15), st.sampled_from([None, 1, 3]))
@settings(max_examples=150)
def test_cross_class_is_the_dense_definition_on_best_classes(
    scene: Scene, iou: float, candidates: int, detections: int | None
) -> None:
    boxes, scores = scene
    highest, label = scores.max(axis=0), scores.argmax(axis=0)
    options: dict[str, Any] = {"iou_threshold": iou, "max_candidates": candidates, "max_detections": detections}
    rows, _, kept = dense_fast_nms(boxes, highest[None], **options)
    assert_same(cross_class_fast_nms(boxes, scores, **options), (rows, label[rows], kept))


@pytest.mark.usefixtures("blocks")
@given(scenes(), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.sampled_from([None, 1, 2, 7]))
@settings(max_examples=150)
def test_greedy_is_the_plain_definition(scene: Scene, iou: float, detections: int | None) -> None:
    options: dict[str, Any] = {"iou_threshold": iou, "max_detections": detections}
    assert_same(batched_nms(*scene, **options), plain_greedy_nms(*scene, **options))


@pytest.mark.parametrize(("boxes", "classes"), [(400, 20), (900, 3), (1500, 1)])
@pytest.mark.parametrize("spread", [0.001, 0.05])
def test_greedy_is_the_plain_definition_at_full_size(boxes: int, classes: int, spread: float) -> None:
    scene = clustered(boxes, classes, spread=spread)
    for detections in (100, None):
        options: dict[str, Any] = {"iou_threshold": 0.5, "max_detections": detections}
        assert_same(batched_nms(*scene, **options), plain_greedy_nms(*scene, **options))


@given(scenes(max_classes=1), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
@settings(max_examples=150)
def test_greedy_is_torchvisions(scene: Scene, iou: float) -> None:
    torch = pytest.importorskip("torch")
    ops: Any = pytest.importorskip("torchvision.ops")
    boxes, scores = scene[0], distinct(scene[1])
    indices, _, _ = batched_nms(boxes, scores, iou_threshold=iou, max_detections=None)
    wanted = ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores[0]), iou)
    assert np.array_equal(indices, wanted.numpy())


@given(scenes(), st.sampled_from([0.2, 0.5, 0.7]))
@settings(max_examples=150)
def test_greedy_leaves_no_overlap_in_a_class(scene: Scene, iou: float) -> None:
    boxes, scores = scene
    indices, labels, kept = batched_nms(boxes, scores, iou_threshold=iou, max_detections=None)
    overlap = np.nan_to_num(overlaps(boxes[indices]))
    np.fill_diagonal(overlap, 0)
    assert not ((overlap > iou + 1e-6) & (labels[:, None] == labels)).any()
    assert np.array_equal(kept, scores[labels, indices])
    assert (np.diff(kept) <= 0).all()


@given(scenes(), scenes())
def test_pairwise_iou(first: Scene, second: Scene) -> None:
    both = np.concatenate([first[0], second[0]])
    count = len(first[0])
    assert np.array_equal(pairwise_iou(first[0], second[0]), overlaps(both)[:count, count:], equal_nan=True)


def test_inclusive_and_legacy_offset() -> None:
    scores = np.array([[0.9, 0.8]], dtype=np.float32)
    half = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], dtype=np.float32)
    assert batched_nms(half, scores, iou_threshold=0.5)[0].tolist() == [0, 1]
    assert batched_nms(half, scores, iou_threshold=0.5, inclusive=True)[0].tolist() == [0]
    # 6 / 11 with one pixel added to each side, so suppressed without `inclusive`.
    assert batched_nms(half, scores, iou_threshold=0.5, legacy_offset=1.0)[0].tolist() == [0]


@pytest.mark.parametrize("name", ALL)
@given(scenes(max_boxes=25), seeds)
@settings(max_examples=60)
def test_the_order_of_the_input_does_not_matter(name: str, scene: Scene, seed: int) -> None:
    boxes, scores = scene
    scores = distinct(scores, seed)
    order = np.random.default_rng(seed).permutation(len(boxes))
    indices, labels, kept = ALL[name](boxes, scores, max_detections=10)
    moved, moved_labels, moved_kept = ALL[name](boxes[order], scores[:, order], max_detections=10)
    if name == "soft":  # coinciding boxes decay to nothing in any order, so only the scores are fixed
        np.testing.assert_allclose(moved_kept, kept, rtol=1e-6)
        return
    assert_same((order[moved], moved_labels, moved_kept), (indices, labels, kept))


@pytest.mark.parametrize("name", ALL)
@given(scenes(max_boxes=25))
@settings(max_examples=30)
def test_inputs_stay_as_they_are_and_may_be_read_only(name: str, scene: Scene) -> None:
    before = [array.copy() for array in scene]
    for array in scene:
        array.flags.writeable = False
    ALL[name](*scene)
    assert all(np.array_equal(array, old) for array, old in zip(scene, before, strict=True))


def naive_soft_nms(boxes: Floats, scores: Floats, method: str) -> list[float]:
    iou = np.nan_to_num(overlaps(boxes.astype(np.float64)))
    left, values = dict(enumerate(scores.astype(np.float64).tolist())), []
    while left:
        row = max(left, key=lambda row: (left[row], -row))
        if left[row] < 0.001:
            break
        values.append(left.pop(row))
        for other in left:
            overlap = float(iou[row, other])
            if method == "gaussian":
                left[other] *= float(np.exp(-(overlap**2) / 0.5))
            elif overlap > 0.3:
                left[other] *= 1 - overlap
    return values


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@given(scenes(max_boxes=25))
@settings(max_examples=80)
def test_batched_soft_nms_is_the_best_of_every_class(method: Literal["linear", "gaussian"], scene: Scene) -> None:
    boxes, scores = scene
    every: list[float] = []
    for own in scores:
        values = naive_soft_nms(boxes, own, method)
        every += values
        indices, decayed = soft_nms(boxes, own, method=method)
        assert len(set(indices.tolist())) == len(indices)
        np.testing.assert_allclose(decayed, values, rtol=1e-6)
    _, _, kept = batched_soft_nms(boxes, scores, method=method, max_detections=10)
    np.testing.assert_allclose(kept, sorted(every, reverse=True)[:10], rtol=1e-6)


def test_only_what_scores_above_the_threshold_takes_part_in_soft_nms() -> None:
    boxes = np.array([[0, 0, 4, 4]] * 3, dtype=np.float32)
    scores = np.array([[0.9, 0.8, 0.7]], dtype=np.float32)
    indices, labels, kept = batched_soft_nms(boxes, scores, method="gaussian", score_threshold=0.75)
    assert (indices.tolist(), labels.tolist()) == ([0, 1], [0, 0])
    assert float(kept[1]) == pytest.approx(0.8 * np.exp(-2), rel=1e-6)
    assert batched_soft_nms(boxes, scores, min_score=0.0)[0].tolist() == [0, 1, 2]


# Ordinary empties and wrong parameters


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("detections", [100, None])
@pytest.mark.parametrize(("classes", "boxes"), [(3, 0), (0, 5), (0, 0)])
def test_nothing_in_nothing_out(name: str, classes: int, boxes: int, detections: int | None) -> None:
    options: dict[str, Any] = {} if name == "fast" else {"max_detections": detections}
    indices, labels, scores = ALL[name](
        np.zeros((boxes, 4), dtype=np.float32), np.zeros((classes, boxes), dtype=np.float32), **options
    )
    assert (len(indices), len(labels), len(scores)) == (0, 0, 0)
    assert indices.dtype == labels.dtype == np.int64
    assert scores.dtype == np.float32


@pytest.mark.parametrize("name", ALL)
def test_nothing_scores_above_the_threshold(name: str) -> None:
    boxes, scores = clustered(5, 2)
    assert len(ALL[name](boxes, np.full_like(scores, 0.5), score_threshold=0.5)[0]) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *[(name, {"iou_threshold": value}) for name in ALL for value in (-0.1, 1.1, float("nan"))],
        *[(name, {"max_detections": 0}) for name in ALL],
        ("fast", {"max_candidates": 0}),
        ("cross_class", {"max_candidates": 0}),
        ("batched", {"legacy_offset": -1.0}),
        ("soft", {"method": "cubic"}),
        ("soft", {"sigma": 0.0}),
        ("soft", {"min_score": -1.0}),
        ("soft", {"offset": float("inf")}),
    ],
)
def test_wrong_parameters_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))}: expected .* got"):
        ALL[name](*clustered(3, 2), **options)


@pytest.mark.parametrize("name", ALL)
def test_wrong_shapes_are_named(name: str) -> None:
    boxes, scores = clustered(3, 2)
    with pytest.raises(ConfigError, match=r"boxes: expected shape \(N, 4\), got \(3, 5\)"):
        ALL[name](np.zeros((3, 5), dtype=np.float32), scores)
    with pytest.raises(ConfigError, match=r"scores: expected shape \(C, 3\), got \(3, 2\)"):
        ALL[name](boxes, scores.T)
    with pytest.raises(ConfigError, match=r"scores: expected shape \(N,\)"):
        soft_nms(boxes, scores)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("function", [fast_nms, cross_class_fast_nms])
def test_empty_boxes_suppress_one_another_or_not(function: Callable[..., Selection]) -> None:
    boxes = np.array([[1, 1, 1, 5], [2, 2, 8, 2], [0, 0, 4, 4], [0, 0, 4, 4]], dtype=np.float32)
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], dtype=np.float32)
    assert function(boxes, scores)[0].tolist() == [0, 2]
    assert function(boxes, scores, empty_suppress=False)[0].tolist() == [0, 1, 2]
