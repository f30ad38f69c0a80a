from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from protomask.errors import ConfigError
from protomask.models.config import NMS_MODES
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.postprocess import YolactPostprocess
from protomask.detection.prototypes import best_of_levels
from protomask.ops.anchors import pyramid_anchors

CONFIG = YolactConfig(name="test", num_classes=3, image_size=64, max_detections=30, max_candidates=80)
NAMES = ("a", "b", "c")
SIZES = [(50, 70), (1, 1)]


def random_output(batch: int = 2, *, sharpness: float = 3.0, seed: int = 0) -> YolactOutput:
    anchors = pyramid_anchors(
        [(8, 8), (4, 4)], scales=[(10,), (30,)], aspect_ratios=(1.0, 0.5, 2.0), image_size=64, square=False
    )
    generator = torch.Generator().manual_seed(seed)
    count = len(anchors)
    return YolactOutput(
        box_deltas=torch.randn(batch, count, 4, generator=generator),
        class_logits=sharpness * torch.randn(batch, count, 4, generator=generator),
        mask_coefficients=torch.randn(batch, count, 5, generator=generator).tanh(),
        prototypes=torch.rand(batch, 16, 16, 5, generator=generator),
        anchors=anchors,
        semantic_logits=None,
    )


def read(output: YolactOutput, sizes: list[tuple[int, int]] = SIZES, **options: Any) -> list[Any]:
    return YolactPostprocess(CONFIG, NAMES)(output, sizes, **options)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_mode_keeps_the_promises_of_its_result(nms: str) -> None:
    for found, (height, width) in zip(read(random_output(), nms=nms), SIZES, strict=True):
        assert len(found) > 0
        assert found.image_size == (height, width)
        assert found.class_names == NAMES
        assert found.mask_scores is None
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        assert bool(((found.scores >= 0) & (found.scores <= 1)).all())
        assert bool((found.boxes >= 0).all())
        assert bool((found.boxes <= torch.tensor([width, height, width, height])).all())
        assert bool((found.boxes[:, :2] <= found.boxes[:, 2:]).all())
        assert found.masks.shape == (len(found), height, width)
        if nms != "cross_class_fast":
            assert len(found) <= CONFIG.max_detections


@pytest.mark.parametrize("nms", NMS_MODES)
def test_options_are_honoured_in_every_mode(nms: str) -> None:
    output = random_output()
    everything = read(output, nms=nms)[0]
    middle = float(everything.scores.median())
    above = read(output, nms=nms, score_threshold=middle)[0]
    assert 0 < len(above) < len(everything)
    same = everything[everything.scores > middle]
    assert torch.equal(above.scores, same.scores)
    assert torch.equal(above.boxes, same.boxes)
    assert torch.equal(above.labels, same.labels)
    assert torch.equal(above.masks, same.masks)
    few = read(output, nms=nms, max_detections=4)[0]
    assert torch.equal(few.scores, everything.scores[:4])
    best = output.class_logits[0].softmax(dim=-1)[:, 1:].amax(dim=-1).sort(descending=True).values
    certain = read(output, nms=nms, candidate_threshold=float(best[2]))[0]
    assert 0 < len(certain) <= 2 * CONFIG.num_classes  # two anchors, with every class at most
    assert len(read(output, nms=nms, candidate_threshold=1.0)[0]) == 0


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched"])
def test_a_lower_iou_threshold_keeps_less(nms: str) -> None:
    strict, loose = (
        read(random_output(), nms=nms, iou_threshold=value, max_detections=1000)[0] for value in (0.1, 0.9)
    )
    assert len(strict) < len(loose)


def test_cross_class_is_cut_only_when_asked() -> None:
    output = random_output()
    assert CONFIG.max_detections < len(read(output, nms="cross_class_fast")[0]) <= CONFIG.max_candidates
    assert len(read(output, nms="cross_class_fast", max_detections=30)[0]) == 30


@pytest.mark.parametrize("nms", NMS_MODES)
def test_nothing_found(nms: str) -> None:
    output = random_output()
    output = output._replace(class_logits=torch.tensor([50.0, 0, 0, 0]).expand_as(output.class_logits))
    for found, size in zip(read(output, nms=nms), SIZES, strict=True):
        assert len(found) == 0
        assert found.masks.shape == (0, *size)
        assert found.rle() == []


def test_no_images() -> None:
    assert read(random_output(0), []) == []


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("field", ["box_deltas", "class_logits", "mask_coefficients", "prototypes"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_diverged_network_gives_finite_boxes_and_scores(nms: str, field: str, value: float) -> None:
    output = random_output(1)
    broken = getattr(output, field).clone()
    broken.view(-1)[::3] = value
    found = read(output._replace(**{field: broken}), [(50, 70)], nms=nms)[0]
    assert bool(found.boxes.isfinite().all())
    assert bool(found.scores.isfinite().all())
    assert found.masks.shape == (len(found), 50, 70)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_output_gives_float32_results(dtype: torch.dtype) -> None:
    output = random_output()
    half = output._replace(
        **{
            field: getattr(output, field).to(dtype)
            for field in ("box_deltas", "class_logits", "mask_coefficients", "prototypes")
        }
    )
    found = read(half)[0]
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert len(found)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score_threshold", -0.1),
        ("score_threshold", float("nan")),
        ("iou_threshold", 1.5),
        ("max_detections", 0),
        ("max_detections", 2.5),
        ("nms", "greedy"),
        ("candidate_threshold", 2),
    ],
)
def test_wrong_options_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: expected .*, got"):
        read(random_output(), **{option: value})


def test_the_best_of_each_level_are_looked_at() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.2, 0.3])
    assert best_of_levels(scores, (4, 2), 2).tolist() == [False, True, False, True, True, True]
    assert best_of_levels(scores, (4, 2), 9).all()
    assert best_of_levels(scores[:0], (0, 0), 2).tolist() == []
    limited = CONFIG.override(
        candidates_per_level=1, num_levels=2, backbone_levels=("C3", "C4"), anchor_scales=((10,), (30,))
    )
    found = YolactPostprocess(limited, NAMES)(random_output(1), [(50, 70)])[0]
    assert 0 < len(found) <= 2 * CONFIG.num_classes
    with pytest.raises(ConfigError, match=r"candidates_per_level: expected 258 anchors .*, got 240"):
        YolactPostprocess(CONFIG.override(candidates_per_level=1), NAMES)(random_output(1), [(50, 70)])


def test_detections_need_the_score_of_candidates_where_the_model_says_so() -> None:
    output = random_output(1)
    everything = read(output, [(50, 70)], max_detections=500)[0]
    assert bool((everything.scores <= 0.05).any())
    strict = YolactPostprocess(CONFIG.override(threshold_detections=True), NAMES)
    found = strict(output, [(50, 70)], max_detections=500)[0]
    assert torch.equal(found.boxes, everything.boxes[everything.scores > 0.05])
    certain = strict(output, [(50, 70)], max_detections=500, candidate_threshold=0.3)[0]
    assert torch.equal(certain.boxes, everything.boxes[everything.scores > 0.3])


def test_boxes_can_be_clipped_before_suppression() -> None:
    """Two boxes beyond the left edge with little in common, nearly all of which is inside."""
    anchors = torch.tensor([[0.1, 0.5, 0.2, 0.4], [-0.3, 0.5, 1.0, 0.4]])
    output = YolactOutput(
        box_deltas=torch.zeros(1, 2, 4),
        class_logits=torch.tensor([[[0.0, 5.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]]]),
        mask_coefficients=torch.zeros(1, 2, 5),
        prototypes=torch.rand(1, 16, 16, 5),
        anchors=anchors,
        semantic_logits=None,
    )
    assert len(read(output, [(50, 70)], score_threshold=0.5)[0]) == 2
    clipped = YolactPostprocess(CONFIG.override(clip_boxes=True), NAMES)
    assert len(clipped(output, [(50, 70)], score_threshold=0.5)[0]) == 1


MEMORY = """
import torch
from pathlib import Path
from torch.nn.functional import interpolate
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.postprocess import YolactPostprocess
from protomask.models.zoo import yolact_resnet50

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

torch.manual_seed(0)
config = yolact_resnet50()
output = YolactOutput(
    box_deltas=torch.randn(1, 2000, 4), class_logits=2 * torch.randn(1, 2000, config.num_classes + 1),
    mask_coefficients=torch.randn(1, 2000, 32).tanh(),
    prototypes=interpolate(torch.randn(1, 32, 9, 9), (138, 138), mode="bicubic").permute(0, 2, 3, 1),
    anchors=torch.rand(2000, 4) * 0.5 + 0.1, semantic_logits=None,
)
before = peak()
found = YolactPostprocess(config, [str(label) for label in range(config.num_classes)])(output, [(2160, 3840)])[0]
codes = found.rle()
print(len(codes), sum(int(mask.sum()) for _, _, mask in found.windows()) // len(codes), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from Linux")
def test_a_hundred_masks_of_a_large_frame_fit_into_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    count, pixels, megabytes = map(int, done.stdout.split())
    assert count == 100
    assert pixels > 100_000
    assert megabytes <= 200  # one dense array of them has 830
