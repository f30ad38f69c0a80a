from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import protomask
from padded_images import make_batch, some_image
from protomask.detection.options import PredictOptions
from protomask.models.families import FCIS as FAMILY
from protomask.models.fcis.inside import look_inside
from protomask.torch_runtime.predictor import TorchPredictor, ready
from tiny_fcis import tiny_fcis

SIZES = [(64, 85), (64, 64)]


def test_parts_belong_to_what_is_painted() -> None:
    network = tiny_fcis()
    with torch.inference_mode():
        output = network(make_batch(network))
        everything = PredictOptions(score_threshold=0)
        for inside, size in zip(look_inside(network, output, SIZES, everything), SIZES, strict=True):
            found = FAMILY.paint(network, inside.rows, size, everything)
            assert len(found) > 0
            np.testing.assert_array_equal(found.labels, inside.labels)
            np.testing.assert_allclose(found.boxes, inside.boxes * [size[1], size[0], size[1], size[0]], atol=1e-3)
            np.testing.assert_allclose(inside.candidates.scores[inside.kept], found.class_scores)
            np.testing.assert_array_equal(inside.candidates.labels[inside.kept], found.labels)
            rows = np.arange(len(found))
            np.testing.assert_allclose(inside.class_probs[rows, found.labels + 1], found.class_scores, atol=1e-6)
            parts = inside.positions
            assert parts is not None
            assert parts.inside.shape == parts.outside.shape == parts.votes.shape == (len(found), 21, 21)
            assert (parts.num_votes >= 1).all()


def test_the_maps_of_a_region_make_its_class_score() -> None:
    network = tiny_fcis(num_classes=3)
    with torch.inference_mode():
        output = network(make_batch(network))
        [first, _] = look_inside(network, output, SIZES, PredictOptions())
    parts = first.positions
    assert parts is not None
    place = int(first.kept[0])
    count = len(output.proposals[0])
    region = int(first.candidates.numbers[place] + count * first.candidates.levels[place])
    logit = float(output.regions[0].class_logits[region, first.labels[0] + 1])
    assert float(np.maximum(parts.inside[0], parts.outside[0]).mean()) == pytest.approx(logit, abs=1e-4)


def test_the_page_shows_the_maps(tmp_path: Path) -> None:
    predictor = ready(TorchPredictor(tiny_fcis(), "tiny"), "cpu")
    image = some_image(64, 85).permute(1, 2, 0).numpy()
    explanation = protomask.explain(image, predictor, score_threshold=0, most_instances=2, output=tmp_path)
    [facts, _] = explanation.instances
    assert facts.positions is not None
    assert facts.region is None
    assert explanation.proposals is not None
    page = (tmp_path / "index.html").read_text()
    assert "From position-sensitive maps to the mask" in page
    assert "Likeliest classes of its proposal" in page
    for name in ("outside", "inside", "class", "own", "votes", "mask"):
        assert (tmp_path / f"instance_0_{name}.png").is_file()
    assert explanation.to_dict()["instances"][0]["positions"]["num_votes"] >= 1
