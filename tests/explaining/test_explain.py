"""Explanations of small untrained models: the same instances as in predictions, and numbers that add up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import protomask
from protomask.detection.options import PredictOptions
from protomask.errors import ConfigError
from protomask.explaining.explain import explain
from protomask.models.families import FAMILIES
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor, ready
from tiny_proto import tiny_proto
from tiny_rcnn import tiny_rcnn
from tiny_yolact import block_images, tiny_yolact

[IMAGE, FLAT] = block_images((70, 110), (24, 200))
RESCORING: dict[str, Any] = {"rescoring_channels": (4, 4)}


def yolact(**changes: Any) -> TorchPredictor:
    return tiny_yolact(**changes)


def rcnn() -> TorchPredictor:
    return ready(TorchPredictor(tiny_rcnn(candidate_threshold=0.0)), "cpu")


def same(first: Instances, second: Instances) -> bool:
    return bool(
        np.array_equal(first.boxes, second.boxes)
        and np.array_equal(first.scores, second.scores)
        and np.array_equal(first.labels, second.labels)
        and first.rle() == second.rle()
    )


@pytest.mark.parametrize("nms", ["fast", "cross_class_fast", "batched", "soft_linear"])
@pytest.mark.parametrize("image", [IMAGE, FLAT], ids=["image", "flat"])
def test_what_is_explained_is_what_is_predicted(nms: Any, image: Any) -> None:
    model = yolact(**RESCORING)
    options = PredictOptions(score_threshold=0.05, nms=nms, max_detections=12)
    explanation = explain(image, model, options=options)
    assert len(explanation.found) > 1
    assert same(explanation.found, model.predict(image, options))
    for facts in explanation.instances:
        own = facts.competitors[0]
        assert (own.outcome, own.iou) == ("kept", 1)
        if nms != "soft_linear":  # which lowers scores
            assert own.score == pytest.approx(float(explanation.found.class_scores[facts.number]))
        assert np.allclose(own.box.clip(0, [*image.shape[1::-1]] * 2), explanation.found.boxes[facts.number], atol=1e-3)


@pytest.mark.parametrize("mask_head", ["linear", "dynamic"])
def test_points_are_explained_as_anchors_are(mask_head: str, tmp_path: Path) -> None:
    model = tiny_proto(mask_head=mask_head)
    explanation = explain(IMAGE, model, score_threshold=0.0, most_instances=2, output=tmp_path)
    assert same(explanation.found, model.predict(IMAGE, score_threshold=0.0))
    assert len(explanation.prototypes) == (4 if mask_head == "linear" else 0)
    assert explanation.instances[0].competitors[0].outcome == "kept"
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize("make", [tiny_yolact().network, tiny_rcnn(candidate_threshold=0.0)], ids=["yolact", "rcnn"])
def test_lower_precision_can_be_looked_into(make: Any) -> None:
    model = ready(TorchPredictor(make, precision="bf16"), "cpu")
    explanation = explain(IMAGE, model, score_threshold=0.0, most_instances=1)
    assert same(explanation.found, model.predict(IMAGE, score_threshold=0.0))


@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_parts_of_a_mask_add_up_whatever_the_number_of_prototypes(count: int) -> None:
    explanation = explain(IMAGE, yolact(num_prototypes=count), score_threshold=0.0, most_instances=3)
    assert len(explanation.prototypes) == count
    assert sum(one.use for one in explanation.prototypes) == pytest.approx(1)
    maps = explanation.prototype_maps
    assert maps is not None
    assert maps.shape[2] == count
    for facts in explanation.instances:
        total = facts.prototype_sum
        assert total is not None
        sum_of_parts = 1 / (1 + np.exp(-(maps @ total.coefficients)))
        assert np.allclose(total.uncropped, sum_of_parts, atol=1e-5)
        assert total.growth[-1] == 1
        assert 0 <= total.leakage <= 1


def test_a_two_stage_model_shows_its_regions() -> None:
    model = rcnn()
    explanation = explain(IMAGE, model, score_threshold=0.0, most_instances=2)
    assert same(explanation.found, model.predict(IMAGE, score_threshold=0.0))
    assert explanation.prototypes == []
    assert explanation.proposals is not None
    for facts in explanation.instances:
        region = facts.region
        assert region is not None
        assert region.mask_probs.shape == (28, 28)
        assert region.mask_iou_input is not None
        assert region.mask_iou_input.shape == region.features.shape == (14, 14)
        assert region.mask_iou_input.max() == region.mask_probs.max()
        assert np.array_equal(region.proposal, explanation.proposals[region.rank - 1])
        assert facts.prototype_sum is None


def test_one_instance_can_be_chosen() -> None:
    explanation = explain(IMAGE, yolact(), instance=1, score_threshold=0.0)
    assert [facts.number for facts in explanation.instances] == [1]
    probs = dict(explanation.instances[0].class_probs)
    assert set(probs) == {"background", "nut", "bolt", "gear"}
    assert sum(probs.values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match=r"instance: expected from 0 to \d+, got 500"):
        explain(IMAGE, yolact(), instance=500, score_threshold=0.0)
    with pytest.raises(ConfigError, match="nothing was found above the score threshold"):
        explain(IMAGE, yolact(), instance=0, score_threshold=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 64}, "tile: expected none"),
        ({"most_instances": -1}, "most_instances: expected 0 or more"),
        ({"annotations": "a.json"}, "annotations: expected an image file"),
        ({"score_treshold": 0.1}, "did you mean score_threshold"),
    ],
)
def test_what_cannot_be_explained_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(IMAGE, yolact(), **changes)


def test_an_exported_file_cannot_be_looked_into(tmp_path: Path) -> None:
    (tmp_path / "nano.onnx").touch()
    with pytest.raises(ConfigError, match="expected a name or weights to explain, got the exported file"):
        explain(IMAGE, tmp_path / "nano.onnx")


def test_every_family_can_be_looked_into() -> None:
    assert all(family.look_inside is not None for family in FAMILIES.values())


@pytest.mark.parametrize("make", [yolact, rcnn])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_page_needs_no_other_file(tmp_path: Path, make: Any, threshold: float) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a<b>.png")
    explanation = protomask.explain(
        tmp_path / "a<b>.png", make(), score_threshold=threshold, most_instances=1, output=tmp_path / "page"
    )
    assert explanation.page == tmp_path / "page" / "index.html"
    page = explanation.page.read_text(encoding="utf-8")
    assert "a&lt;b&gt;.png" in page
    assert "a<b>.png" not in page
    sources = re.findall(r'src="([^"]{12})', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert len(sources) == len(list((tmp_path / "page").glob("*.png")))
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    assert ("Instance 0" in page) == (threshold == 0)
    assert explanation.to_dict()["found"] == len(explanation.found)
