from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from protomask.checkpoints import formats
from protomask.checkpoints.key_maps import rename_key
from protomask.checkpoints.mmdet_yolact import CONVENTIONS, KEY_MAP, model_of, recognises, rename
from protomask.errors import CheckpointError
from protomask.models.build import build_network
from protomask.models.yolact.config import YolactConfig
from protomask.models.zoo import yolact_resnet50


@pytest.fixture(scope="module")
def tensors(golden_dir: Path) -> dict[str, Tensor]:
    """Names and shapes of the ResNet-50 file."""
    recipe = json.loads((golden_dir / "mmdet" / "yolact_r50.state_dict.json").read_text())
    with torch.device("meta"):
        return {entry["key"]: torch.empty(entry["shape"]) for entry in recipe["state_dict"]}


def deeper(tensors: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """The same with another number of blocks in the third stage."""
    prefix = "backbone.layer3.5."
    last = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    more = {f"backbone.layer3.{block}.{key}": value for block in range(6, blocks) for key, value in last.items()}
    return tensors | more


@pytest.mark.parametrize("blocks", [6, 23])
def test_every_key_has_its_place(tensors: dict[str, Tensor], blocks: int) -> None:
    given = deeper(tensors, blocks)
    assert recognises(given)
    name = model_of(given)
    assert name == {6: "yolact_resnet50", 23: "yolact_resnet101"}[blocks]
    with torch.device("meta"):
        own = build_network(name, **CONVENTIONS).state_dict()
    shapes = {key: tuple(value.shape) for key, value in rename(given).items()}
    assert shapes == {key: tuple(value.shape) for key, value in own.items()}


def test_the_conventions_survive_a_file_of_ours() -> None:
    config = yolact_resnet50().override(**CONVENTIONS)
    assert YolactConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_names_of_version_3_and_tensors_that_play_no_part(tensors: dict[str, Tensor]) -> None:
    newer = {key.replace("segm_head.", "mask_head.segm_branch."): value for key, value in tensors.items()}
    assert newer.keys() != tensors.keys()
    newer |= {"ema_backbone.conv1.weight": torch.zeros(1), "data_preprocessor.mean": torch.zeros(3, 1, 1)}
    assert rename(newer).keys() == rename(tensors).keys()


def test_background_comes_first_and_semantic_channels_move_up() -> None:
    given = {
        "bbox_head.conv_reg.bias": torch.zeros(2 * 4),
        "bbox_head.conv_cls.bias": torch.tensor([1.0, 2.0, 3.0, 0.0, 11.0, 12.0, 13.0, 10.0]),
        "bbox_head.conv_cls.weight": torch.tensor([1.0, 2.0, 3.0, 0.0, 11.0, 12.0, 13.0, 10.0])[:, None, None, None],
        "segm_head.segm_conv.bias": torch.tensor([2.0, 3.0, 1.0]),
    }
    renamed = rename(given)
    assert renamed["head.classify.bias"].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert renamed["head.classify.weight"].flatten().tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert renamed["semantic.bias"].tolist() == [1, 2, 3]


def test_a_key_of_nobody_keeps_its_name() -> None:
    assert rename_key("bbox_head.conv_centerness.weight", KEY_MAP) == "bbox_head.conv_centerness.weight"
    assert len({pattern for pattern, _ in KEY_MAP}) == len(KEY_MAP)


def small(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": torch.zeros(1) for key in tensors}


def test_files_that_do_not_fit_say_why(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "latest.pth"
    torch.save({"meta": {}, "state_dict": small(deeper(tensors, 9))}, path)
    with pytest.raises(CheckpointError, match=r"latest.pth: cannot tell the model .*yolact_resnet50.*setting model"):
        formats.load_foreign(path)
    with pytest.raises(
        CheckpointError, match=r"latest.pth as yolact_resnet50 \(of MMDetection\): .*do not fit"
    ) as caught:
        formats.load_foreign(path, model="yolact_resnet50")
    assert "unexpected: backbone.body.layer3.6.conv1.weight" in str(caught.value)
