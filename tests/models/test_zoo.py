from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from networks import build_yolact
from protomask.data.synthetic.shapes import CLASS_NAMES
from protomask.errors import ConfigError
from protomask.models.build import build_criterion, build_network
from protomask.models.rcnn.criterion import RCNNCriterion
from protomask.models.yolact.criterion import YolactCriterion
from protomask.models.zoo import COCO_CLASS_NAMES, PASCAL_CLASS_NAMES, ZOO, list_models, zoo_entry

SMALL: dict[str, Any] = {"backbone": "shufflenet_v2_x1_0"}


@pytest.mark.parametrize("name", list_models())
def test_every_preset_builds(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name)
    entry = zoo_entry(name)
    assert network.config == entry.preset()
    assert network.class_names == entry.class_names
    side = network.config.image_size
    assert network.geometry.resized_size((123, 123)) == (side, side)


@pytest.mark.parametrize(
    ("official", "preset"),
    [
        ("yolact_base", "yolact_resnet101"),
        ("yolact_im700", "yolact_resnet101_700"),
        ("yolact_resnet50", "yolact_resnet50"),
        ("yolact_resnet50_pascal", "yolact_resnet50_pascal"),
        ("yolact_plus_resnet50", "yolact_plus_resnet50"),
    ],
)
def test_official_presets_have_as_many_numbers_as_the_official_files(
    official: str, preset: str, golden_dir: Path
) -> None:
    entries = json.loads((golden_dir / "yolact" / f"{official}.state_dict.json").read_text())["state_dict"]
    with torch.device("meta"):
        state = build_network(preset).state_dict()
    assert len(state) == len(entries)
    assert sum(value.numel() for value in state.values()) == sum(math.prod(entry["shape"]) for entry in entries)


def test_official_names_are_those_of_the_code() -> None:
    official = {entry.official_name: name for name, entry in ZOO.items() if entry.official_name}
    assert official["yolact_base"] == "yolact_resnet101"
    assert official["yolact_im400"] == "yolact_resnet101_400"
    assert official["yolact_im700"] == "yolact_resnet101_700"
    for entry in ZOO.values():
        assert (entry.repository is None) == (entry.filename is None)
        if entry.filename:
            assert entry.filename.startswith(f"{entry.official_name}_")


def test_the_published_class_names() -> None:
    assert len(set(COCO_CLASS_NAMES)) == 80
    assert len(set(PASCAL_CLASS_NAMES)) == 20
    assert (COCO_CLASS_NAMES[0], COCO_CLASS_NAMES[79]) == ("person", "toothbrush")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, COCO_CLASS_NAMES),
        ({"num_classes": 2}, ("class_0", "class_1")),
        ({"class_names": ["nut", "bolt"]}, ("nut", "bolt")),
        ({"class_names": ["nut", "bolt"], "num_classes": 2}, ("nut", "bolt")),
    ],
    ids=["published", "number", "names", "both"],
)
def test_class_names_and_their_number(options: dict[str, Any], names: tuple[str, ...]) -> None:
    with torch.device("meta"):
        network = build_yolact(**options, **SMALL)
    assert network.class_names == names
    assert network.config.num_classes == len(names)
    assert network.head.classify.out_channels == network.config.anchors_per_cell * (len(names) + 1)


def test_a_config_has_no_names_of_its_own() -> None:
    config = ZOO["yolact_nano"].preset().override(num_classes=2, **SMALL)
    with torch.device("meta"):
        assert build_network(config).class_names == ("class_0", "class_1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a", "b"], "num_classes": 3}, "num_classes: expected 2"),
        ({"class_names": []}, "class_names: expected at least one"),
        ({"num_classes": 0}, "num_classes: expected a whole number of at least 1"),
        ({"class_names": ["a", "b", "a"]}, r"repeated \['a'\]"),
        ({"class_names": "person"}, "class_names: expected a list of names, got 'person'"),
        ({"image_size": 8}, "image_size"),
        ({"backbone": "vgg16"}, "backbone: expected one of .*, got 'vgg16'"),
        ({"sise": 8}, "YolactConfig: unknown sise"),
    ],
)
def test_wrong_requests_are_refused(options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        build_network("yolact_nano", **options)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"expected one of everyday, .*yolact_darknet53.*, got 'yolo'"):
        build_network("yolo")


def test_the_criterion_of_a_network() -> None:
    with torch.device("meta"):
        network = build_network("yolact_nano", masks_to_train=7, **SMALL)
    criterion = build_criterion(network)
    assert isinstance(criterion, YolactCriterion)
    assert criterion.config.masks_to_train == 7
    with torch.device("meta"):
        assert isinstance(build_criterion(build_network("ms_rcnn_resnet50_fpn")), RCNNCriterion)


def test_shapes_are_those_of_synthetic_scenes() -> None:
    assert ZOO["shapes"].class_names == CLASS_NAMES
