from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protomask.ops.boxes import (
    MAX_SIZE_DELTA,
    box_area,
    cxcywh_to_xyxy,
    decode_boxes,
    decode_deltas,
    decode_distances,
    encode_boxes,
    encode_deltas,
    encode_distances,
    generalized_iou,
    pairwise_intersection,
    pairwise_ioa,
    pairwise_iou,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
)


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    wanted = ("jaccard.", "decode.", "encode.", "point_form.", "center_size.")
    with np.load(golden_dir / "yolact" / "ops.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if key.startswith(wanted)}


@st.composite
def some_boxes(draw: st.DrawFn, max_count: int = 12) -> Tensor:
    """(N, 4) xyxy in a frame of about one, sides from 0.01 to 1."""
    count = draw(st.integers(0, max_count))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    low = torch.rand(count, 2, generator=generator) * 2 - 1
    return torch.cat((low, low + 0.01 + torch.rand(count, 2, generator=generator)), dim=1)


def test_formats_equal_the_official_ones(golden: dict[str, Tensor]) -> None:
    torch.testing.assert_close(cxcywh_to_xyxy(golden["decode.priors"]), golden["point_form.out"], rtol=0, atol=1e-6)
    torch.testing.assert_close(xyxy_to_cxcywh(golden["encode.matched"]), golden["center_size.out"], rtol=0, atol=1e-6)


def test_overlaps_equal_the_official_ones(golden: dict[str, Tensor]) -> None:
    first, second = golden["jaccard.a"], golden["jaccard.b"]
    torch.testing.assert_close(pairwise_iou(first, second), golden["jaccard.out"], rtol=0, atol=1e-6, equal_nan=True)
    crowd = pairwise_ioa(second, first[:10])
    torch.testing.assert_close(crowd, golden["jaccard.crowd_out"], rtol=0, atol=1e-6, equal_nan=True)


def test_encoding_equals_the_official_one(golden: dict[str, Tensor]) -> None:
    encoded = encode_boxes(golden["encode.matched"], golden["encode.priors"])
    torch.testing.assert_close(encoded, golden["encode.out"], rtol=1e-5, atol=1e-5)
    decoded = decode_boxes(golden["decode.loc"], golden["decode.priors"])
    torch.testing.assert_close(decoded, golden["decode.out"], rtol=1e-6, atol=1e-6)


@given(some_boxes())
def test_formats_round_trip(boxes: Tensor) -> None:
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, rtol=0, atol=1e-5)


@given(some_boxes(), st.integers(0, 2**32))
def test_decoding_undoes_encoding(boxes: Tensor, seed: int) -> None:
    anchors = torch.rand(len(boxes), 4, generator=torch.Generator().manual_seed(seed)) + 0.05
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("delta", "ratio"), [(0.0, 1.0), (1.0, math.exp(0.2)), (-1.0, math.exp(-0.2)), (90.0, 4.0), (-90.0, 0.25)]
)
def test_sides_keep_within_a_ratio_of_their_anchors(delta: float, ratio: float) -> None:
    anchors = torch.tensor([[0.5, 0.5, 0.2, 0.1]])
    decoded = decode_boxes(torch.tensor([[0.0, 0.0, delta, -delta]]), anchors, max_size_ratio=4.0)
    wanted = torch.tensor([[0.5, 0.5, 0.2 * ratio, 0.1 / ratio]])
    torch.testing.assert_close(xyxy_to_cxcywh(decoded), wanted)


@given(some_boxes(), st.integers(0, 2**32), st.sampled_from([0.0, 1.0]), st.sampled_from([(1.0, 1.0), (10.0, 5.0)]))
def test_decoding_undoes_encoding_of_two_stages(
    boxes: Tensor, seed: int, extent_offset: float, weights: tuple[float, float]
) -> None:
    boxes = 100 * boxes
    low = torch.rand(len(boxes), 2, generator=torch.Generator().manual_seed(seed)) * 100
    references = torch.cat((low, low + 5 + low.flip(1)), dim=1)
    options: dict[str, Any] = {"weights": weights, "extent_offset": extent_offset}
    deltas = encode_deltas(boxes, references, **options)
    torch.testing.assert_close(decode_deltas(deltas, references, **options), boxes, rtol=0, atol=1e-3)


def test_encoding_of_two_stages_equals_torchvisions() -> None:
    from torchvision.models.detection._utils import BoxCoder

    generator = torch.Generator().manual_seed(0)
    boxes, references = (
        torch.cat((low, low + 1 + 50 * torch.rand(9, 2, generator=generator)), dim=1)
        for low in 99 * torch.rand(2, 9, 2, generator=generator)
    )
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = encode_deltas(boxes, references, weights=(10.0, 5.0))
    torch.testing.assert_close(deltas, coder.encode_single(boxes, references))
    wild = deltas + 40 * torch.randn(9, 4, generator=generator)
    wanted = coder.decode_single(wild, references)
    torch.testing.assert_close(decode_deltas(wild, references, weights=(10.0, 5.0)), wanted)


@pytest.mark.parametrize("limit_below", [False, True])
def test_sizes_of_two_stages_are_limited(limit_below: bool) -> None:
    references = torch.tensor([[0.0, 0.0, 16.0, 16.0]]).repeat(2, 1)
    wild = torch.tensor([[0.0, 0.0, 50.0, MAX_SIZE_DELTA], [0.0, 0.0, -50.0, -MAX_SIZE_DELTA]])
    large, small = decode_deltas(wild, references, limit_below=limit_below)
    torch.testing.assert_close(large[2:] - large[:2], torch.tensor([1000.0, 1000.0]))
    width, height = (small[2:] - small[:2]).tolist()
    assert height == pytest.approx(16 / 62.5, abs=1e-5)
    assert width == pytest.approx(16 / 62.5 if limit_below else 0.0, abs=1e-5)


@given(some_boxes(), some_boxes())
def test_iou_is_symmetric_and_within_0_and_1(first: Tensor, second: Tensor) -> None:
    iou = pairwise_iou(first, second)
    assert iou.shape == (len(first), len(second))
    assert bool(((iou >= 0) & (iou <= 1 + 1e-6)).all())
    torch.testing.assert_close(iou, pairwise_iou(second, first).T)
    torch.testing.assert_close(pairwise_iou(first, first).diagonal(), torch.ones(len(first)))


@pytest.mark.parametrize(
    ("first", "second", "intersection", "iou", "ioa"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1.0, 1 / 7, 1 / 4),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0, 0.0, 0.0),
        ((0, 0, 2, 2), (5, 5, 6, 6), 0.0, 0.0, 0.0),
        ((1, 1, 2, 2), (0, 0, 4, 4), 1.0, 1 / 16, 1.0),
        ((1, 1, 1, 1), (0, 0, 4, 4), 0.0, 0.0, float("nan")),
        ((1, 1, 1, 1), (2, 2, 2, 2), 0.0, float("nan"), float("nan")),
    ],
    ids=["corner", "touching", "apart", "inside", "empty first", "both empty"],
)
def test_overlap_of_two_boxes(
    first: tuple[float, ...], second: tuple[float, ...], intersection: float, iou: float, ioa: float
) -> None:
    one, other = torch.tensor([first]).float(), torch.tensor([second]).float()
    assert pairwise_intersection(one, other).item() == intersection
    assert pairwise_iou(one, other).item() == pytest.approx(iou, nan_ok=True)
    assert pairwise_ioa(one, other).item() == pytest.approx(ioa, nan_ok=True)


def test_overlaps_of_a_batch_are_those_of_its_parts() -> None:
    first, second = torch.rand(3, 5, 4).sort(dim=-1).values, torch.rand(3, 7, 4).sort(dim=-1).values
    batched = pairwise_iou(first, second)
    for index in range(3):
        torch.testing.assert_close(batched[index], pairwise_iou(first[index], second[index]))


def test_area_and_coco_format() -> None:
    boxes = xywh_to_xyxy(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 5.0]]))
    assert boxes.tolist() == [[1, 2, 4, 6], [0, 0, 0, 5]]
    assert box_area(boxes).tolist() == [12, 0]


def test_no_boxes_at_all() -> None:
    none = torch.zeros(0, 4)
    assert cxcywh_to_xyxy(none).shape == xyxy_to_cxcywh(none).shape == xywh_to_xyxy(none).shape == (0, 4)
    assert encode_boxes(none, none).shape == decode_boxes(none, none).shape == (0, 4)
    assert encode_deltas(none, none).shape == decode_deltas(none, none).shape == (0, 4)
    assert pairwise_iou(none, torch.zeros(3, 4)).shape == (0, 3)
    assert pairwise_ioa(torch.zeros(3, 4), none).shape == (3, 0)


@given(some_boxes(), st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.floats(0.05, 0.5))
def test_distances_come_back_as_boxes(boxes: Tensor, across: float, down: float, side: float) -> None:
    size = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + size * torch.tensor([across, down])
    references = torch.cat((centres, torch.full_like(centres, side)), dim=1)
    decoded = decode_distances(encode_distances(boxes, references), references)
    torch.testing.assert_close(decoded, boxes, rtol=1e-4, atol=1e-3)


def test_no_distance_is_beyond_all_measure() -> None:
    reference = torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    for value in (1e30, float("inf")):
        assert decode_distances(torch.full((1, 4), value), reference).isfinite().all()
    torch.testing.assert_close(decode_distances(torch.zeros(1, 4), reference), cxcywh_to_xyxy(reference))


@given(some_boxes(), st.integers(0, 2**32))
def test_generalized_iou_is_iou_less_the_empty_part_of_the_hull(boxes: Tensor, seed: int) -> None:
    others = boxes[torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed))]
    overlaps = generalized_iou(boxes, others)
    iou = pairwise_iou(boxes, others).diagonal()
    assert (overlaps <= iou + 1e-5).all()
    assert (overlaps >= -1 - 1e-5).all()
    torch.testing.assert_close(generalized_iou(boxes, boxes), torch.ones(len(boxes)), rtol=0, atol=1e-4)
