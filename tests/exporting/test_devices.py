"""Files for phones and small devices: what they hold, and what they refuse."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import protomask
from protomask.detection.options import PredictOptions
from protomask.errors import CheckpointError, ConfigError, MissingExtraError
from protomask.exporting.executorch import ScaleAndShift, without_norms
from protomask.exporting.files import export
from protomask.exporting.formats import FORMATS, check_static
from protomask.runtimes.archive import add_texts
from protomask.runtimes.info import METADATA_KEY
from protomask.torch_runtime.predictor import TorchPredictor
from tiny_fcis import tiny_fcis
from tiny_rcnn import tiny_rcnn
from tiny_yolact import block_images, tiny_yolact

EVERYTHING = PredictOptions(score_threshold=0)
IMAGES = block_images((64, 64), (50, 91), (120, 300))
PACKAGES = {"litert": "litert_torch", "executorch": "executorch", "ncnn": "pnnx"}


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("make", [tiny_rcnn, tiny_fcis])
def test_models_whose_rows_depend_on_the_image_are_refused_at_once(name: str, make: Any, tmp_path: Path) -> None:
    model = TorchPredictor(make())
    path = tmp_path / f"a{FORMATS[name].suffix}"
    with pytest.raises(ConfigError, match=rf"format: .*got {name}; there are onnx, openvino, pt2, aotinductor"):
        export(model, path, images=IMAGES, form=FORMATS[name].forms[0])
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_fixed_size_is_refused_at_once() -> None:
    config = tiny_yolact(nms="batched").network.config
    with pytest.raises(ConfigError, match="nms: expected another than batched in a litert file of detections"):
        check_static(FORMATS["litert"], config, "detections")
    check_static(FORMATS["litert"], config, "candidates")
    check_static(FORMATS["onnx"], config, "detections")
    with pytest.raises(ConfigError, match="dynamic_batch: expected the format onnx or openvino or pt2 or aotinductor"):
        export(tiny_yolact(), "a.pte", images=IMAGES, dynamic_batch=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_packages_are_named(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[name]) is not None:
        pytest.skip(f"{PACKAGES[name]} is installed")
    model = tiny_yolact()
    path = tmp_path / f"a{FORMATS[name].suffix}"
    with pytest.raises(MissingExtraError, match=rf"pip install 'protomask\[{name}\]'"):
        export(model, path, images=IMAGES, options=EVERYTHING, form=FORMATS[name].forms[0])
    path.write_bytes(b"weights")
    add_texts(path, {METADATA_KEY: "{}"})
    with pytest.raises((MissingExtraError, CheckpointError)):
        protomask.load(path)


def test_batch_norms_become_products_and_sums_in_a_copy() -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(3, 4, 3)
    graph = nn.Sequential(shared, nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    for module in graph.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    copied = without_norms(graph.eval())
    assert sum(isinstance(module, ScaleAndShift) for module in copied.modules()) == 2
    assert sum(isinstance(module, nn.BatchNorm2d) for module in graph.modules()) == 2
    assert copied[0].weight is shared.weight  # type: ignore[index]
    image = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(copied(image), graph(image))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [(name, form) for name in PACKAGES for form in FORMATS[name].forms])
def test_a_file_does_what_the_model_does(name: str, form: Any, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"{name} is an extra that tests have not")
    model = tiny_yolact()
    path = tmp_path / f"tiny{FORMATS[name].suffix}"
    agreement = export(model, path, images=IMAGES, options=EVERYTHING, form=form)
    assert (agreement.detections, agreement.faults) == (300, 0)
    exported = protomask.load(path)
    for found, wanted in zip(exported.predict(IMAGES, EVERYTHING), model.predict(IMAGES, EVERYTHING), strict=True):
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-4)
    done = protomask.verify(path)
    assert (done.passed, done.batches) == (True, (1,))
    files = sorted(tmp_path.iterdir())
    assert files == sorted({path, path.with_suffix(".bin")} if name == "ncnn" else {path})
    files[0].write_bytes(files[0].read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=files[0].name):
        protomask.load(path)
