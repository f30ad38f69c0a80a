"""One stage against two, with and without mask scores: AP and time per image after equally long trainings.

YOLACT, Mask R-CNN, Mask Scoring R-CNN and FCIS on the same backbone, at the same image size, from the same start, train
for the same wall-clock time on the same machine: a short trial of each tells how many steps that is. The models with
regions are narrowed (pyramid 128, head 256, 64 regions per image), or a CPU would see only a few hundred images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ablation import (
    ap_columns,
    argument_parser,
    draw_bars,
    fine_tune,
    measure,
    medians,
    new_figure,
    prepare,
    publish,
    time_networks,
    validation_images,
)
from measuring import note, positive
from protomask.evaluation.quality import QualityMeter

NARROW: dict[str, Any] = {
    "fpn_channels": 128,
    "head_channels": 256,
    "anchor_sizes": [12, 24, 48, 96, 192],
    "roi_samples": 64,
    "training_rpn_candidates": 500,
    "training_max_proposals": 500,
    "rpn_candidates": 300,
    "max_proposals": 300,
}
NARROW_FCIS: dict[str, Any] = {
    "rpn_channels": 128,
    "head_channels": 256,
    "anchor_sizes": [12, 24, 48, 96, 192],
    "hard_regions": 64,
    "rpn_candidates": 500,
    "max_proposals": 100,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "YOLACT": ("yolact_nano", {}),
    "Mask R-CNN": ("mask_rcnn_resnet50_fpn", NARROW),
    "Mask Scoring R-CNN": ("ms_rcnn_resnet50_fpn", NARROW),
    "FCIS": ("fcis_resnet50", NARROW_FCIS),
}
TRIAL_STEPS = 30
COLUMNS = ("mask AP", "mask AP50", "mask AP75", "box AP")
CORRELATIONS = ("Spearman, class score", "Spearman, product")


def images_per_second(run: Path) -> float:
    """Of the last logged steps of a run: the first ones warm caches up."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return float([line["images_per_second"] for line in lines if "images_per_second" in line][-1])


def main() -> None:
    parser = argument_parser(
        __doc__, name="two_stage", example="--data shapes --minutes 20 --images 500 --timed-images 40"
    )
    parser.add_argument("--minutes", type=float, default=20, help="training time of each model")
    parser.add_argument("--image-size", type=positive, default=256, help="side, or short side, of the input")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="only these")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="of all models")
    parser.add_argument("--backbone-weights", help="file with ImageNet weights to start from; random without")
    parser.add_argument("--batch-size", type=positive, default=4, help="images per step")
    parser.add_argument("--learning-rate", type=float, default=0.025, help="at batch size 8, of YOLACT")
    parser.add_argument("--rcnn-learning-rate", type=float, default=0.01, help="likewise, of both Mask R-CNNs")
    parser.add_argument("--fcis-learning-rate", type=float, default=0.03, help="likewise, of FCIS")
    parser.add_argument("--workers", type=int, default=1, help="processes that load training images")
    options = parser.parse_args()
    data = prepare(options)
    rates = {"YOLACT": options.learning_rate, "FCIS": options.fcis_learning_rate}
    runs: dict[str, dict[str, Any]] = {}
    steps: dict[str, int] = {}
    for title, (model, fields) in ((title, MODELS[title]) for title in options.models):
        runs[title] = {
            "model": model,
            "weights": None,
            "pretrained_backbone": False,
            "backbone_weights": options.backbone_weights,
            "image_size": options.image_size,
            "model_options": {**fields, "backbone": options.backbone},
            "learning_rate": rates.get(title, options.rcnn_learning_rate),
            "warmup_init": 0.002,
            "freeze_bn": False,
            "log_every": 10,
        }
        # So short a run has next to no warm-up: at a low rate none of them diverges.
        trial = {**runs[title], "learning_rate": 1e-4, "warmup_init": 1e-4}
        fine_tune(options, data, run=f"trial_{model}", iterations=TRIAL_STEPS, seed=0, **trial)
        speed = images_per_second(options.output / f"trial_{model}")
        steps[title] = max(int(options.minutes * 60 * speed / options.batch_size), 1)
        note(f"{title}: {speed:.1f} images/s, {steps[title]} steps")

    networks, rows, reports = {}, [], {}
    for title, settings in runs.items():
        network, metrics = fine_tune(options, data, run=settings["model"], iterations=steps[title], seed=0, **settings)
        dataset = validation_images(data, network)
        meter = QualityMeter(dataset.annotation_file, category_ids=dataset.category_ids)
        measure(network, data, quality=meter)
        report = meter.compute()
        matched = report.populations["matched"]
        product = None if matched.product is None else matched.product.spearman
        correlations = dict(zip(CORRELATIONS, (matched.class_score.spearman, product), strict=True))
        networks[title], reports[title] = network, report.to_dict()
        rows.append(
            {
                "model": title,
                "training images": steps[title] * options.batch_size,
                **ap_columns(metrics),
                **correlations,
            }
        )
    times = time_networks(networks, data, images=options.timed_images, rounds=options.rounds)
    spent = {part: medians(values) for part, values in times.items()}
    for row in rows:
        row |= {f"{part} ms": spent[part][row["model"]] for part in spent}

    title = f"{options.minutes:g} minutes of training each, {options.image_size} px, {Path(options.backbone).name}"
    figure, (left, right) = new_figure(title)
    draw_bars(left, COLUMNS, {row["model"]: [row[name] for name in COLUMNS] for row in rows})
    draw_bars(
        right,
        ("network", "postprocess"),
        {row["model"]: [row["network ms"], row["postprocess ms"]] for row in rows},
        digits=1,
    )
    left.set(ylabel="AP")
    right.set(ylabel="ms per image")
    publish(options, title=title, rows=rows, figure=figure, reports=reports)


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
