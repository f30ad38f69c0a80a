from __future__ import annotations

import json
from typing import Any

import pytest

from protomask.detection.options import NMS_MODES
from protomask.errors import ConfigError
from protomask.models.rcnn.config import RCNNConfig
from protomask.models.rcnn.conventions import Conventions
from protomask.models.yolact.config import YolactConfig
from protomask.models.zoo import ZOO


def make_config(**changes: Any) -> YolactConfig:
    options: dict[str, Any] = {"name": "test", "num_classes": 3}
    return YolactConfig(**(options | changes))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("num_classes", 2.5),
        ("image_size", 31),
        ("image_size", 550.0),
        ("image_size", "550"),
        ("fpn_channels", 0),
        ("num_levels", 0),
        ("protonet_channels", -1),
        ("protonet_upsamplings", 0),
        ("num_prototypes", 0),
        ("masks_to_train", 0),
        ("max_candidates", 0),
        ("max_detections", 0),
        ("max_detections", 10.5),
        ("negatives_per_positive", 0),
        ("nms", "greedy"),
        ("norm", "group"),
        ("fpn_extra_from", "P6"),
        ("resize_method", "pillow"),
        ("candidates_per_level", 0),
        ("max_size_ratio", 0.5),
        ("backbone_levels", ()),
        ("anchor_scales", ((24.0,), (48.0,))),
        ("anchor_scales", ((24.0,), (48.0,), (96.0,), (192.0,), (0.0,))),
        ("anchor_scales", ((24.0, 30.0), (48.0,), (96.0,), (192.0,), (384.0,))),
        ("anchor_aspect_ratios", ()),
        ("anchor_aspect_ratios", (1.0, -2.0)),
        ("pixel_mean", (0.0,)),
        ("pixel_std", (1.0, 1.0, 0.0)),
        ("pixel_std", (1.0,)),
        ("candidate_threshold", 1.5),
        ("iou_threshold", float("nan")),
        ("iou_threshold", "0.5"),
        ("positive_iou", -0.1),
        ("negative_iou", 0.6),
        ("crowd_overlap", 2),
        ("loss_weight_mask", -1.0),
        ("loss_weight_box", float("nan")),
    ],
)
def test_a_wrong_value_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: expected .*, got "):
        make_config(**{field: value})


def test_too_few_levels_for_the_backbone() -> None:
    with pytest.raises(ConfigError, match="backbone_levels"):
        make_config(num_levels=2, anchor_scales=((24.0,), (48.0,)))
    # A level that only feeds the Protonet does not count.
    with pytest.raises(ConfigError, match="backbone_levels"):
        make_config(backbone_levels=("C2",), protonet_detail=True)


@pytest.mark.parametrize("name", ZOO)
def test_configs_survive_json(name: str) -> None:
    config = ZOO[name].preset()
    assert config.name == name
    restored = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert hash(restored) == hash(config)


def test_a_config_from_elsewhere_is_checked() -> None:
    with pytest.raises(ConfigError, match="YolactConfig: unknown colour, missing num_classes; expected some of anchor"):
        YolactConfig.from_dict({"name": "test", "colour": 1})
    with pytest.raises(ConfigError, match="nms"):
        YolactConfig.from_dict({"name": "test", "num_classes": 1, "nms": "greedy"})


@pytest.mark.parametrize(
    ("size", "scales"), [(400, (17, 34, 69, 139, 279)), (700, (30, 61, 122, 244, 488)), (1100, (48, 96, 192, 384, 768))]
)
def test_another_size_scales_the_anchors_as_published(size: int, scales: tuple[int, ...]) -> None:
    config = make_config().at_image_size(size)
    assert config.image_size == size
    assert config.anchor_scales == tuple((float(scale),) for scale in scales)


def test_the_same_size_changes_nothing() -> None:
    config = make_config(anchor_scales=((24.5,), (48.0,), (96.0,), (192.0,), (384.0,)))
    assert config.at_image_size(550) == config.override(image_size=550) == config


def test_a_tiny_size_keeps_a_pixel_of_every_anchor() -> None:
    assert min(min(level) for level in make_config(anchor_scales=((1.0,),) * 5).at_image_size(32).anchor_scales) == 1


def test_override() -> None:
    config = make_config()
    assert config.override() == config
    assert config.override(nms="batched", num_prototypes=8).num_prototypes == 8
    assert config.override(image_size=400) == config.at_image_size(400)
    own = config.override(image_size=400, anchor_scales=[[9], [18], [36], [72], [144]])
    assert [list(level) for level in own.anchor_scales] == [[9], [18], [36], [72], [144]]
    assert config.image_size == 550
    with pytest.raises(ConfigError, match=r"YolactConfig: unknown image_sise; expected some of .*image_size"):
        config.override(image_sise=400)
    with pytest.raises(ConfigError, match="image_size: expected a whole number"):
        config.override(image_size="large")


@pytest.mark.parametrize("nms", NMS_MODES)
def test_every_nms_mode_can_be_chosen(nms: str) -> None:
    assert make_config(nms=nms).nms == nms


def test_anchors_per_cell() -> None:
    assert make_config().anchors_per_cell == 3
    assert make_config(anchor_scales=((8.0, 10.0, 12.0),) * 5).anchors_per_cell == 9


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("image_size", 31),
        ("max_image_size", 799),
        ("roi_samples", 0),
        ("backbone_levels", ("C3", "C4", "C5")),
        ("backbone_levels", ("C2", "C3", "C4", "C5", "C6")),
        ("anchor_sizes", (32.0, 64.0)),
        ("anchor_sizes", (32.0, 64.0, 128.0, 256.0, 0.0)),
        ("anchor_aspect_ratios", ()),
        ("nms", "greedy"),
        ("iou_threshold", 1.5),
        ("rpn_negative_iou", 0.8),
        ("loss_weight_mask_iou", -1),
        ("conventions", "torchvision"),
    ],
)
def test_wrong_two_stage_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: expected .*, got "):
        RCNNConfig(**{"name": "test", "num_classes": 3, field: value})


def test_a_new_short_side_scales_the_long_one() -> None:
    config = RCNNConfig(name="test", num_classes=3)
    assert config.override(image_size=600).max_image_size == 1000
    assert config.override(image_size=600, max_image_size=900).max_image_size == 900
    assert config.override_given(nms=None, iou_threshold=0.3) == config.override(iou_threshold=0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channel_order": "GBR"}, "channel_order: expected one of RGB, BGR, got 'GBR'"),
        ({"resize": "nearest"}, "resize: expected one of float, pillow, opencv, got 'nearest'"),
        ({"pixel_std": [1.0, 0.0, 1.0]}, "pixel_std: expected three positive numbers"),
        ({"colour": "RGB"}, "Conventions: unknown colour; expected some of anchors"),
    ],
)
def test_wrong_conventions_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Conventions.from_dict(values)


@pytest.mark.parametrize("name", ["yolact_resnet50", "mask_rcnn_resnet50_fpn"])
def test_another_input_of_the_same_network_keeps_sizes_in_pixels(name: str) -> None:
    config = ZOO[name].preset()
    other = config.for_input(config.image_size * 2)
    changed = {key for key, value in other.to_dict().items() if value != config.to_dict()[key]}
    assert changed == ({"image_size"} if name.startswith("yolact") else {"image_size", "max_image_size"})
    with pytest.raises(ConfigError, match="image_size: expected a whole number of at least 32 pixels"):
        config.for_input(8)
