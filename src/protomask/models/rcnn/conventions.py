"""What codebases of two-stage detectors do differently, as data: weights are right in the conventions they learned.

Every key map of `protomask.checkpoints` carries the conventions of its files; new trainings use torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protomask.settings import CountOrZero, NonNegative, Positive, Settings

TINY = 2.0**-126
"""The smallest normal float32: a side of at least this is a side above zero."""


@dataclass(frozen=True, kw_only=True)
class Conventions(Settings):
    """How a Mask R-CNN reads its input and its own numbers; the defaults are torchvision's.

    Attributes:
        channel_order: of the network's input.
        pixel_mean: in RGB order whatever ``channel_order`` is, 0..255 scale.
        pixel_std: likewise.
        resize: how an image is brought to size. "float": bilinear on float values, unfiltered; "pillow": Pillow's
            filtered bilinear on uint8; "opencv": OpenCV's unfiltered fixed-point bilinear on uint8.
        resize_rounding: the sides of the resized image. "floor": both sides times the scale, cut; "half_up": both sides
            times the scale, rounded; "short_side": the short side exact (or rounded where the long side is limited),
            the long one in proportion, cut.
        stride_in_1x1: the stride of a bottleneck is in its first convolution (Caffe) instead of the 3x3 one.
        batch_norm_eps: of the backbone.
        extent_offset: 1 where a box from 3 to 5 counts as three wide, else 0.
        anchors: "rounded": round(sides / 2), centred on the corner of a cell, strides from the padded image;
            "exact": not rounded, on the corner of a cell, fixed strides; "legacy": rounded sides of the original
            Faster R-CNN, about the centre of the first cell's pixels, fixed strides.
        limit_delta_below: size deltas are limited to -log(1000/16) too, not only to log(1000/16).
        min_proposal_side: network pixels; thinner proposals are dropped.
        min_detection_side: network pixels; thinner detections are dropped.
        nms_inclusive: an IoU equal to the threshold suppresses.
        level_eps: added to the logarithm (or its argument, see ``level_eps_inside``) that assigns a box to a level.
        level_eps_inside: which of the two.
        roi_align_aligned: RoIAlign with the half-pixel shift.
        roi_sampling_ratio: samples per bin and axis; 0 adapts to the size of the box.
        mask_paste: "integer": the mask is enlarged to a box of whole pixels; "continuous": it is sampled at the pixel
            centres with the fractional box.
        box_smooth_l1_beta: where the box head's loss turns from quadratic to linear.
        anchors_inside_image: anchors that stick out of the image do not train.

    """

    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    resize: Literal["float", "pillow", "opencv"] = "float"
    resize_rounding: Literal["floor", "half_up", "short_side"] = "floor"
    stride_in_1x1: bool = False
    batch_norm_eps: NonNegative = 1e-5
    extent_offset: NonNegative = 0.0
    anchors: Literal["rounded", "exact", "legacy"] = "rounded"
    limit_delta_below: bool = False
    min_proposal_side: NonNegative = 1e-3
    min_detection_side: NonNegative = 1e-2
    nms_inclusive: bool = False
    level_eps: NonNegative = 1e-6
    level_eps_inside: bool = False
    roi_align_aligned: bool = False
    roi_sampling_ratio: CountOrZero = 2
    mask_paste: Literal["integer", "continuous"] = "integer"
    box_smooth_l1_beta: NonNegative = 1 / 9
    anchors_inside_image: bool = False
