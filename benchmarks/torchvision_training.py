"""Train torchvision's Mask R-CNN on a COCO-format data set for a number of minutes, and measure its AP as we do.

The other half of a comparison with `protomask train`: `mask_rcnn_resnet50_fpn` as torchvision builds it, with anchors
for the data and room for as many detections as there are objects, and with what `--recipe modern` gives ours: AdamW, a
rate that falls along a cosine after a linear warm-up, clipped gradients. ``--optimizer sgd`` is that of torchvision's
reference training. Images are flipped and turned. The time counts from the first step; a trial of the first steps tells
how many fit, so that work beside it does not matter.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.rpn import AnchorGenerator

from measuring import argument_parser, positive, report
from protomask.data.coco.dataset import CocoDataset
from protomask.data.coco.layout import open_dataset
from protomask.data.training.augmentation import AugmentationConfig
from protomask.data.training.loader import training_batches
from protomask.data.training.mixing import TrainingImages
from protomask.evaluation.coco import CocoEvaluator
from protomask.ops.geometry import ShortSideGeometry
from protomask.structures.instances import Instances
from protomask.structures.target import Target

TRIAL_STEPS = 12
UNCOUNTED_STEPS = 4  # of the trial: the first ones warm caches up
WARMUP_STEPS = 100
LARGEST_GRADIENT = 10.0
LEARNING_RATES = {"adamw": 2e-4, "sgd": 0.02 * 2 / 16}  # of SGD: the reference training's, for two images


def build(options: argparse.Namespace, num_classes: int) -> Any:
    """Torchvision's model, its first layers as torchvision fixes them when the backbone has ImageNet weights."""
    weights = None
    if options.backbone_weights is not None:
        weights = torch.load(options.backbone_weights, weights_only=True)
        resnet50().load_state_dict(weights)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        trainable_backbone_layers=5,
        num_classes=num_classes + 1,
        min_size=options.image_size,
        max_size=2 * options.image_size,
        box_detections_per_img=options.max_detections,
        rpn_pre_nms_top_n_test=2000,
        rpn_post_nms_top_n_test=2000,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in options.anchor_sizes), ((0.5, 1.0, 2.0),) * len(options.anchor_sizes)
        ),
    )
    if weights is not None:
        model.backbone.body.load_state_dict(weights, strict=False)
    return model


def to_torchvision(target: Target) -> dict[str, Tensor]:
    """Truth as torchvision's models take it: labels from 1, no crowds, no empty boxes."""
    kept = target[~target.is_crowd & (target.boxes[:, 2:] > target.boxes[:, :2]).all(dim=1)]
    return {"boxes": kept.boxes, "labels": kept.labels + 1, "masks": kept.masks.to(torch.uint8)}


def step(model: Any, optimizer: torch.optim.Optimizer, images: Tensor, targets: list[Target]) -> float:
    """One step; returns its loss."""
    losses = model(
        [
            image[:, : target.image_size[0], : target.image_size[1]] / 255
            for image, target in zip(images, targets, strict=True)
        ],
        [to_torchvision(target) for target in targets],
    )
    loss: Any = sum(losses.values())
    value = float(loss.detach())
    if not math.isfinite(value):
        raise SystemExit(f"the loss is {value}: lower --learning-rate")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return value


def evaluate(model: Any, dataset: CocoDataset, max_detections: int, results: Path | None) -> dict[str, float | None]:
    """Mask and box AP, by the evaluator of this package; ``results`` is where COCO results are written, if anywhere."""
    evaluator = CocoEvaluator(dataset, category_ids=dataset.category_ids, max_detections=max_detections)
    model.eval()
    with torch.inference_mode():
        for index, image_id in enumerate(dataset.image_ids):
            image = dataset.load_image(index)
            [found] = model([image / 255])
            instances = Instances(
                boxes=found["boxes"].numpy(),
                labels=found["labels"].numpy() - 1,
                class_scores=found["scores"].numpy(),
                masks=found["masks"][:, 0].numpy() > 0.5,
                image_size=(image.shape[1], image.shape[2]),
                class_names=dataset.class_names,
            )
            evaluator.update(image_id, instances)
    if results is not None:
        evaluator.save_results(results)
    metrics = evaluator.evaluate()
    mask, box = metrics.tables["mask"], metrics.tables["box"]
    return {"mask AP": mask.AP, "mask AP50": mask.AP50, "mask AP75": mask.AP75, "box AP": box.AP}


def main() -> None:
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument("--data", required=True, help="data set, as for protomask train")
    parser.add_argument("--minutes", type=float, default=33, help="training time")
    parser.add_argument("--steps", type=positive, help="so many steps in place of --minutes and of the trial")
    parser.add_argument("--image-size", type=positive, default=384, help="short side of the input")
    parser.add_argument("--batch-size", type=positive, default=2, help="images per step")
    parser.add_argument("--optimizer", choices=list(LEARNING_RATES), default="adamw")
    parser.add_argument("--learning-rate", type=float, help=f"largest; by default {LEARNING_RATES}")
    parser.add_argument("--anchor-sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="one per level")
    parser.add_argument("--max-detections", type=positive, default=400)
    parser.add_argument("--backbone-weights", type=Path, help="torchvision's ResNet-50 of ImageNet (.pth); else random")
    parser.add_argument("--trial", action="store_true", help="only tell how many steps fit into --minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-results", type=Path, metavar="FILE", help="write COCO results, NAME_segm.json and ...")
    parser.add_argument("--weights", type=Path, help="write the trained weights here (.pth)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    paths = open_dataset(options.data)
    train_images = CocoDataset.of_split(paths, "train")
    geometry = ShortSideGeometry(
        image_size=options.image_size, max_image_size=2 * options.image_size, mean=(124, 116, 104), std=(58, 57, 57)
    )
    augmentation = AugmentationConfig(zoom_out=0, crop=0, vertical_flip=0.5, rotate90=0.5)
    model = build(options, len(train_images.class_names))
    peak = options.learning_rate or LEARNING_RATES[options.optimizer]
    parameters = {"params": list(model.parameters()), "lr": peak / WARMUP_STEPS}
    optimizer: torch.optim.Optimizer
    if options.optimizer == "sgd":
        optimizer = torch.optim.SGD([parameters], momentum=0.9, weight_decay=1e-4)
    else:
        optimizer = torch.optim.AdamW([parameters], weight_decay=0.05)

    def batches(count: int) -> Any:
        return training_batches(
            TrainingImages(train_images, augmentation, geometry),
            batch_size=options.batch_size,
            seed=options.seed,
            first_iteration=0,
            last_iteration=count,
            num_workers=1,
            pad_multiple=geometry.pad_multiple,
        )

    steps = options.steps
    if steps is None:
        model.train()
        started = perf_counter()
        for number, (images, targets) in enumerate(batches(TRIAL_STEPS), start=1):
            step(model, optimizer, images, targets)
            if number == UNCOUNTED_STEPS:
                started = perf_counter()
        seconds = (perf_counter() - started) / (TRIAL_STEPS - UNCOUNTED_STEPS)
        steps = max(int(60 * options.minutes / seconds), 1)
        print(f"{seconds:.2f} s a step: {steps} steps in {options.minutes:g} minutes", flush=True)
        if options.trial:
            return
    model.train()
    started = perf_counter()
    for number, (images, targets) in enumerate(batches(steps)):
        warm = min((number + 1) / min(WARMUP_STEPS, max(steps // 10, 1)), 1)
        rate = peak * warm * 0.5 * (1 + math.cos(math.pi * number / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = step(model, optimizer, images, targets)
        if number % 20 == 0:
            print(f"step {number}/{steps}  loss {loss:.3f}  {perf_counter() - started:.0f} s", flush=True)
    minutes = (perf_counter() - started) / 60
    if options.weights is not None:
        torch.save(model.state_dict(), options.weights)
    val_images = CocoDataset.of_split(paths, "val", class_names=train_images.class_names)
    found = evaluate(model, val_images, options.max_detections, options.save_results)
    row = {
        "model": "torchvision mask_rcnn_resnet50_fpn",
        "images": steps * options.batch_size,
        "minutes": minutes,
        **{name: f"{value:.3f}" for name, value in found.items()},
    }
    report(f"torchvision on {Path(options.data).name}", [row], json_file=options.json)


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
