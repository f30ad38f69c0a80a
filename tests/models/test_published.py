from __future__ import annotations

import pytest
from torchvision.models import get_weight

from protomask.models.published import PUBLISHED
from protomask.models.zoo import ZOO


def test_every_file_can_be_checked() -> None:
    for name, weights in PUBLISHED.items():
        assert weights.url.startswith("https://"), name
        assert len(weights.sha256_prefix) == 8, name
        assert weights.licence in {"BSD-3-Clause", "Apache-2.0"}, name
    assert len({weights.url for weights in PUBLISHED.values()}) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "torchvision_name"),
    [
        ("maskrcnn_resnet50_fpn", "MaskRCNN_ResNet50_FPN_Weights.COCO_V1"),
        ("maskrcnn_resnet50_fpn_v2", "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1"),
    ],
)
def test_addresses_and_results_of_torchvision_are_its_own(name: str, torchvision_name: str) -> None:
    weights = PUBLISHED[name]
    own = get_weight(torchvision_name)
    metrics = own.meta["_metrics"]["COCO-val2017"]
    assert weights.url == own.url
    assert (weights.box_ap, weights.mask_ap) == (metrics["box_map"], metrics["mask_map"])


def test_an_address_of_mmdetection() -> None:
    assert PUBLISHED["ms_rcnn_r50_caffe_fpn_2x_coco"].url == (
        "https://download.openmmlab.com/mmdetection/v2.0/ms_rcnn/ms_rcnn_r50_caffe_fpn_2x_coco/"
        "ms_rcnn_r50_caffe_fpn_2x_coco_bbox_mAP-0.388__segm_mAP-0.363_20200506_004738-ee87b137.pth"
    )
    assert PUBLISHED["yolact_r50_1x8_coco"].box_ap is None


def test_results_in_the_names_of_files_agree() -> None:
    for name, weights in PUBLISHED.items():
        _, found, rest = weights.url.partition("bbox_mAP-")
        if found:
            box, mask = rest.split("_")[0], rest.partition("segm_mAP-")[2].split("_")[0]
            assert (round(float(box) * 100, 1), round(float(mask) * 100, 1)) == (weights.box_ap, weights.mask_ap), name


def test_the_zoo_takes_the_best_of_its_kind() -> None:
    chosen = {name: entry.mask_ap for name, entry in ZOO.items() if entry.published}
    assert chosen == {
        "mask_rcnn_resnet50_fpn": 34.6,
        "mask_rcnn_resnet50_fpn_v2": 41.8,
        "mask_rcnn_resnet101_fpn": 38.5,
        "ms_rcnn_resnet50_fpn": 36.3,
        "ms_rcnn_resnet101_fpn": 38.1,
    }
