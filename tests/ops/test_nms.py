from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protomask.errors import ConfigError
from protomask.detection.nms import batched_nms, batched_soft_nms, cross_class_fast_nms, fast_nms, soft_nms

Selection = tuple[Tensor, Tensor, Tensor]
ALL: dict[str, Callable[..., Selection]] = {
    "fast": fast_nms,
    "cross_class": cross_class_fast_nms,
    "batched": batched_nms,
    "soft": batched_soft_nms,
}


@st.composite
def scenes(draw: st.DrawFn, max_boxes: int = 40, max_classes: int = 4) -> tuple[Tensor, Tensor]:
    """Boxes on a coarse grid, so that they coincide, touch and are empty, and scores with many ties."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count, classes = draw(st.integers(0, max_boxes)), draw(st.integers(1, max_classes))
    levels = draw(st.sampled_from([2, 10, 100000]))
    side = draw(st.sampled_from([4, 12]))
    corner = torch.randint(0, side, (count, 2), generator=generator).float()
    extent = torch.randint(0, side, (count, 2), generator=generator).float()
    scores = torch.randint(0, levels, (classes, count), generator=generator).float() / levels
    return torch.cat([corner, corner + extent], dim=1), scores


def distinct(scores: Tensor, seed: int = 0) -> Tensor:
    order = torch.randperm(scores.numel(), generator=torch.Generator().manual_seed(seed))
    # The odd power keeps products with simple IoUs, as Soft-NMS makes them, from coinciding.
    return ((order + 1.0) / (scores.numel() + 1)).pow(1.37).view_as(scores)


def dense_fast_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_candidates: int,
    max_detections: int,
    score_threshold: float | None,
) -> Selection:
    """The definition, word for word: sort, IoU matrix, strict upper triangle, column maximum."""
    ranked, rows = scores.sort(dim=1, descending=True, stable=True)
    ranked, rows = ranked[:, :max_candidates], rows[:, :max_candidates]
    kept_rows, kept_labels, kept_scores = [], [], []
    for label in range(scores.shape[0]):
        own = boxes[rows[label]]
        area = (own[:, 2] - own[:, 0]) * (own[:, 3] - own[:, 1])
        shared = torch.minimum(own[:, None, 2:], own[None, :, 2:]) - torch.maximum(own[:, None, :2], own[None, :, :2])
        intersection = shared.clamp(min=0).prod(dim=2)
        iou = (intersection / (area[:, None] + area[None, :] - intersection)).triu(diagonal=1)
        keep = iou.amax(dim=0) <= iou_threshold if len(own) else torch.zeros(0, dtype=torch.bool)
        if score_threshold is not None:
            keep &= ranked[label] > score_threshold
        kept_rows.append(rows[label][keep])
        kept_labels.append(torch.full_like(rows[label][keep], label))
        kept_scores.append(ranked[label][keep])
    best, order = torch.cat(kept_scores).sort(descending=True, stable=True)
    return (
        torch.cat(kept_rows)[order][:max_detections],
        torch.cat(kept_labels)[order][:max_detections],
        best[:max_detections],
    )


def assert_same(got: Selection, expected: Selection) -> None:
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)


# Goldens of the official code


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    with np.load(golden_dir / "yolact" / "ops.npz") as arrays:
        return {
            name: torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith(("nms", "sparse", "cython_nms", "detect"))
        }


def official_batched(boxes: Tensor, scores: Tensor) -> Selection:
    return batched_nms(boxes * 550, scores, score_threshold=0.05, legacy_offset=1.0, inclusive=True)


MODES: dict[str, Callable[[Tensor, Tensor], Selection]] = {
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
def test_official_results(golden: dict[str, Tensor], name: str) -> None:
    source = name.split("_")[0]
    boxes, scores = golden[f"{source}.boxes"], golden[f"{source}.scores"]
    indices, labels, kept_scores = MODES[name](boxes, scores)
    assert torch.equal(indices, golden[f"{name}.row"].long())
    assert torch.equal(labels, golden[f"{name}.class"].long())
    assert torch.equal(kept_scores, golden[f"{name}.score"])
    tolerance = 1e-6 if name.endswith("trad") else 0.0  # the official code scales these boxes up and down again
    torch.testing.assert_close(boxes[indices], golden[f"{name}.box"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "select"), [("fast", fast_nms), ("cc", cross_class_fast_nms), ("trad", official_batched)]
)
def test_official_detections_from_logits(
    golden: dict[str, Tensor], name: str, select: Callable[[Tensor, Tensor], Selection]
) -> None:
    deltas, anchors = golden["detect.loc"][0], golden["detect.priors"]
    centres = anchors[:, :2] + deltas[:, :2] * 0.1 * anchors[:, 2:]
    sizes = anchors[:, 2:] * torch.exp(deltas[:, 2:] * 0.2)
    boxes = torch.cat([centres - sizes / 2, centres - sizes / 2 + sizes], dim=1)
    scores = golden["detect.conf"][0].t()[1:]
    rows = torch.nonzero(scores.amax(dim=0) > 0.05)[:, 0]
    indices, labels, kept_scores = select(boxes[rows], scores[:, rows])
    assert torch.equal(rows[indices], golden[f"detect_{name}.row"].long())
    assert torch.equal(labels, golden[f"detect_{name}.class"].long())
    assert torch.equal(kept_scores, golden[f"detect_{name}.score"])


def test_official_single_class_nms(golden: dict[str, Tensor]) -> None:
    table = golden["cython_nms.dets"]
    indices, _, _ = batched_nms(table[:, :4], table[:, 4][None], max_detections=None, legacy_offset=1.0, inclusive=True)
    assert torch.equal(indices.sort().values, golden["cython_nms.keep"].sort().values)


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
        boxes, scores = torch.from_numpy(arrays["boxes"]), torch.from_numpy(arrays["scores"])
        keep, decayed = torch.from_numpy(arrays[f"{case}_keep"]), torch.from_numpy(arrays[f"{case}_scores"])
    indices, got = soft_nms(
        boxes,
        scores,
        method=method,
        min_score=float(minimum),
        offset=float(offset),
        **options,  # type: ignore[arg-type]
    )
    assert torch.equal(indices, keep)
    torch.testing.assert_close(got, decayed, rtol=0, atol=1e-12)


# Properties


@given(
    scenes(),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.integers(1, 15),
    st.sampled_from([1, 2, 7, 100]),
    st.sampled_from([None, 0.0, 0.5]),
)
@settings(max_examples=300, deadline=None)
def test_fast_nms_is_the_dense_definition(
    scene: tuple[Tensor, Tensor], iou: float, candidates: int, detections: int, score: float | None
) -> None:
    boxes, scores = scene
    got = fast_nms(
        boxes,
        scores,
        iou_threshold=iou,
        max_candidates=candidates,
        max_detections=detections,
        score_threshold=score,
    )
    assert_same(got, dense_fast_nms(boxes, scores, iou, candidates, detections, score))


@pytest.mark.parametrize("tied", [False, True])
def test_fast_nms_is_the_dense_definition_at_full_size(tied: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(6, 2, generator=generator)[torch.randint(6, (400,), generator=generator)]
    corner += 0.03 * torch.randn(400, 2, generator=generator)
    boxes = torch.cat([corner, corner + 0.2], dim=1)
    scores = torch.full((20, 400), 0.5) if tied else torch.rand(20, 400, generator=generator)
    assert_same(fast_nms(boxes, scores), dense_fast_nms(boxes, scores, 0.5, 200, 100, None))


@given(scenes(max_classes=5), st.sampled_from([0.3, 0.5]), st.integers(1, 15))
@settings(max_examples=150, deadline=None)
def test_cross_class_is_the_dense_definition_on_best_classes(
    scene: tuple[Tensor, Tensor], iou: float, candidates: int
) -> None:
    boxes, scores = scene
    best, label = scores.max(dim=0)
    rows, _, kept = dense_fast_nms(boxes, best[None], iou, candidates, len(boxes) + 1, None)
    assert_same(
        cross_class_fast_nms(boxes, scores, iou_threshold=iou, max_candidates=candidates), (rows, label[rows], kept)
    )


@given(scenes(max_classes=1), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(max_examples=150, deadline=None)
def test_greedy_is_torchvisions(scene: tuple[Tensor, Tensor], iou: float) -> None:
    boxes, scores = scene
    scores = distinct(scores)
    indices, _, _ = batched_nms(boxes, scores, iou_threshold=iou, max_detections=None)
    assert torch.equal(indices, torchvision.ops.nms(boxes, scores[0], iou))


@given(scenes(), st.sampled_from([0.2, 0.5, 0.7]))
@settings(max_examples=150, deadline=None)
def test_greedy_leaves_no_overlap_in_a_class(scene: tuple[Tensor, Tensor], iou: float) -> None:
    boxes, scores = scene
    indices, labels, kept = batched_nms(boxes, scores, iou_threshold=iou, max_detections=None)
    overlap = torchvision.ops.box_iou(boxes[indices], boxes[indices]).fill_diagonal_(0)
    assert not ((overlap > iou + 1e-6) & (labels[:, None] == labels)).any()
    assert torch.equal(kept, scores[labels, indices])
    assert (kept.diff() <= 0).all()


def test_inclusive_and_legacy_offset() -> None:
    scores = torch.tensor([[0.9, 0.8]])
    half = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    assert batched_nms(half, scores, iou_threshold=0.5)[0].tolist() == [0, 1]
    assert batched_nms(half, scores, iou_threshold=0.5, inclusive=True)[0].tolist() == [0]
    # 6 / 11 with one pixel added to each side, so suppressed without `inclusive`.
    assert batched_nms(half, scores, iou_threshold=0.5, legacy_offset=1.0)[0].tolist() == [0]


@pytest.mark.parametrize("name", ALL)
@given(scenes(max_boxes=25), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_input_does_not_matter(name: str, scene: tuple[Tensor, Tensor], seed: int) -> None:
    boxes, scores = scene
    scores = distinct(scores, seed)
    order = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))
    options = {"max_detections": 10}
    indices, labels, kept = ALL[name](boxes, scores, **options)
    moved, moved_labels, moved_kept = ALL[name](boxes[order], scores[:, order], **options)
    if name == "soft":  # coinciding boxes decay to nothing in any order, so only the scores are fixed
        torch.testing.assert_close(moved_kept, kept)
        return
    assert_same((order[moved], moved_labels, moved_kept), (indices, labels, kept))


def naive_soft_nms(boxes: Tensor, scores: Tensor, method: str) -> tuple[list[int], list[float]]:
    iou = torchvision.ops.box_iou(boxes.double(), boxes.double()).nan_to_num(0)
    left, order, values = dict(enumerate(scores.double().tolist())), [], []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        if left[best] < 0.001:
            break
        order.append(best)
        values.append(left.pop(best))
        for row in left:
            overlap = float(iou[best, row])
            if method == "gaussian":
                left[row] *= float(np.exp(-(overlap**2) / 0.5))
            elif overlap > 0.3:
                left[row] *= 1 - overlap
    return order, values


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@given(scenes(max_boxes=25))
@settings(max_examples=80, deadline=None)
def test_batched_soft_nms_is_the_best_of_every_class(method: Any, scene: tuple[Tensor, Tensor]) -> None:
    boxes, scores = scene
    scores = scores.double()
    every: list[float] = []
    for class_scores in scores:
        _, values = naive_soft_nms(boxes, class_scores, method)
        every += values
        indices, decayed = soft_nms(boxes, class_scores, method=method)
        assert len(set(indices.tolist())) == len(indices)
        torch.testing.assert_close(decayed, torch.tensor(values, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    _, _, kept = batched_soft_nms(boxes, scores, method=method, max_detections=10)
    expected = torch.tensor(sorted(every, reverse=True)[:10], dtype=torch.float64)
    torch.testing.assert_close(kept, expected, rtol=1e-9, atol=1e-9)


def test_soft_nms_leaves_its_input_alone_and_keeps_the_dtype() -> None:
    boxes, scores = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 3), torch.tensor([[0.9, 0.8, 0.7]])
    before = scores.clone()
    indices, labels, kept = batched_soft_nms(boxes, scores, method="gaussian", score_threshold=0.75)
    assert torch.equal(scores, before)
    assert (indices.tolist(), labels.tolist(), kept.dtype) == ([0, 1], [0, 0], torch.float32)
    assert kept[1].item() == pytest.approx(0.8 * np.exp(-2), rel=1e-6)
    assert batched_soft_nms(boxes, scores, min_score=0.0)[0].tolist() == [0, 1, 2]


# Ordinary empties and wrong parameters


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("classes", "boxes"), [(3, 0), (0, 5), (0, 0)])
def test_nothing_in_nothing_out(name: str, classes: int, boxes: int) -> None:
    indices, labels, scores = ALL[name](torch.zeros(boxes, 4), torch.zeros(classes, boxes))
    assert (len(indices), len(labels), len(scores)) == (0, 0, 0)
    assert indices.dtype == labels.dtype == torch.int64
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("name", ALL)
def test_nothing_scores_above_the_threshold(name: str) -> None:
    indices, _, _ = ALL[name](torch.rand(5, 4), torch.full((2, 5), 0.5), score_threshold=0.5)
    assert len(indices) == 0


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
    with pytest.raises(ConfigError, match=next(iter(options))):
        ALL[name](torch.rand(3, 4), torch.rand(2, 3), **options)


@pytest.mark.parametrize("name", ALL)
def test_wrong_shapes_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"boxes: expected shape \(N, 4\), got \(3, 5\)"):
        ALL[name](torch.rand(3, 5), torch.rand(2, 3))
    with pytest.raises(ConfigError, match=r"scores: expected shape \(C, 3\), got \(3, 2\)"):
        ALL[name](torch.rand(3, 4), torch.rand(3, 2))
    with pytest.raises(ConfigError, match=r"scores: expected shape \(N,\)"):
        soft_nms(torch.rand(3, 4), torch.rand(1, 3))


@pytest.mark.parametrize("function", [fast_nms, cross_class_fast_nms])
def test_empty_boxes_suppress_one_another_or_not(function: Callable[..., Selection]) -> None:
    boxes = torch.tensor([[1.0, 1, 1, 5], [2.0, 2, 8, 2], [0.0, 0, 4, 4], [0.0, 0, 4, 4]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    assert function(boxes, scores)[0].tolist() == [0, 2]
    assert function(boxes, scores, empty_suppress=False)[0].tolist() == [0, 1, 2]
