"""The network, its detections and its losses against numbers of the official code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_values import Golden, check_samples, read_golden, read_picture, same_order
from golden_weights import golden_weights
from protomask.checkpoints.formats import load_foreign
from protomask.masks.rle import decode_rle
from protomask.models.build import build_criterion
from protomask.models.yolact.model import Yolact
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
MODES = {"fast": "fast", "trad": "batched", "cc": "cross_class_fast"}


@pytest.fixture(scope="module", autouse=True)
def golden_threads(two_threads: None) -> None:
    """As many as the goldens were computed by."""


@pytest.fixture(scope="module", params=CONFIGS)
def official(request: pytest.FixtureRequest, golden_dir: Path, tmp_path_factory: Any) -> tuple[str, Yolact]:
    """(official name, our network with the golden weights), loaded the way a user loads an official file."""
    name = request.param
    path = tmp_path_factory.mktemp("weights") / f"{name}_1_2.pth"
    torch.save(golden_weights(golden_dir / "yolact" / f"{name}.state_dict.json"), path)
    network = load_foreign(path)
    path.unlink()
    assert network.config.name == CONFIGS[name]
    return name, network


@pytest.mark.parametrize("number", [1, 2])
def test_network_and_detections_equal_the_official_ones(
    official: tuple[str, Yolact], number: int, golden_dir: Path
) -> None:
    name, network = official
    golden = read_golden(golden_dir / "yolact" / f"{name}.image{number}.npz")
    picture = read_picture(golden_dir, number)
    images = network.geometry.preprocess(picture)[None]
    np.testing.assert_allclose(images[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-5)

    with torch.inference_mode():
        features = network.backbone(images)
        levels = network.fpn(features)
        output = network(images)
    for stage, feature in zip((1, 2, 3), features, strict=True):
        check_samples(golden, f"backbone{stage}", feature)
    for level, feature in zip(("P3", "P4", "P5", "P6", "P7"), levels, strict=True):
        check_samples(golden, level, feature)
    check_samples(golden, "proto", output.prototypes)
    check_samples(golden, "loc", output.box_deltas)
    check_samples(golden, "conf_logits", output.class_logits)
    check_samples(golden, "conf", output.class_logits.softmax(-1))
    check_samples(golden, "mask", output.mask_coefficients)
    check_samples(golden, "priors", output.anchors)

    height, width = (int(side) for side in golden["image_hw"])
    for mode, nms in MODES.items():
        found = network.postprocess(output, [(height, width)], nms=nms)[0]
        order = check_detections(golden, mode, found, (height, width))
        if mode == "fast":
            same = found[order]
    found = network.postprocess(output, [(height, width)])[0]
    check_masks(golden, same)
    if "post.maskiou" in golden:
        check_mask_scores(golden, same)
    else:
        assert found.mask_scores is None
    above = network.postprocess(output, [(height, width)], score_threshold=0.15)[0]
    assert len(above) == len(golden["post15.keep"])
    kept = torch.from_numpy(golden["post15.keep"].astype(np.int64))
    torch.testing.assert_close(above.scores, found.scores[kept], rtol=0, atol=1e-4)


def check_detections(golden: Golden, mode: str, found: Instances, size: tuple[int, int]) -> Tensor:
    """Equal up to swaps of equal scores; returns which of ours each of the official ones is."""
    scores = golden[f"det_{mode}.score"]
    height, width = size
    scale = np.array([width, height, width, height])
    boxes = (golden[f"det_{mode}.box"] * scale).clip(0, scale)
    # Our results do not tell the anchor, so an entry is its class and its box to a hundredth of a pixel.
    assert len(found) == len(scores)
    np.testing.assert_allclose(found.class_scores.numpy(), scores, atol=1e-4)
    wanted = list(zip(golden[f"det_{mode}.class"].tolist(), range(len(scores)), strict=True))
    distance = np.abs(found.boxes.numpy()[:, None] - boxes[None]).max(axis=2)
    distance += 1e6 * (found.labels.numpy()[:, None] != golden[f"det_{mode}.class"][None])
    nearest = distance.argmin(axis=1)
    assert (distance.min(axis=1) < 0.1).mean() >= 0.99
    got = list(zip(found.labels.tolist(), nearest.tolist(), strict=True))
    assert same_order(got, wanted, scores)
    return torch.from_numpy(nearest).argsort()


def check_masks(golden: Golden, found: Instances) -> None:
    assert (found.labels.numpy() == golden["post.class"]).all()
    assert np.abs(found.boxes.numpy().astype(np.int64) - golden["post.box"]).max() <= 1
    for rle, code, own in zip(golden["post.rle"], found.rle(), found.masks, strict=True):
        wanted = decode_rle({"size": golden["post.rle_size"].tolist(), "counts": bytes(rle)})
        assert torch.equal(decode_rle(code), own)
        differing = int((own != wanted).sum())
        union = int((own | wanted).sum())
        assert differing <= 20 or (union > 100 and 1 - differing / union >= 0.99)


def check_mask_scores(golden: Golden, found: Instances) -> None:
    assert found.mask_scores is not None
    np.testing.assert_allclose(found.mask_scores.numpy(), golden["post.maskiou"], atol=1e-4)
    np.testing.assert_allclose(found.scores.numpy(), golden["post.mask_score"], atol=1e-4)


def read_target(golden: Golden, image: int, *, crowd: bool) -> Target:
    size = tuple(int(side) for side in golden[f"gt{image}.rle_size"])
    labels = torch.from_numpy(golden[f"gt{image}.labels"].astype(np.int64))
    masks = [decode_rle({"size": list(size), "counts": bytes(rle)}) for rle in golden[f"gt{image}.rle"]]
    boxes = torch.from_numpy(golden[f"gt{image}.boxes"]).float() * torch.tensor([size[1], size[0], size[1], size[0]])
    target = Target(
        boxes=boxes, labels=labels.clamp(min=0), masks=torch.stack(masks), is_crowd=labels < 0, image_size=size
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


@pytest.mark.parametrize("variant", ["crowd", "nocrowd", "crowd_bntrain"])
def test_losses_matches_and_gradients_equal_the_official_ones(
    official: tuple[str, Yolact], variant: str, golden_dir: Path, tmp_path: Path
) -> None:
    name, network = official
    path = golden_dir / "yolact" / f"{name}.train.npz"
    if not path.is_file():
        pytest.skip("no loss goldens of this config")
    golden = read_golden(path)
    if f"{variant}.loss_B" not in golden:
        pytest.skip("no such variant of this config")
    weights = golden_weights(golden_dir / "yolact" / f"{name}.state_dict.json")
    for key in golden["weight_override.keys"]:
        weights[str(key)] = weights[str(key)] * float(golden["weight_override.factor"])
    torch.save(weights, tmp_path / f"{name}_1_2.pth")
    network = load_foreign(tmp_path / f"{name}_1_2.pth").train()
    if variant != "crowd_bntrain":
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval().requires_grad_(False)
    criterion = build_criterion(network)
    targets = [read_target(golden, image, crowd=variant != "nocrowd") for image in (0, 1)]
    images = torch.stack([network.geometry.preprocess(read_picture(golden_dir, number)) for number in (1, 2)])

    output = network(images)
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

    losses["loss_total"].backward()
    from protomask.checkpoints.official_yolact import rename_key

    gradients = dict(network.named_parameters())
    rounding = gradient_rounding(golden)
    # Batch statistics have no float64 golden of their own; summation order depends on the number of threads.
    unknown = max(rounding.values())
    for key, norm in zip(golden[f"{variant}.grad_names"], golden[f"{variant}.grad_norms"], strict=True):
        gradient = gradients[rename_key(str(key))].grad
        assert gradient is not None, key
        tolerance = max(1e-3, 5 * rounding.get(str(key), unknown))
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=tolerance), key
    if variant == "crowd_bntrain":
        state = network.state_dict()
        for entry in (entry for entry in golden if ".after." in entry):
            got = state[rename_key(entry.partition(".after.")[2])].numpy()
            np.testing.assert_allclose(got, golden[entry], rtol=1e-4, atol=1e-5)
