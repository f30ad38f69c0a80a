"""Mask R-CNN from a picture to masks: this package against torchvision's own model, with the same weights.

The weights are random, which finds nothing or everything: both models look at the boxes above the same threshold, which
is chosen so that a few dozen come out, as a trained model has on a full picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from measuring import argument_parser, milliseconds, report
from protomask import build
from protomask.images.decode import Pixels
from protomask.ops.geometry import preprocess_pixels
from protomask.torch_runtime.predictor import TorchPredictor
from scenes import random_image

CANDIDATES = 500


def same_weights() -> tuple[Any, TorchPredictor]:
    """Torchvision's model and this package's, on the CPU."""
    torch.manual_seed(0)
    reference = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name.endswith(("cls_logits.weight", "cls_score.weight", "bbox_pred.weight")):
                parameter.mul_(30)
    predictor = build("mask_rcnn_resnet50_fpn", num_classes=80, device="cpu")
    renamed = {
        key.replace("backbone.fpn.", "fpn.").replace("rpn.head.", "rpn_head.").replace("roi_heads.", ""): tensor
        for key, tensor in reference.state_dict().items()
    }
    missing, unexpected = predictor.network.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return reference, predictor


def threshold_for(predictor: TorchPredictor, image: Pixels) -> float:
    """Class score that ``CANDIDATES`` pairs of box and class of the image exceed."""
    network = predictor.network
    with torch.inference_mode():
        output = network(network.geometry.batch([preprocess_pixels(image, network.geometry, predictor.device)]))
        probs = output.class_logits[0].softmax(dim=-1)[:, 1:].flatten()
    return float(probs.topk(CANDIDATES).values[-1])


def main() -> None:
    parser = argument_parser(__doc__, rounds=7)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reference, predictor = same_weights()
    image = random_image(options.height, options.width, seed=0)
    threshold = threshold_for(predictor, image)
    reference.roi_heads.score_thresh = threshold
    found: dict[str, int] = {}

    def ours() -> None:
        instances = predictor.predict(image, score_threshold=0.0, candidate_threshold=threshold)
        found["protomask"] = len(instances.masks)

    def torchvisions() -> None:
        with torch.inference_mode():
            [result] = reference([torch.from_numpy(image).permute(2, 0, 1).float() / 255])
        found["torchvision"] = len(result["masks"] > 0.5)

    times = milliseconds({"torchvision": torchvisions, "protomask": ours}, rounds=options.rounds)
    rows = [
        {
            "code": name,
            "instances": found[name],
            "ms per image": times[name],
            "times as fast": times["torchvision"] / times[name],
        }
        for name in times
    ]
    report(f"Mask R-CNN R50-FPN, {options.width}x{options.height} to masks, batch 1", rows, json_file=options.json)


if __name__ == "__main__":
    main()
