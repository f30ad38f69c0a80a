"""Exported files of detections that compare masks, and that crop them in other ways, do what the model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import protomask
from protomask.errors import ConfigError
from tiny_yolact import block_images, tiny_yolact

pytest.importorskip("onnx")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    "options",
    [
        {"overlap": "mask_iou", "nms": "batched"},
        {"overlap": "mask_smaller", "nms": "fast", "iou_threshold": 0.7},
        {"overlap": "mask_iou", "nms": "soft_gaussian", "crop": "none"},
        {"nms": "soft_linear", "candidate_threshold": 0.3, "crop_margin": 0.2},
    ],
    ids=str,
)
def test_a_file_finds_what_the_model_finds(options: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino")
    images = block_images((64, 64), (50, 91))
    path = tmp_path / f"tiny{suffix}"
    agreement = protomask.export(
        tiny_yolact(), path, images=list(images), score_threshold=0.0, max_detections=12, **options
    )
    assert agreement.faults == 0
    file = protomask.load(path)
    found = file.predict(images[1], score_threshold=0.0, crop="component" if "crop" not in options else None)
    assert len(found) > 0
    with pytest.raises(ConfigError, match="exported with"):
        file.predict(images[1], overlap="mask_smaller" if options.get("overlap") != "mask_smaller" else "mask_iou")
