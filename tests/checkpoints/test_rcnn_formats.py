from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model, get_weight

from protomask.checkpoints import detectron2, maskrcnn_benchmark, mmdet_rcnn, torchvision_rcnn
from protomask.checkpoints.key_maps import rename_by
from protomask.checkpoints.rcnn_formats import (
    RCNN_FORMATS,
    RCNNArchitecture,
    coco_names,
    rcnn_architecture,
)
from protomask.errors import CheckpointError
from protomask.models.rcnn.conventions import TINY, Conventions
from protomask.models.zoo import COCO_CLASS_NAMES

Shapes = dict[str, tuple[int, ...]]


def shapes_of(tensors: dict[str, Tensor]) -> Shapes:
    """Names and shapes; counters of batch norm are filled in at loading, so no key map needs them."""
    return {key: tuple(value.shape) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


def torchvision_tensors(name: str, num_classes: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(get_model(name, weights=None, weights_backbone=None, num_classes=num_classes).state_dict())


@pytest.fixture(scope="module")
def own_shapes() -> Shapes:
    """Of our Mask R-CNN on ResNet-50 for 80 classes."""
    return shapes_of(torchvision_rcnn.rename(torchvision_tensors("maskrcnn_resnet50_fpn", 81)))


@pytest.fixture(scope="module")
def mask_iou_shapes() -> Shapes:
    weights: Shapes = {f"convs.{layer}.weight": (256, 256, 3, 3) for layer in range(4)}
    weights |= {"convs.0.weight": (256, 257, 3, 3), "fc1.weight": (1024, 12544), "fc2.weight": (1024, 1024)}
    weights |= {"iou.weight": (81, 1024)}
    biases = {key.replace("weight", "bias"): shape[:1] for key, shape in weights.items()}
    return {f"mask_iou_head.{key}": shape for key, shape in (weights | biases).items()}


def golden_tensors(path: Path) -> dict[str, Tensor]:
    content = json.loads(path.read_text())
    entries = content.get("tensors") or {entry["key"]: entry for entry in content["state_dict"]}
    return {key: torch.empty(entry["shape"], device="meta") for key, entry in entries.items()}


def detectron2_tensors(blocks: tuple[int, ...] = (3, 4, 6, 3)) -> dict[str, Tensor]:
    """Every key of a detectron2 model file with 80 classes: the facts of its structure, spelled out."""
    shapes: Shapes = {"pixel_mean": (3, 1, 1), "pixel_std": (3, 1, 1)}
    shapes |= {f"proposal_generator.anchor_generator.cell_anchors.{level}": (3, 4) for level in range(5)}

    def convolution(name: str, inputs: int, outputs: int, size: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{part}"] = (outputs,)

    def layer(name: str, *shape: int, bias: int | None = None) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, (bias or shape[0],)

    body = "backbone.bottom_up"
    convolution(f"{body}.stem.conv1", 3, 64, 7)
    inputs = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            name = f"{body}.res{stage + 2}.{block}"
            if block == 0:
                convolution(f"{name}.shortcut", inputs, 4 * width, 1)
            convolution(f"{name}.conv1", inputs, width, 1)
            convolution(f"{name}.conv2", width, width, 3)
            convolution(f"{name}.conv3", width, 4 * width, 1)
            inputs = 4 * width
        layer(f"backbone.fpn_lateral{stage + 2}", 256, inputs, 1, 1)
        layer(f"backbone.fpn_output{stage + 2}", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    layer("roi_heads.box_head.fc1", 1024, 12544)
    layer("roi_heads.box_head.fc2", 1024, 1024)
    layer("roi_heads.box_predictor.cls_score", 81, 1024)
    layer("roi_heads.box_predictor.bbox_pred", 320, 1024)
    for number in range(1, 5):
        layer(f"roi_heads.mask_head.mask_fcn{number}", 256, 256, 3, 3)
    layer("roi_heads.mask_head.deconv", 256, 256, 2, 2)
    layer("roi_heads.mask_head.predictor", 80, 256, 1, 1)
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


FILES: dict[str, tuple[str, Callable[[Path], dict[str, Tensor]], bool]] = {
    "torchvision": ("torchvision", lambda golden: torchvision_tensors("maskrcnn_resnet50_fpn", 81), False),
    "maskrcnn-benchmark": (
        "maskrcnn-benchmark",
        lambda golden: golden_tensors(golden / "msrcnn" / "e2e_mask_rcnn_R_50_FPN_1x.state_dict.json"),
        False,
    ),
    "official Mask Scoring R-CNN": (
        "maskrcnn-benchmark",
        lambda golden: golden_tensors(golden / "msrcnn" / "e2e_ms_rcnn_R_50_FPN_1x.state_dict.json"),
        True,
    ),
    "detectron2": ("detectron2", lambda golden: detectron2_tensors(), False),
    "mmdetection": (
        "mmdetection",
        lambda golden: golden_tensors(golden / "mmdet" / "mask_rcnn_r50_fpn.state_dict.json"),
        False,
    ),
    "mmdetection Mask Scoring R-CNN": (
        "mmdetection",
        lambda golden: golden_tensors(golden / "mmdet" / "ms_rcnn_r50_caffe_fpn.state_dict.json"),
        True,
    ),
}


@pytest.mark.parametrize(("name", "tensors_of", "mask_iou"), FILES.values(), ids=FILES)
def test_every_foreign_key_has_its_place(
    name: str,
    tensors_of: Callable[[Path], dict[str, Tensor]],
    mask_iou: bool,
    golden_dir: Path,
    own_shapes: Shapes,
    mask_iou_shapes: Shapes,
) -> None:
    tensors = tensors_of(golden_dir)
    [known] = [one for one in RCNN_FORMATS if one.recognises(tensors)]
    assert known.name == name
    renamed = known.rename(tensors)
    assert shapes_of(renamed) == (own_shapes | mask_iou_shapes if mask_iou else own_shapes)
    assert rcnn_architecture(renamed, source="FILE") == RCNNArchitecture(
        backbone="resnet50", version="v1", mask_iou_head=mask_iou, num_classes=80
    )


def test_our_names(own_shapes: Shapes) -> None:
    patterns = (
        r"backbone\.body\.(conv1|bn1)\.\w+",
        r"backbone\.body\.layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01])\.\w+",
        r"fpn\.(inner|layer)_blocks\.[0-3]\.0\.(weight|bias)",
        r"rpn_head\.(conv\.0\.0|cls_logits|bbox_pred)\.(weight|bias)",
        r"box_head\.fc[67]\.(weight|bias)",
        r"box_predictor\.(cls_score|bbox_pred)\.(weight|bias)",
        r"mask_head\.[0-3]\.0\.(weight|bias)",
        r"mask_predictor\.(conv5_mask|mask_fcn_logits)\.(weight|bias)",
    )
    assert [key for key in own_shapes if not any(re.fullmatch(pattern, key) for pattern in patterns)] == []
    assert own_shapes["box_predictor.bbox_pred.weight"] == (324, 1024)
    assert own_shapes["mask_predictor.mask_fcn_logits.weight"] == (81, 256, 1, 1)


def test_torchvision_v2() -> None:
    tensors = torchvision_tensors("maskrcnn_resnet50_fpn_v2", 91)
    renamed = torchvision_rcnn.rename(tensors)
    assert len(renamed) == len(tensors)
    assert {key.partition(".")[0] for key in renamed} == {
        "backbone", "fpn", "rpn_head", "box_head", "box_predictor", "mask_head", "mask_predictor",
    }  # fmt: skip
    for key in (
        "fpn.inner_blocks.3.0.weight",
        "fpn.layer_blocks.0.1.running_var",
        "rpn_head.conv.1.0.bias",
        "box_head.0.0.weight",
        "box_head.3.1.num_batches_tracked",
        "box_head.5.bias",
        "mask_head.3.1.running_mean",
        "mask_predictor.conv5_mask.weight",
    ):
        assert key in renamed
    assert rcnn_architecture(renamed, source="FILE") == RCNNArchitecture(
        backbone="resnet50", version="v2", mask_iou_head=False, num_classes=90
    )


def test_torchvision_files_of_before_2022(own_shapes: Shapes) -> None:
    old_names = (
        (r"(backbone\.fpn\.\w+\.\d)\.0\.(.+)", r"\1.\2"),
        (r"rpn\.head\.conv\.0\.0\.(.+)", r"rpn.head.conv.\1"),
        *(
            (rf"roi_heads\.mask_head\.{layer}\.0\.(.+)", rf"roi_heads.mask_head.mask_fcn{layer + 1}.\1")
            for layer in range(4)
        ),
    )
    old = rename_by(torchvision_tensors("maskrcnn_resnet50_fpn", 81), old_names, ignored="")
    for key in ("backbone.fpn.inner_blocks.0.weight", "rpn.head.conv.bias", "roi_heads.mask_head.mask_fcn1.weight"):
        assert key in old
    assert [one.name for one in RCNN_FORMATS if one.recognises(old)] == ["torchvision"]
    assert shapes_of(torchvision_rcnn.rename(old)) == own_shapes


def test_resnet101_is_told_by_its_blocks() -> None:
    renamed = detectron2.rename(detectron2_tensors((3, 4, 23, 3)))
    assert rcnn_architecture(renamed, source="FILE").backbone == "resnet101"
    assert "backbone.body.layer3.22.bn3.running_var" in renamed
    with pytest.raises(CheckpointError, match=r"some\.pth: expected 6 \(resnet50\) or 23 \(resnet101\) .* found 5"):
        rcnn_architecture(detectron2.rename(detectron2_tensors((3, 4, 5, 3))), source="some.pth")
    del renamed["box_predictor.cls_score.weight"]
    with pytest.raises(CheckpointError, match=r"some\.pth: expected a layer that predicts classes"):
        rcnn_architecture(renamed, source="some.pth")


def test_files_of_others_are_of_no_format() -> None:
    for keys in (
        [],
        ["backbone.layers.0.0.conv1.weight", "roi_heads.box_predictor.cls_score.weight"],
        ["rpn_head.rpn_cls.weight", "roi_head.bbox_head.0.fc_cls.weight"],  # a cascade
    ):
        assert not any(known.recognises(keys) for known in RCNN_FORMATS)
    assert torchvision_rcnn.rename({"whose.weight": torch.zeros(1)}) == {"whose.weight": torch.zeros(1)}


def test_the_background_of_mmdetection_becomes_the_first_row() -> None:
    head = "roi_head.bbox_head"
    renamed = mmdet_rcnn.rename(
        {
            f"{head}.fc_cls.weight": torch.tensor([[1.0, 10.0], [2.0, 20.0], [9.0, 90.0]]),
            f"{head}.fc_cls.bias": torch.tensor([1.0, 2.0, 9.0]),
            f"{head}.fc_reg.bias": torch.arange(1.0, 9.0),
            "roi_head.mask_head.conv_logits.weight": torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1),
            "roi_head.mask_iou_head.fc_mask_iou.bias": torch.tensor([5.0, 6.0]),
            "backbone.bn1.num_batches_tracked": torch.tensor(7),
            "ema_backbone_conv1_weight": torch.zeros(1),
            "data_preprocessor.mean": torch.zeros(3, 1, 1),
        }
    )
    assert {key: value.flatten().tolist() for key, value in renamed.items()} == {
        "box_predictor.cls_score.weight": [9, 90, 1, 10, 2, 20],
        "box_predictor.cls_score.bias": [9, 1, 2],
        "box_predictor.bbox_pred.bias": [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        "mask_predictor.mask_fcn_logits.weight": [0, 3, 4],
        "mask_iou_head.iou.bias": [0, 5, 6],
    }
    assert renamed["mask_predictor.mask_fcn_logits.weight"].shape == (3, 1, 1, 1)


def test_an_unused_last_row_of_old_mask_iou_layers_is_dropped() -> None:
    renamed = mmdet_rcnn.rename(
        {
            "roi_head.bbox_head.fc_cls.weight": torch.zeros(3, 1),
            "roi_head.mask_iou_head.fc_mask_iou.weight": torch.tensor([[5.0], [6.0], [7.0]]),
            "roi_head.mask_iou_head.fc_mask_iou.bias": torch.tensor([5.0, 6.0, 7.0]),
        }
    )
    assert renamed["mask_iou_head.iou.weight"].tolist() == [[0], [5], [6]]
    assert renamed["mask_iou_head.iou.bias"].tolist() == [0, 5, 6]


def test_the_background_of_detectron2_becomes_the_first_row() -> None:
    renamed = detectron2.rename(
        {
            "roi_heads.box_predictor.cls_score.bias": torch.tensor([1.0, 2.0, 9.0]),
            "roi_heads.box_predictor.bbox_pred.weight": torch.arange(8.0).reshape(8, 1) + 1,
            "roi_heads.mask_head.predictor.bias": torch.tensor([3.0, 4.0]),
            "pixel_mean": torch.zeros(3, 1, 1),
        }
    )
    assert {key: value.flatten().tolist() for key, value in renamed.items()} == {
        "box_predictor.cls_score.bias": [9, 1, 2],
        "box_predictor.bbox_pred.weight": [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        "mask_predictor.mask_fcn_logits.bias": [0, 3, 4],
    }


@pytest.mark.parametrize("module", [torchvision_rcnn, maskrcnn_benchmark])
def test_formats_with_the_background_first_keep_their_rows(module: object) -> None:
    prefix = "roi_heads.box_predictor" if module is torchvision_rcnn else "roi_heads.box.predictor"
    scores = torch.arange(3.0)
    assert module.rename({f"{prefix}.cls_score.bias": scores}) == {"box_predictor.cls_score.bias": scores}  # type: ignore[attr-defined]


def test_class_names_of_torchvision_files() -> None:
    names = torchvision_rcnn.coco_id_names()
    assert len(set(names)) == len(names) == 90
    categories = get_weight("MaskRCNN_ResNet50_FPN_Weights.COCO_V1").meta["categories"][1:]
    assert [name if "unused" not in name else "N/A" for name in names] == categories
    assert names[11] == "unused 12"
    assert coco_names(90) == names
    assert coco_names(80) == COCO_CLASS_NAMES
    assert coco_names(20) is None


CAFFE_CONFIG = "model = dict(\n    type='MaskRCNN',\n    backbone=dict(norm_eval=True, style='caffe'))"
PYTORCH_CONFIG = '{"backbone": {"style": "pytorch"}}'


@pytest.mark.parametrize(
    ("filename", "config_text", "caffe"),
    [
        ("mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth", None, False),
        ("mask_rcnn_r50_caffe_fpn_1x_coco_bbox_mAP-0.38__segm_mAP-0.344_20200504_231812-0ebd1859.pth", None, True),
        ("mask-rcnn_r50-caffe_fpn_1x_coco.pth", None, True),
        ("ms_rcnn_r101_fpn_2x_coco.pth", None, True),
        ("ms-rcnn_r50.pth", None, True),
        ("epoch_12.pth", None, False),
        ("epoch_12.pth", "no style in here", False),
        ("epoch_12.pth", CAFFE_CONFIG, True),
        ("ms_rcnn_r50_caffe.pth", PYTORCH_CONFIG, False),
    ],
)
def test_the_style_of_an_mmdetection_file(filename: str, config_text: str | None, caffe: bool) -> None:
    conventions = mmdet_rcnn.conventions(filename, config_text)
    assert conventions is (mmdet_rcnn.CAFFE_CONVENTIONS if caffe else mmdet_rcnn.PYTORCH_CONVENTIONS)
    assert (conventions.channel_order, conventions.stride_in_1x1) == (("BGR", True) if caffe else ("RGB", False))
    assert conventions.pixel_std == ((1.0, 1.0, 1.0) if caffe else (58.395, 57.12, 57.375))
    assert conventions.limit_delta_below
    assert conventions.min_proposal_side == TINY


def test_conventions_of_the_other_formats() -> None:
    v1, v2 = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"
    assert torchvision_rcnn.conventions(v1).batch_norm_eps == 0
    assert torchvision_rcnn.conventions(v2) == torchvision_rcnn.conventions("best.pth") == Conventions()
    for module in (maskrcnn_benchmark, detectron2):
        assert module.conventions("any.pth") is module.CONVENTIONS
        assert (module.CONVENTIONS.channel_order, module.CONVENTIONS.stride_in_1x1) == ("BGR", True)
