from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from graph_predictor import info_of
from protomask.detection.options import PredictOptions
from protomask.errors import ExportError
from protomask.exporting.agreement import ONE_STAGE
from protomask.exporting.graphs import GRAPHS, Parts
from protomask.exporting.verify import compare, compare_parts, parts_of, spread
from protomask.models.network import Network
from protomask.runtimes.exported import ExportedPredictor, Outputs
from tiny_rcnn import tiny_rcnn
from tiny_yolact import block_images, tiny_yolact

IMAGES = block_images((64, 64), (50, 91))


class Perturbed(ExportedPredictor):
    """Gives the parts of a network as a file would, each with something added."""

    def __init__(self, network: Network, added: dict[str, float]) -> None:
        super().__init__(
            info_of(network.config, network.class_names), "parts", ("boxes", "labels", "class_scores", "masks")
        )
        self.network = network
        self.added = added

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        parts = self.parts
        values = parts_of(self.network, parts, images[0].transpose(1, 2, 0))
        return {f"before_{name}": values[name] + np.float32(self.added.get(name, 0)) for name in parts.names}

    @property
    def parts(self) -> Parts:
        parts = GRAPHS[self.info.family].parts
        assert parts is not None
        return parts


def parts_differ(network: Network, **added: float) -> dict[str, float]:
    exported = Perturbed(network, added)
    names = [f"before_{name}" for name in exported.parts.names]
    return compare_parts(network, exported.parts, exported, names, IMAGES)


@pytest.mark.parametrize("family", ["yolact", "rcnn"])
def test_every_number_before_nms_is_compared(family: str) -> None:
    network: Any = tiny_yolact().network.eval() if family == "yolact" else tiny_rcnn()
    names = Perturbed(network, {}).parts.names
    assert parts_differ(network) == dict.fromkeys(names, 0.0)
    for name in names:
        differences = parts_differ(network, **{name: 0.1})
        assert differences.pop(name) == pytest.approx(0.1, rel=0.2)
        assert set(differences.values()) == {0.0}


def test_the_same_nonsense_of_a_network_that_diverged_is_the_same() -> None:
    network: Any = tiny_yolact().network.eval()
    with torch.no_grad():
        next(network.protonet.parameters()).fill_(float("nan"))
    assert parts_differ(network)["prototypes"] == 0.0
    assert parts_differ(network, class_logits=float("nan"))["class_logits"] == float("inf")


@pytest.mark.parametrize(
    ("score_threshold", "judged", "warned"), [(0.0, 0.0, False), (0.3, 0.3, False), (0.9999, 0.0, True)]
)
def test_detections_above_a_score_are_compared_or_all_where_there_is_none(
    score_threshold: float, judged: float, warned: bool
) -> None:
    predictor = tiny_yolact()
    agreement = compare(
        predictor, predictor, IMAGES, options=PredictOptions(score_threshold=score_threshold), limits=ONE_STAGE
    )
    wanted = [predictor.predict(image, score_threshold=judged) for image in IMAGES]
    assert agreement.score_threshold == judged
    assert agreement.detections == sum(map(len, wanted)) > 0
    assert agreement.detections + agreement.weaker == 200
    assert (agreement.faults, agreement.weaker_unmatched) == (0, 0)
    text = "finds nothing above score 0.9999 in these 2 images: its best score is"
    warnings = [text in one for one in agreement.warnings]
    assert warnings == [True] * warned


def test_images_without_detections_prove_nothing_where_the_network_is_not_compared() -> None:
    predictor = tiny_yolact()
    options = PredictOptions(candidate_threshold=0.9999)
    with pytest.raises(ExportError, match=r"^nothing to compare: .* as images, or an annotated data set as data"):
        compare(predictor, predictor, IMAGES, options=options, limits=ONE_STAGE)
    agreement = compare(predictor, predictor, IMAGES, options=options, limits=ONE_STAGE, network_is_compared=True)
    assert agreement.detections == 0
    assert "only what comes before NMS was compared" in agreement.warnings[0]


@pytest.mark.parametrize(
    ("count", "limit", "places"),
    [(0, 3, []), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (7, 3, [0, 2, 4]), (100, 4, [0, 25, 50, 75]), (5, 1, [0])],
)
def test_some_of_many_are_spread_over_all(count: int, limit: int, places: list[int]) -> None:
    assert spread(count, limit) == places
