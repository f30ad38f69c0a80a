"""The network, its detections and its losses against numbers of the official code."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_values import (
    CPU,
    Golden,
    check_samples,
    golden_image,
    golden_mask,
    outputs_of,
    read_golden,
    same_order,
)
from golden_weights import golden_weights
from protomask.checkpoints.formats import load_foreign
from protomask.checkpoints.official_yolact import rename_key
from protomask.detection.options import NmsMode, PredictOptions
from protomask.detection.prototypes import PrototypeRows
from protomask.masks.rle import decode_rle
from protomask.models.families import read_output
from protomask.models.yolact.criterion import YolactCriterion
from protomask.models.yolact.detect import detect, paint
from protomask.models.yolact.heads import YolactOutput
from protomask.models.yolact.model import Yolact
from protomask.ops.geometry import preprocess_pixels
from protomask.ops.matching import NEUTRAL
from protomask.structures.instances import Instances
from protomask.structures.target import Target

CONFIGS = {
    "yolact_resnet50": "yolact_resnet50",
    "yolact_resnet50_pascal": "yolact_resnet50_pascal",
    "yolact_base": "yolact_resnet101",
    "yolact_im700": "yolact_resnet101_700",
    "yolact_plus_resnet50": "yolact_plus_resnet50",
}
MODES: dict[str, NmsMode] = {"fast": "fast", "trad": "batched", "cc": "cross_class_fast"}
EVERYTHING = PredictOptions(score_threshold=0)
SLOW = {name: pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name != "yolact_resnet50"}


@pytest.fixture(scope="module", autouse=True)
def golden_threads(two_threads: None) -> None:
    """As many as the goldens were computed by."""


@pytest.fixture(scope="module", params=[SLOW.get(name, name) for name in CONFIGS])
def official(
    request: pytest.FixtureRequest, golden_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Yolact]:
    """(official name, our network with the golden weights), loaded the way a user loads an official file."""
    name: str = request.param
    path = tmp_path_factory.mktemp("weights") / f"{name}_1_2.pth"
    torch.save(golden_weights(golden_dir / "yolact" / f"{name}.state_dict.json"), path)
    network = load_foreign(path)
    path.unlink()
    assert isinstance(network, Yolact)
    assert network.config.name == CONFIGS[name]
    return name, network


@pytest.mark.parametrize("number", [1, 2])
def test_network_and_detections_equal_the_official_ones(
    official: tuple[str, Yolact], number: int, golden_dir: Path
) -> None:
    name, network = official
    golden = read_golden(golden_dir / "yolact" / f"{name}.image{number}.npz")
    image = golden_image(golden_dir, number)
    images = preprocess_pixels(image, network.geometry, CPU)[None]
    np.testing.assert_allclose(images[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-5)

    outputs = outputs_of(network.eval(), images, "backbone", "fpn")
    output = outputs[""]
    for stage, feature in zip((1, 2, 3), outputs["backbone"], strict=True):
        check_samples(golden, f"backbone{stage}", feature)
    for level, feature in zip(("P3", "P4", "P5", "P6", "P7"), outputs["fpn"], strict=True):
        check_samples(golden, level, feature)
    check_samples(golden, "proto", output.prototypes)
    check_samples(golden, "loc", output.box_deltas)
    check_samples(golden, "conf_logits", output.class_logits)
    check_samples(golden, "conf", output.class_logits.softmax(-1))
    check_samples(golden, "mask", output.mask_coefficients)
    check_samples(golden, "priors", output.anchors)

    size = image.shape[:2]
    assert size == tuple(golden["image_hw"])
    for mode, nms in MODES.items():
        [rows] = detect(network, output, EVERYTHING.replace(nms=nms))
        order = check_detections(golden, mode, rows, size)
        if mode == network.config.nms:
            check_results(golden, rows, order, paint(network, rows, size, EVERYTHING))
    final = np.minimum(golden.get("post.mask_score", golden["post.score"]), golden["post.score"])[golden["post15.keep"]]
    [above] = read_output(network, output, [size], PredictOptions(score_threshold=0.15))
    np.testing.assert_allclose(above.scores, -np.sort(-final[final > 0.15]), rtol=0, atol=1e-4)


def check_detections(golden: Golden, mode: str, rows: PrototypeRows, size: tuple[int, int]) -> NDArray[np.int64]:
    """Equal up to swaps of equal scores; returns which of ours each of the official ones is."""
    scores = golden[f"det_{mode}.score"]
    scale = np.array([*size[::-1], *size[::-1]])
    boxes, wanted_boxes = ((boxes * scale).clip(0, scale) for boxes in (rows.boxes, golden[f"det_{mode}.box"]))
    # Our results do not say the anchor, so an entry is its class and its box to a hundredth of a pixel.
    assert len(rows.labels) == len(scores)
    np.testing.assert_allclose(rows.class_scores, scores, atol=1e-4)
    wanted = list(zip(golden[f"det_{mode}.class"].tolist(), range(len(scores)), strict=True))
    distance = np.abs(boxes[:, None] - wanted_boxes[None]).max(axis=2)
    distance += 1e6 * (rows.labels[:, None] != golden[f"det_{mode}.class"][None])
    nearest: NDArray[np.int64] = distance.argmin(axis=1)
    assert (distance.min(axis=1) < 0.1).mean() >= 0.99
    got = list(zip(rows.labels.tolist(), nearest.tolist(), strict=True))
    assert same_order(got, wanted, scores)
    return nearest.argsort()


def check_results(golden: Golden, rows: PrototypeRows, order: NDArray[np.int64], found: Instances) -> None:
    """``rows[order]`` are the official detections, and ``found`` the same rows by final score."""
    scores = rows.class_scores
    if "post.maskiou" in golden:
        assert rows.mask_scores is not None
        # What the network estimates is not yet limited to the range of an IoU.
        np.testing.assert_allclose(rows.mask_scores[order], golden["post.maskiou"], atol=1e-4)
        scores = rows.class_scores * rows.mask_scores.clip(0, 1)
    same = found[np.argsort(-scores, kind="stable").argsort()][order]
    check_masks(golden, same)
    if "post.maskiou" not in golden:
        assert found.mask_scores is None
        return
    assert same.mask_scores is not None
    np.testing.assert_allclose(same.mask_scores, golden["post.maskiou"].clip(0, 1), atol=1e-4)
    limited = np.minimum(golden["post.mask_score"], golden["post.score"])
    np.testing.assert_allclose(same.scores, limited, atol=1e-4)


def check_masks(golden: Golden, found: Instances) -> None:
    np.testing.assert_array_equal(found.labels, golden["post.class"])
    assert np.abs(found.boxes.astype(np.int64) - golden["post.box"]).max() <= 1
    size = (int(golden["post.rle_size"][0]), int(golden["post.rle_size"][1]))
    for rle, code, own in zip(golden["post.rle"], found.rle(), found.masks, strict=True):
        wanted = golden_mask(size, rle)
        np.testing.assert_array_equal(decode_rle(code), own)
        differing = int((own != wanted).sum())
        union = int((own | wanted).sum())
        assert differing <= 20 or (union > 100 and 1 - differing / union >= 0.99)


def read_target(golden: Golden, image: int, *, crowd: bool) -> Target:
    height, width = (int(side) for side in golden[f"gt{image}.rle_size"])
    labels = torch.from_numpy(golden[f"gt{image}.labels"].astype(np.int64))
    masks = np.stack([golden_mask((height, width), rle) for rle in golden[f"gt{image}.rle"]])
    target = Target(
        boxes=torch.from_numpy(golden[f"gt{image}.boxes"]).float() * torch.tensor([width, height, width, height]),
        labels=labels.clamp(min=0),
        masks=torch.from_numpy(masks),
        is_crowd=labels < 0,
        image_size=(height, width),
    )
    return target if crowd else target[~target.is_crowd]


def gradient_rounding(golden: Golden) -> dict[str, float]:
    """Relative difference of the official gradient norms in float32 from those in float64, by key."""
    exact, rounded = golden["crowd.grad_norms64"], golden["crowd.grad_norms"]
    return dict(zip(golden["crowd.grad_names"].tolist(), np.abs(rounded / exact - 1), strict=True))


TERMS = {
    "B": "loss_box",
    "C": "loss_class",
    "M": "loss_mask",
    "S": "loss_semantic",
    "I": "loss_rescoring",
    "total": "loss_total",
}


@pytest.fixture(scope="module")
def taught(official: tuple[str, Yolact], golden_dir: Path) -> tuple[Golden, Yolact, Tensor]:
    """Goldens of the losses, a network for them (some weights were enlarged) and the images that it is shown."""
    name, network = official
    path = golden_dir / "yolact" / f"{name}.train.npz"
    if not path.is_file():
        pytest.skip("no loss goldens of this config")
    golden = read_golden(path)
    network = deepcopy(network)
    with torch.no_grad():
        for key in golden["weight_override.keys"]:
            network.get_parameter(rename_key(str(key))).mul_(float(golden["weight_override.factor"]))
    geometry = network.geometry
    images = torch.stack([preprocess_pixels(golden_image(golden_dir, number), geometry, CPU) for number in (1, 2)])
    return golden, network, images


@pytest.mark.slow
def test_losses_matches_and_gradients_equal_the_official_ones(taught: tuple[Golden, Yolact, Tensor]) -> None:
    golden, network, images = taught
    network = deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    output = network(images)
    for variant in ("crowd", "nocrowd"):
        if f"{variant}.loss_B" in golden:
            check_losses(golden, variant, network, output)


@pytest.mark.slow
def test_batch_norm_learns_as_in_the_official_code(taught: tuple[Golden, Yolact, Tensor]) -> None:
    golden, network, images = taught
    if "crowd_bntrain.loss_B" not in golden:
        pytest.skip("no such goldens of this config")
    network = deepcopy(network).train()
    check_losses(golden, "crowd_bntrain", network, network(images))
    state = network.state_dict()
    for entry in (entry for entry in golden if ".after." in entry):
        got = state[rename_key(entry.partition(".after.")[2])].numpy()
        np.testing.assert_allclose(got, golden[entry], rtol=1e-4, atol=1e-5)


def check_losses(golden: Golden, variant: str, network: Yolact, output: YolactOutput) -> None:
    """Matches, terms, and the gradient of their sum."""
    criterion = YolactCriterion.for_network(network)
    targets = [read_target(golden, image, crowd=variant != "nocrowd") for image in (0, 1)]
    for image, target in enumerate(targets):
        objects = target[~target.is_crowd]
        matched_idxs, matched_labels = criterion.match(output.anchors, target, objects)
        positive = (matched_labels > 0).nonzero()[:, 0]
        assert positive.tolist() == golden[f"{variant}.pos{image}.prior"].tolist()
        assert matched_idxs[positive].tolist() == golden[f"{variant}.pos{image}.gt_index"].tolist()
        assert matched_labels[positive].tolist() == golden[f"{variant}.pos{image}.conf_t"].tolist()
        assert int((matched_labels == NEUTRAL).sum()) == golden[f"{variant}.num_neutral"][image]

    losses = criterion(output, targets)
    for official_name, term in TERMS.items():
        if official_name == "I" and f"{variant}.loss_I" not in golden:
            assert term not in losses
            continue
        assert losses[term].item() == pytest.approx(float(golden[f"{variant}.loss_{official_name}"]), rel=1e-5), term

    network.zero_grad()
    losses["loss_total"].backward(retain_graph=True)
    gradients = dict(network.named_parameters())
    rounding = gradient_rounding(golden)
    # Batch statistics have no float64 golden of their own; summation order depends on the number of threads.
    unknown = max(rounding.values())
    for key, norm in zip(golden[f"{variant}.grad_names"], golden[f"{variant}.grad_norms"], strict=True):
        gradient = gradients[rename_key(str(key))].grad
        assert gradient is not None, key
        tolerance = max(1e-3, 5 * rounding.get(str(key), unknown))
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=tolerance), key
