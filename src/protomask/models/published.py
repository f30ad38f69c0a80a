"""Weights that others publish outside the Hugging Face hub: where they are, what they reach, under which licence."""

from __future__ import annotations

from dataclasses import dataclass

from protomask.downloads import stated_digest


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One file of weights trained on COCO.

    Attributes:
        url: where to download the file.
        box_ap: published box AP in percent, see ``source``; None where nobody gives it.
        mask_ap: published mask AP in percent, likewise.
        licence: SPDX name.
        source: where the results are published.

    """

    url: str
    box_ap: float | None
    mask_ap: float
    licence: str
    source: str

    @property
    def sha256_prefix(self) -> str:
        """First digits of the SHA-256 of the file, which publishers put at the end of its name."""
        return stated_digest(self.url)


_TORCHVISION_URL = "https://download.pytorch.org/models/{file}.pth"
# Name, rest of the address, box AP, mask AP.
_TORCHVISION = (
    ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_coco-bf2d0c1e", 37.9, 34.6),
    ("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2_coco-73cbd019", 47.4, 41.8),
)
_MMDET_URL = "https://download.openmmlab.com/mmdetection/v2.0/{family}/{name}/{name}_{suffix}.pth"
# Folder, name of the config, rest of the file's name, box AP, mask AP.
_MMDET = (
    ("yolact", "yolact_r50_1x8_coco", "20200908-f38d58df", None, 29.0),
    ("yolact", "yolact_r50_8x8_coco", "20200908-ca34f5db", None, 28.4),
    ("yolact", "yolact_r101_1x8_coco", "20200908-4cbe9101", None, 30.4),
    ("ms_rcnn", "ms_rcnn_r50_caffe_fpn_1x_coco", "20200702_180848-61c9355e", 38.2, 36.0),
    (
        "ms_rcnn", "ms_rcnn_r50_caffe_fpn_2x_coco",
        "bbox_mAP-0.388__segm_mAP-0.363_20200506_004738-ee87b137", 38.8, 36.3,
    ),
    (
        "ms_rcnn", "ms_rcnn_r101_caffe_fpn_1x_coco",
        "bbox_mAP-0.404__segm_mAP-0.376_20200506_004755-b9b12a37", 40.4, 37.6,
    ),
    (
        "ms_rcnn", "ms_rcnn_r101_caffe_fpn_2x_coco",
        "bbox_mAP-0.411__segm_mAP-0.381_20200506_011134-5f3cc74f", 41.1, 38.1,
    ),
    (
        "mask_rcnn", "mask_rcnn_r50_caffe_fpn_1x_coco",
        "bbox_mAP-0.38__segm_mAP-0.344_20200504_231812-0ebd1859", 38.0, 34.4,
    ),
    ("mask_rcnn", "mask_rcnn_r50_fpn_1x_coco", "20200205-d4b0c5d6", 38.2, 34.7),
    (
        "mask_rcnn", "mask_rcnn_r50_fpn_2x_coco",
        "bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40", 39.2, 35.4,
    ),
    ("mask_rcnn", "mask_rcnn_r101_caffe_fpn_1x_coco", "20200601_095758-805e06c1", 40.4, 36.4),
    ("mask_rcnn", "mask_rcnn_r101_fpn_1x_coco", "20200204-1efe0ed5", 40.0, 36.1),
    (
        "mask_rcnn", "mask_rcnn_r101_fpn_2x_coco",
        "bbox_mAP-0.408__segm_mAP-0.366_20200505_071027-14b391c7", 40.8, 36.6,
    ),
    (
        "mask_rcnn", "mask_rcnn_r50_caffe_fpn_mstrain-poly_2x_coco",
        "bbox_mAP-0.403__segm_mAP-0.365_20200504_231822-a75c98ce", 40.3, 36.5,
    ),
    (
        "mask_rcnn", "mask_rcnn_r50_caffe_fpn_mstrain-poly_3x_coco",
        "bbox_mAP-0.408__segm_mAP-0.37_20200504_163245-42aa3d00", 40.8, 37.0,
    ),
    ("mask_rcnn", "mask_rcnn_r50_fpn_mstrain-poly_3x_coco", "20210524_201154-21b550bb", 40.9, 37.1),
    ("mask_rcnn", "mask_rcnn_r101_fpn_mstrain-poly_3x_coco", "20210524_200244-5675c317", 42.7, 38.5),
    ("mask_rcnn", "mask_rcnn_r101_caffe_fpn_mstrain-poly_3x_coco", "20210526_132339-3c33ce02", 42.9, 38.5),
)  # fmt: skip
PUBLISHED: dict[str, PublishedWeights] = {
    name: PublishedWeights(
        url=_TORCHVISION_URL.format(file=file),
        box_ap=box_ap,
        mask_ap=mask_ap,
        licence="BSD-3-Clause",
        source="torchvision model zoo (COCO val2017)",
    )
    for name, file, box_ap, mask_ap in _TORCHVISION
} | {
    name: PublishedWeights(
        url=_MMDET_URL.format(family=family, name=name, suffix=suffix),
        box_ap=box_ap,
        mask_ap=mask_ap,
        licence="Apache-2.0",
        source="mmdetection model zoo (COCO val2017)",
    )
    for family, name, suffix, box_ap, mask_ap in _MMDET
}
"""Published weights by the name that their publisher gives the model."""
