"""Mask rescoring on and off (YOLACT++, section 4.1): AP by class score and by class score times mask score.

Only the rescoring network is trained, so masks, boxes and classes are those of the starting weights: what changes is
the order of the masks. Spearman's rank correlation with the measured IoU says how well each score knows the quality of
a mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablation import (
    add_training_options,
    argument_parser,
    draw_bars,
    fine_tune,
    load,
    mean,
    measure,
    new_figure,
    prepare,
    publish,
    validation_images,
)
from measuring import positive
from protomask.evaluation.quality import QualityMeter
from protomask.evaluation.quality_report import QualityReport, Score
from protomask.models.network import Network

RANKINGS: dict[Score, str] = {"class_score": "class score", "product": "class x mask score"}
COLUMNS = ("mask AP", "mask AP50", "mask AP75", "Spearman, all", "Spearman, matched")


def quality(network: Network, data: Path) -> QualityReport:
    """The scores of all detections against the measured IoU of their masks."""
    dataset = validation_images(data, network)
    meter = QualityMeter(dataset.annotation_file, category_ids=dataset.category_ids)
    measure(network, data, quality=meter)
    return meter.compute()


def row(report: QualityReport, seed: Any, ranking: Score) -> dict[str, Any]:
    """One line of the table."""
    ap = report.mask_ap[ranking]
    correlations = [
        None if (judged := population.scores().get(ranking)) is None else judged.spearman
        for population in (report.populations["all"], report.populations["matched"])
    ]
    values = (ap.AP, ap.AP50, ap.AP75, *correlations)
    return {"seed": seed, "ranked by": RANKINGS[ranking], **dict(zip(COLUMNS, values, strict=True))}


def main() -> None:
    parser = argument_parser(
        __doc__, name="ablation_rescoring", example="--data shapes --iterations 300 --seeds 0 1 2 --images 500"
    )
    parser.add_argument("--iterations", type=positive, default=300, help="training steps for each seed")
    add_training_options(parser, seeds=(0, 1, 2))
    options = parser.parse_args()
    data = prepare(options)
    reports = {"none": quality(load(options.weights), data)}
    rows = [row(reports["none"], "untrained", "class_score")]
    by_ranking: dict[Score, list[dict[str, Any]]] = {ranking: [] for ranking in RANKINGS}
    for seed in options.seeds:
        network, _ = fine_tune(
            options, data, run=f"seed{seed}", iterations=options.iterations, seed=seed, add="mask_rescoring",
            train_only="mask_rescoring",
        )  # fmt: skip
        reports[str(seed)] = quality(network, data)
        for ranking, lines in by_ranking.items():
            lines.append(row(reports[str(seed)], seed, ranking))
            rows.append(lines[-1])
    means = {
        ranking: {name: mean(line[name] for line in lines) for name in COLUMNS} for ranking, lines in by_ranking.items()
    }
    rows += [{"seed": "mean", "ranked by": RANKINGS[ranking], **means[ranking]} for ranking in RANKINGS]

    title = f"{Path(options.weights).stem}: mask rescoring, {options.iterations} steps, seeds {options.seeds}"
    figure, (left, right) = new_figure(title)
    for axes, chosen in ((left, COLUMNS[:3]), (right, COLUMNS[3:])):
        draw_bars(axes, chosen, {RANKINGS[ranking]: [means[ranking][name] for name in chosen] for ranking in RANKINGS})
        # The single seeds, one dot each, on the bars of their mean.
        for position, lines in enumerate(by_ranking.values()):
            for group, name in enumerate(chosen):
                values = [line[name] for line in lines if line[name] is not None]
                axes.plot([group + (position - 0.5) * 0.4] * len(values), values, ".", color="0.2", markersize=3)
    left.set(ylabel="AP")
    right.set(ylabel="rank correlation with measured IoU")
    publish(
        options, title=title, rows=rows, figure=figure, reports={key: one.to_dict() for key, one in reports.items()}
    )


if __name__ == "__main__":
    main()
