"""Mask R-CNN and Mask Scoring R-CNN against numbers of the official code and of MMDetection's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from golden_weights import golden_weights
from models.test_yolact_golden import Golden, check_samples, read_golden, read_picture
from protomask.checkpoints import maskrcnn_benchmark, mmdet_rcnn
from protomask.checkpoints.io import fill_counters, load_exactly
from protomask.models.build import build_network
from protomask.models.rcnn.conventions import Conventions
from protomask.models.rcnn.model import MaskRCNN, RCNNOutput
from protomask.masks.rle import decode_rle
from protomask.structures.instances import Instances

# About ten times what float32 alone does to the official code, which ran in float64 for these.
TOLERANCES = {
    "feat": 5e-4,
    "rpn_obj": 5e-4,
    "rpn_box": 1e-4,
    "box_cls": 1e-3,
    "box_reg": 2e-4,
    "mask_roi": 1e-3,
    "mask_logits": 3e-3,
    "maskiou_all": 2e-4,
    "mask_scores": 2e-5,
}
LEVELS = ("P2", "P3", "P4", "P5", "P6")
MMDET = {"mask_rcnn_r50_fpn": "mask_rcnn_resnet50_fpn", "ms_rcnn_r50_caffe_fpn": "ms_rcnn_resnet50_fpn"}


def load_official(golden_dir: Path, model: str) -> MaskRCNN:
    tensors = golden_weights(golden_dir / "msrcnn" / "ms_rcnn_r50_fpn.state_dict.json")
    if model.startswith("mask_rcnn"):
        tensors = {key: tensor for key, tensor in tensors.items() if ".maskiou." not in key}
    return load(model, maskrcnn_benchmark.rename(tensors), maskrcnn_benchmark.CONVENTIONS)


def load(model: str, tensors: dict[str, Tensor], conventions: Conventions) -> MaskRCNN:
    network = build_network(model, conventions=conventions)
    assert isinstance(network, MaskRCNN)
    load_exactly(network, fill_counters(network, tensors), source=f"golden weights as {model}")
    return network.eval()


def read_official_picture(golden_dir: Path, number: int) -> Tensor:
    picture = Image.open(golden_dir / "msrcnn" / f"img{number}.png").convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


# Without its last head it is the official Mask R-CNN, whose goldens are the same numbers up to there.
@pytest.fixture(
    scope="module", params=["ms_rcnn_resnet50_fpn", pytest.param("mask_rcnn_resnet50_fpn", marks=pytest.mark.slow)]
)
def official(request: pytest.FixtureRequest, golden_dir: Path) -> MaskRCNN:
    return load_official(golden_dir, request.param)


@pytest.fixture(scope="module", params=MMDET)
def of_mmdet(request: pytest.FixtureRequest, golden_dir: Path) -> tuple[str, MaskRCNN]:
    """(name of the goldens, our network with their weights)."""
    name = request.param
    tensors = golden_weights(golden_dir / "mmdet" / f"{name}.state_dict.json")
    filename = f"{name}_1x_coco_20200702_180848-61c9355e.pth"
    return name, load(MMDET[name], mmdet_rcnn.rename(tensors), mmdet_rcnn.conventions(filename))


def close(golden: Golden, name: str, tensor: Tensor) -> None:
    """All values, or the sampled ones where the golden has only these."""
    index = golden.get(f"{name}/idx", slice(None))
    tolerance = TOLERANCES[name.rstrip("01234")]
    got, wanted = tensor.double().flatten().numpy()[index], golden[f"{name}/f64"].flatten()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=name)


def rpn_maps(output: RCNNOutput) -> list[tuple[Tensor, Tensor]]:
    """Of each level the logits and deltas as their convolutions made them, (1, A, h, w) and (1, 4 * A, h, w)."""
    sizes = [feature.shape[-2:] for feature in output.features]
    return [
        (logits.view(1, *size, -1).permute(0, 3, 1, 2), deltas.reshape(1, *size, -1).permute(0, 3, 1, 2))
        for logits, deltas, size in zip(output.objectness_logits, output.rpn_box_deltas, sizes, strict=True)
    ]


def check_proposals(found: Tensor, wanted: np.ndarray) -> None:
    """The same set; a pair of neighbours at the limit or near the NMS threshold may be told apart by rounding."""
    assert len(found) == len(wanted)
    distance = torch.cdist(torch.from_numpy(wanted).float(), found, p=float("inf")).amin(dim=1)
    assert (distance < 0.05).float().mean() >= 0.995


def places_of(found: Instances, boxes: Tensor, labels: Tensor, tolerance: float) -> Tensor:
    """For each wanted detection the place of ours: the same class, the nearest box."""
    assert len(found) == len(boxes)
    distance = torch.cdist(boxes, found.boxes, p=float("inf")) + 1e6 * (labels[:, None] != found.labels)
    nearest = distance.min(dim=1)
    assert float(nearest.values.max()) <= tolerance
    assert len(set(nearest.indices.tolist())) == len(boxes)
    return nearest.indices


def mask_logits_of_all_classes(network: MaskRCNN, roi_features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, classes with background, 28, 28), and (N, 28, 28) of one class as the network makes them."""
    everything = network.mask_predictor(network.mask_head(roi_features))
    own = network.mask_logits(roi_features, labels)
    torch.testing.assert_close(own, everything[torch.arange(len(labels)), labels + 1], rtol=0, atol=1e-4)
    return everything, own


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_everything_equals_the_official_code(official: MaskRCNN, number: int, golden_dir: Path) -> None:
    golden = read_golden(golden_dir / "msrcnn" / f"ms_rcnn_r50_fpn.img{number}.npz")
    picture = read_official_picture(golden_dir, number)
    images = official.geometry.batch([official.geometry.preprocess(picture)])
    assert images.sizes == (tuple(golden["resized_hw"]),)
    assert tuple(images.tensors.shape[-2:]) == tuple(golden["padded_hw"])
    np.testing.assert_allclose(images.tensors.flatten().numpy()[golden["input/idx"]], golden["input/f32"], atol=1e-4)

    output = official(images)
    for level, (logits, deltas) in enumerate(rpn_maps(output)):
        close(golden, f"feat{level}", output.features[level])
        close(golden, f"rpn_obj{level}", logits)
        close(golden, f"rpn_box{level}", deltas)
    check_proposals(output.proposals[0], golden["prop/boxes_f64"])

    # With the official proposals and detections, so that no difference of the stages before adds up.
    logits, deltas = official.classify(output.features, [torch.from_numpy(golden["prop/boxes_f64"][:50]).float()])
    close(golden, "box_cls", logits)
    close(golden, "box_reg", deltas)
    boxes = torch.from_numpy(golden["det/boxes_f64"]).float()
    labels = torch.from_numpy(golden["det/labels"]).long() - 1
    scores = torch.from_numpy(golden["det/scores_f64"])
    roi_features = official.roi_features(output.features, [boxes], 14)
    close(golden, "mask_roi", roi_features)
    everything, own = mask_logits_of_all_classes(official, roi_features, labels)
    close(golden, "mask_logits", everything)
    if official.mask_iou_head is not None:
        close(golden, "maskiou_all", official.mask_iou_head(roi_features, own.sigmoid()))
        mask_scores = official.mask_scores(roi_features, own, labels)
        assert mask_scores is not None
        close(golden, "mask_scores", mask_scores * scores)

    height, width = (int(side) for side in golden["image_hw"])
    found = official.postprocess(output, [(height, width)])[0]
    scale = torch.tensor([width, height]) / torch.tensor(images.sizes[0]).flip(0)
    places = places_of(found, boxes * scale.repeat(2), labels, 0.05)
    torch.testing.assert_close(found.class_scores[places], scores, rtol=0, atol=3e-4)
    check_masks(found, places, golden["det/rle"], 0.001)
    if official.mask_iou_head is None:
        assert found.mask_scores is None
    else:
        np.testing.assert_allclose(found.scores[places].numpy(), golden["mask_scores/f64"], atol=5e-4)


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_everything_equals_mmdetection(of_mmdet: tuple[str, MaskRCNN], number: int, golden_dir: Path) -> None:
    name, network = of_mmdet
    golden = read_golden(golden_dir / "mmdet" / f"{name}.image{number}.npz")
    picture = read_picture(golden_dir, number)
    images = network.geometry.batch([network.geometry.preprocess(picture)])
    assert images.sizes == (tuple(golden["img_shape"]),)
    assert tuple(images.tensors.shape) == tuple(golden["input_shape"])
    np.testing.assert_allclose(images.tensors[0, :, ::16, ::16].numpy(), golden["input_grid16"], atol=1e-4)

    output = network(images)
    for level, (logits, deltas) in enumerate(rpn_maps(output)):
        check_samples(golden, LEVELS[level], output.features[level])
        check_samples(golden, f"rpn_cls{level}", logits)
        check_samples(golden, f"rpn_reg{level}", deltas)
        np.testing.assert_allclose(output.anchors[level][:3].numpy(), golden["anchors.base"][level], atol=1e-4)
        # The anchor one row down.
        below = output.anchors[level][3 * output.features[level].shape[-1]] - output.anchors[level][0]
        assert below.tolist() == [0, golden["anchors.strides"][level]] * 2
    check_proposals(output.proposals[0], golden["prop.box"])

    boxes, labels = torch.from_numpy(golden["prop.box"]), torch.from_numpy(golden["det.label"]).long()
    assert network.roi_levels(boxes).tolist() == golden["prop.roi_level"].tolist()
    check_samples(golden, "box_roi_feat", network.roi_features(output.features, [boxes], 7))
    logits, deltas = network.classify(output.features, [boxes])
    check_samples(golden, "cls_logits", logits.roll(-1, dims=1))  # their background is the last class
    check_samples(golden, "reg", deltas[:, 1:].flatten(1))
    roi_features = network.roi_features(output.features, [torch.from_numpy(golden["det.box_net"])], 14)
    check_samples(golden, "mask_roi_feat", roi_features)
    everything, own = mask_logits_of_all_classes(network, roi_features, labels)
    check_samples(golden, "mask_logits", everything[:, 1:])
    if network.mask_iou_head is not None:
        check_samples(golden, "mask_iou", network.mask_iou_head(roi_features, own.sigmoid())[:, 1:])

    height, width = (int(side) for side in golden["image_hw"])
    found = network.postprocess(output, [(height, width)])[0]
    # Two exponentials of large random deltas in a row: rounding alone moves their boxes by up to 0.13 network pixels.
    places = places_of(found, torch.from_numpy(golden["det.box"]), labels, 0.25)
    np.testing.assert_allclose(found.class_scores[places].numpy(), golden["det.score"], atol=5e-4)
    # Masks of boxes without an inside are artefacts.
    x1, y1, x2, y2 = golden["det.box"].T
    ordinary = (x2 - x1 >= 2) & (y2 - y1 >= 2) & (golden["det.area"] > 100)
    check_masks(found, places[torch.from_numpy(ordinary)], golden["det.rle"][ordinary], 0.01)
    if network.mask_iou_head is not None:
        np.testing.assert_allclose(found.scores[places].numpy(), golden["det.mask_score"], atol=1e-3)


def check_masks(found: Instances, places: Tensor, codes: np.ndarray, share: float) -> None:
    """Masks of the found at those places are the wanted ones but for ten pixels or a share of them, at the outline."""
    assert len(places)
    for mask, code in zip(found.masks[places], codes, strict=True):
        wanted = decode_rle({"size": list(found.image_size), "counts": bytes(code)})
        differing, union = int((mask ^ wanted).sum()), int((mask | wanted).sum())
        assert differing <= max(10, share * union)
