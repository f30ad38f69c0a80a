"""From the output of a YOLACT to `Instances`, without a backbone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protomask.detection.options import NMS_MODES, NmsMode, PredictOptions
from protomask.detection.prototypes import best_of_levels
from protomask.errors import ConfigError
from protomask.models.families import read_output
from protomask.models.yolact.config import YolactConfig
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.anchors import pyramid_anchors
from protomask.structures.instances import Instances

CONFIG = YolactConfig(
    name="test", num_classes=3, image_size=64, backbone="resnet18", max_detections=30, max_candidates=80
)
NAMES = ("a", "b", "c")
SIZES = [(50, 70), (1, 1)]
ONE_SIZE = [(50, 70)]


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


def read(
    output: YolactOutput,
    sizes: list[tuple[int, int]] = SIZES,
    *,
    config: YolactConfig = CONFIG,
    score_threshold: float = 0,
    **options: Any,
) -> list[Instances]:
    with torch.device("meta"):  # without mask rescoring no weight takes part
        network = Yolact(config, NAMES)
    return read_output(network, output, sizes, PredictOptions(score_threshold=score_threshold, **options))


def same(one: Instances, other: Instances) -> bool:
    fields = ("scores", "boxes", "labels", "masks")
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in fields)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_mode_keeps_the_promises_of_its_result(nms: NmsMode) -> None:
    for found, (height, width) in zip(read(random_output(), nms=nms), SIZES, strict=True):
        assert len(found) > 0
        assert found.image_size == (height, width)
        assert found.class_names == NAMES
        assert found.mask_scores is None
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([width, height, width, height])).all()
        assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
        assert found.masks.shape == (len(found), height, width)
        if nms != "cross_class_fast":
            assert len(found) <= CONFIG.max_detections


@pytest.mark.parametrize("nms", NMS_MODES)
def test_options_are_honoured_in_every_mode(nms: NmsMode) -> None:
    output = random_output(1)
    [everything] = read(output, ONE_SIZE, nms=nms)
    middle = float(np.median(everything.scores))
    [above] = read(output, ONE_SIZE, nms=nms, score_threshold=middle)
    assert 0 < len(above) < len(everything)
    assert same(above, everything[everything.scores > middle])
    [few] = read(output, ONE_SIZE, nms=nms, max_detections=4)
    np.testing.assert_array_equal(few.scores, everything.scores[:4])
    best = output.class_logits[0].softmax(dim=-1)[:, 1:].amax(dim=-1).sort(descending=True).values
    [certain] = read(output, ONE_SIZE, nms=nms, candidate_threshold=float(best[2]))
    assert 0 < len(certain) <= 2 * CONFIG.num_classes  # two anchors, with every class at most
    assert len(read(output, ONE_SIZE, nms=nms, candidate_threshold=1.0)[0]) == 0


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched"])
def test_a_lower_iou_threshold_keeps_less(nms: NmsMode) -> None:
    output = random_output(1)
    [strict], [loose] = (
        read(output, ONE_SIZE, nms=nms, iou_threshold=value, max_detections=1000) for value in (0.1, 0.9)
    )
    assert len(strict) < len(loose)


def test_cross_class_is_cut_only_when_asked() -> None:
    output = random_output(1)
    [whole] = read(output, ONE_SIZE, nms="cross_class_fast")
    assert CONFIG.max_detections < len(whole) <= CONFIG.max_candidates
    assert len(read(output, ONE_SIZE, nms="cross_class_fast", max_detections=30)[0]) == 30


@pytest.mark.parametrize("nms", NMS_MODES)
def test_nothing_found(nms: NmsMode) -> None:
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
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_a_diverged_network_gives_finite_boxes_and_scores(nms: NmsMode, field: str, value: float) -> None:
    output = random_output(1)
    broken = getattr(output, field).clone()
    broken.view(-1)[::3] = value
    [found] = read(output._replace(**{field: broken}), ONE_SIZE, nms=nms)
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()
    assert found.masks.shape == (len(found), *ONE_SIZE[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_output_gives_float32_results(dtype: torch.dtype) -> None:
    output = random_output(1)
    fields = ("box_deltas", "class_logits", "mask_coefficients", "prototypes")
    half = output._replace(**{field: getattr(output, field).to(dtype) for field in fields})
    [found] = read(half, ONE_SIZE)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert len(found)


def test_the_best_of_each_level_are_looked_at() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.2, 0.3], dtype=np.float32)
    rows = np.arange(6)
    assert best_of_levels(scores, rows, (4, 2), 2).tolist() == [False, True, False, True, True, True]
    assert best_of_levels(scores, rows, (4, 2), 9).all()
    assert best_of_levels(scores[:0], rows[:0], (0, 0), 2).tolist() == []
    limited = CONFIG.override(
        candidates_per_level=1, num_levels=2, backbone_levels=("C3", "C4"), anchor_scales=((10,), (30,))
    )
    [found] = read(random_output(1), ONE_SIZE, config=limited)
    assert 0 < len(found) <= 2 * CONFIG.num_classes
    fewer = limited.override(image_size=32, anchor_scales=((10,), (30,)))
    with pytest.raises(ConfigError, match=r"candidates_per_level: expected 60 anchors \(48, 12 on the levels\), got"):
        read(random_output(1), ONE_SIZE, config=fewer)


def test_detections_need_the_score_of_candidates_where_the_model_says_so() -> None:
    output = random_output(1)
    [everything] = read(output, ONE_SIZE, max_detections=500)
    assert (everything.scores <= 0.05).any()
    strict = CONFIG.override(threshold_detections=True)
    [found] = read(output, ONE_SIZE, config=strict, max_detections=500)
    np.testing.assert_array_equal(found.boxes, everything.boxes[everything.scores > 0.05])
    [certain] = read(output, ONE_SIZE, config=strict, max_detections=500, candidate_threshold=0.3)
    np.testing.assert_array_equal(certain.boxes, everything.boxes[everything.scores > 0.3])


def test_boxes_can_be_clipped_before_suppression() -> None:
    """Two boxes beyond the left edge with little in common, nearly all of which is inside."""
    output = YolactOutput(
        box_deltas=torch.zeros(1, 2, 4),
        class_logits=torch.tensor([[[0.0, 5.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]]]),
        mask_coefficients=torch.zeros(1, 2, 5),
        prototypes=torch.rand(1, 16, 16, 5),
        anchors=torch.tensor([[0.1, 0.5, 0.2, 0.4], [-0.3, 0.5, 1.0, 0.4]]),
        semantic_logits=None,
    )
    assert len(read(output, ONE_SIZE, score_threshold=0.5)[0]) == 2
    assert len(read(output, ONE_SIZE, config=CONFIG.override(clip_boxes=True), score_threshold=0.5)[0]) == 1


# In a process of its own, and without PyTorch, whose import alone would hide the peak of what follows.
MEMORY = """
from pathlib import Path
import numpy as np
from PIL import Image
from protomask.detection.prototypes import PrototypeMasks, PrototypeRows, PrototypeRule, detect, paint

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

rng = np.random.default_rng(0)
logits = 2 * rng.standard_normal((2000, 81), dtype=np.float32)
coefficients = np.tanh(rng.standard_normal((2000, 32), dtype=np.float32))
coarse = rng.standard_normal((32, 9, 9), dtype=np.float32)
grid = np.stack([np.asarray(Image.fromarray(one).resize((138, 138), Image.Resampling.BICUBIC)) for one in coarse], -1)
centre, half = rng.random((2000, 2), dtype=np.float32) * 0.5 + 0.1, rng.random((2000, 2), dtype=np.float32) / 4 + 0.05
boxes = np.concatenate((centre - half, centre + half), axis=1)
before = peak()
kept = detect(logits, boxes, PrototypeRule())
masks = PrototypeMasks(grid, coefficients[kept.rows])
rows = PrototypeRows(kept.boxes, kept.labels, kept.class_scores, masks)
found = paint(rows, (2160, 3840), tuple(map(str, range(80))))
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
