from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.transforms import TrainTransform
from protomask.errors import ConfigError
from protomask.ops.geometry import ImageGeometry
from protomask.structures.target import Target
from targets import empty_target

FILL = (124, 117, 104)
OFF = AugmentationConfig.off()


def geometry(size: int | tuple[int, int], antialias: bool = False) -> ImageGeometry:
    image_size = (size, size) if isinstance(size, int) else size
    return ImageGeometry(
        image_size=image_size, mean=(123.68, 116.78, 103.94), std=(58.0, 57.0, 57.0), antialias=antialias
    )


def sample(
    boxes: list[tuple[int, int, int, int]], size: tuple[int, int], crowd: tuple[int, ...] = ()
) -> tuple[torch.Tensor, Target]:
    """Gray noise with one uniformly bright rectangle per box."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 30, (3, *size), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
        image[:, y0:y1, x0:x1] = 255
    return image, Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        masks=masks,
        is_crowd=torch.tensor([index in crowd for index in range(len(boxes))], dtype=torch.bool),
        image_size=size,
        image_id=5,
    )


def tight_boxes(masks: torch.Tensor) -> torch.Tensor:
    found = []
    for mask in masks:
        rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
        found.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[torch.Tensor, Target]:
    height, width = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    boxes = []
    for _ in range(draw(st.integers(0, 5))):
        x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        boxes.append((x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))))
    crowd = tuple(index for index in range(len(boxes)) if draw(st.integers(0, 4)) == 0)
    return sample(boxes, (height, width), crowd)


@settings(max_examples=150, deadline=None)
@given(
    scene=scenes(),
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(16, 70), st.integers(16, 70)),
    antialias=st.booleans(),
)
@example(
    scene=sample([(x, 0, x + 1, 1) for x in (2, 9, 17, 24)], (8, 42), crowd=(0, 1, 2, 3)),
    seed=213,
    size=(43, 29),
    antialias=False,
)
def test_boxes_stay_inside_and_around_their_masks(
    scene: tuple[torch.Tensor, Target], seed: int, size: tuple[int, int], antialias: bool
) -> None:
    torch.manual_seed(seed)
    image, target = scene
    config = AugmentationConfig(vertical_flip=0.5, rotate90=0.5)
    out, found = TrainTransform(config, geometry(size, antialias))(image, target)
    assert out.shape == (3, *size)
    assert out.dtype == torch.uint8
    assert found.image_size == size
    assert found.image_id == 5
    assert bool((found.boxes[:, :2] >= 0).all())
    assert bool((found.boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all())
    assert bool((found.boxes[:, 2:] - found.boxes[:, :2] > 1).all())
    assert bool(found.masks.flatten(1).any(1).all())
    assert set(found.labels.tolist()) <= set(target.labels.tolist())
    assert torch.equal(found.is_crowd, target.is_crowd[found.labels])
    # Interpolation takes up to half a source pixel off the ends of a thin object, and up to one network pixel. A source
    # pixel is that part of a side which it is of the thinner side of the object, which a cut may have taken one off.
    original = target.boxes[found.labels]
    thickness = ((original[:, 2:] - original[:, :2]).amin(dim=1, keepdim=True) - 1).clamp(min=1)
    source_pixel = ((found.boxes[:, 2:] - found.boxes[:, :2]) / thickness).repeat(1, 2)
    reach = (source_pixel / 2).clamp(min=1) + 0.5
    assert bool(((found.boxes - tight_boxes(found.masks)).abs() <= reach + 1e-3).all())


@settings(max_examples=150, deadline=None)
@given(scene=scenes(), size=st.tuples(st.integers(4, 90), st.integers(4, 90)))
@example(scene=sample([(1, 38, 7, 39)], (64, 11)), size=(55, 41))
@example(scene=sample([(33, 19, 52, 41)], (70, 74)), size=(11, 39))
def test_masks_are_resized_as_the_whole_frame_would_be(
    scene: tuple[torch.Tensor, Target], size: tuple[int, int]
) -> None:
    _, found = TrainTransform(OFF, geometry(size))(*scene)
    for mask, label in zip(found.masks.numpy(), found.labels.tolist(), strict=True):
        whole = Image.fromarray(scene[1].masks[label].numpy().view(np.uint8) * np.uint8(255))
        values = np.asarray(whole.resize(size[::-1], Image.Resampling.BILINEAR))
        # Where exactly half of a pixel is covered, rounding may go either way.
        ties = (values == 127) | (values == 128)
        assert np.array_equal(mask | ties, (values >= 128) | ties)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    box=st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(20, 36), st.integers(20, 24)),
)
def test_image_mask_and_box_move_together(seed: int, box: tuple[int, int, int, int]) -> None:
    x, y, w, h = box
    image, target = sample([(x, y, x + w, y + h)], (64, 96))
    torch.manual_seed(seed)
    config = AugmentationConfig(photometric=0.0, vertical_flip=0.5, rotate90=0.5, zoom_out_max=2.0)
    out, found = TrainTransform(config, geometry(64))(image, target)
    assert len(found) == 1
    bright = (out > 190).all(0)
    differs = (bright != found.masks[0]).float().mean()
    assert float(differs) < 0.02 + 2 * 256 / 64**2
    assert bool(((tight_boxes(found.masks) - found.boxes).abs() < 1.6).all())


@pytest.mark.parametrize("antialias", [False, True])
def test_off_is_the_identity(antialias: bool) -> None:
    image, target = sample([(3, 4, 20, 30), (0, 0, 48, 48)], (48, 48), crowd=(1,))
    out, found = TrainTransform(OFF, geometry(48, antialias))(image, target)
    assert torch.equal(out, image)
    assert torch.equal(found.masks, target.masks)
    assert torch.equal(found.boxes, target.boxes)
    assert found.is_crowd.tolist() == [False, True]


@pytest.mark.parametrize(("scale", "size"), [(2, 96), (0.5, 24)])
def test_off_scales(scale: float, size: int) -> None:
    image, target = sample([(4, 8, 20, 32)], (48, 48))
    _, found = TrainTransform(OFF, geometry(size))(image, target)
    assert found.boxes.tolist() == [[4 * scale, 8 * scale, 20 * scale, 32 * scale]]
    assert torch.equal(tight_boxes(found.masks), found.boxes)


def only(**changes: Any) -> AugmentationConfig:
    return replace(OFF, **changes)


def test_horizontal_flip() -> None:
    image, target = sample([(2, 4, 10, 20)], (30, 40))
    out, found = TrainTransform(only(horizontal_flip=1.0), geometry((30, 40)))(image, target)
    assert torch.equal(out, image.flip(-1))
    assert torch.equal(found.masks, target.masks.flip(-1))
    assert found.boxes.tolist() == [[30, 4, 38, 20]]


def test_vertical_flip() -> None:
    image, target = sample([(2, 4, 10, 20)], (30, 40))
    out, found = TrainTransform(only(vertical_flip=1.0), geometry((30, 40)))(image, target)
    assert torch.equal(out, image.flip(-2))
    assert found.boxes.tolist() == [[2, 10, 10, 26]]
    assert torch.equal(tight_boxes(found.masks), found.boxes)


def test_rotate90_turns_both_ways() -> None:
    image, target = sample([(2, 4, 10, 20)], (30, 40))
    transform = TrainTransform(only(rotate90=1.0), geometry((40, 30)))
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        out, found = transform(image, target)
        turns = next(k for k in (1, -1) if torch.equal(out, torch.rot90(image, k, (1, 2))))
        assert torch.equal(found.masks, torch.rot90(target.masks, turns, (1, 2)))
        assert torch.equal(tight_boxes(found.masks), found.boxes)
        seen.add(turns)
    assert seen == {1, -1}


def test_zoom_out_fills_with_the_mean() -> None:
    image, target = sample([(0, 0, 40, 40)], (40, 40))
    torch.manual_seed(1)
    out, found = TrainTransform(only(zoom_out=1.0), geometry(80))(image, target)
    outside = ~found.masks[0]
    assert bool(outside.any())
    assert [int(value) for value in out[:, outside].float().mean(1).round()] == list(FILL)
    assert bool((out[:, found.masks[0]] == 255).all())


def test_zoom_out_of_a_tiny_object_drops_it() -> None:
    image, target = sample([(5, 5, 6, 6), (10, 10, 38, 38)], (40, 40))
    _, found = TrainTransform(OFF, geometry(20))(image, target)
    assert found.labels.tolist() == [1]


def test_crop_keeps_an_object_that_is_no_crowd() -> None:
    image, target = sample([(0, 0, 60, 60), (40, 40, 52, 52)], (64, 64), crowd=(0,))
    transform = TrainTransform(only(crop=1.0), geometry(64))
    for seed in range(60):
        torch.manual_seed(seed)
        _, found = transform(image, target)
        assert 1 in found.labels.tolist()


@pytest.mark.parametrize("boxes", [[], [(5, 5, 60, 60)]], ids=["empty", "crowd only"])
def test_nothing_to_learn(boxes: list[tuple[int, int, int, int]]) -> None:
    image, target = sample(boxes, (64, 64), crowd=(0,))
    transform = TrainTransform(only(crop=1.0, zoom_out=1.0), geometry(32))
    for seed in range(60):
        torch.manual_seed(seed)
        out, found = transform(image, target)
        assert len(found) == len(boxes)
        assert found.masks.shape == (len(boxes), 32, 32)
        assert int((out != torch.tensor(FILL, dtype=torch.uint8)[:, None, None]).sum()) > 0


def test_objects_with_centre_outside_are_dropped() -> None:
    image, target = sample([(x, y, x + 6, y + 6) for x in range(0, 60, 10) for y in range(0, 60, 10)], (64, 64))
    transform = TrainTransform(only(crop=1.0), geometry(64))
    counts = []
    for seed in range(30):
        torch.manual_seed(seed)
        counts.append(len(transform(image, target)[1]))
    assert 1 <= min(counts) < max(counts) <= len(target)


def test_same_seed_same_result() -> None:
    image, target = sample([(5, 5, 40, 50), (20, 10, 60, 30)], (64, 64))
    transform = TrainTransform(AugmentationConfig(), geometry(48))
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(transform(image, target))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1].boxes, results[1][1].boxes)
    assert not torch.equal(results[0][0], results[2][0])


def test_input_is_left_alone() -> None:
    image, target = sample([(5, 5, 40, 50)], (64, 64))
    before = image.clone(), target.boxes.clone(), target.masks.clone()
    torch.manual_seed(0)
    for _ in range(10):
        TrainTransform(AugmentationConfig(), geometry(64))(image, target)
    assert all(torch.equal(a, b) for a, b in zip(before, (image, target.boxes, target.masks), strict=True))


@pytest.mark.parametrize(
    "strength",
    [
        {"brightness": 0.0, "contrast": 0.0, "hue": 0.0, "saturation": 0.5},
        {"brightness": 0.0, "contrast": 0.0, "hue": 18.0, "saturation": 0.0},
    ],
)
def test_chroma_changes_leave_gray_alone(strength: dict[str, float]) -> None:
    config = only(photometric=1.0, **strength)
    gray = torch.arange(256, dtype=torch.uint8).repeat(3, 2, 1)
    out, _ = TrainTransform(config, geometry((2, 256)))(gray, empty_target((2, 256)))
    assert int((out.int() - gray.int()).abs().max()) <= 1


def test_brightness_and_contrast() -> None:
    gray = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    config = only(photometric=1.0, hue=0.0, saturation=0.0)
    means = []
    for seed in range(200):
        torch.manual_seed(seed)
        means.append(float(TrainTransform(config, geometry(4))(gray, empty_target((4, 4)))[0].float().mean()))
    assert 34 <= min(means) < 60
    assert 150 < max(means) <= 198
    assert np.mean(means) == pytest.approx(100, abs=6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("photometric", 1.1),
        ("brightness", -1.0),
        ("zoom_out_max", 0.5),
        ("crop_min", 0.0),
        ("rotate90", -0.1),
        ("hue", 200.0),
        ("crop", float("nan")),
    ],
)
def test_config_names_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: expected a number from .*, got {value}"):
        AugmentationConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_scale_jitter_keeps_the_shape(factor: float) -> None:
    image, target = sample([(20, 20, 40, 30)], (60, 80))
    config = replace(OFF, scale_jitter=1.0, scale_jitter_min=factor, scale_jitter_max=factor)
    for seed in range(20):
        torch.manual_seed(seed)
        out, found = TrainTransform(config, geometry((60, 80)))(image, target)
        assert out.shape == (3, 60, 80)
        x0, y0, x1, y1 = found.boxes[0].tolist()
        touches = x0 == 0 or y0 == 0 or x1 == 80 or y1 == 60
        if not touches:
            assert (x1 - x0, y1 - y0) == pytest.approx((20 * factor, 10 * factor), abs=1.5)
        filled = (out == torch.tensor(FILL, dtype=torch.uint8)[:, None, None]).all(dim=0).float().mean()
        assert float(filled) == pytest.approx(1 - min(factor, 1) ** 2, abs=0.05)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, (50, 70)), (0.6, (32, 32)), (1.4, (64, 96))])
def test_scaled_frames_are_multiples_of_the_coarsest_stride(scale: float, expected: tuple[int, int]) -> None:
    image, target = sample([(20, 20, 40, 30)], (60, 80))
    out, found = TrainTransform(OFF, geometry((50, 70)))(image, target, scale=scale)
    assert tuple(out.shape[1:]) == found.image_size == expected


def test_smallest_jitter_above_the_largest_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale_jitter_min: expected at most scale_jitter_max"):
        AugmentationConfig(scale_jitter_min=1.0, scale_jitter_max=0.5)
