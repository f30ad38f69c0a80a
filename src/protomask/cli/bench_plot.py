"""The picture of a `protomask bench` report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protomask.errors import MissingExtraError
from protomask.files import replacing

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(
        "bench.png needs matplotlib: pip install 'protomask[plot]' (--no-plot does without)"
    ) from error

# Okabe and Ito 2008: told apart by all common kinds of colour vision.
_STAGE_COLORS = {
    "decode": "#e69f00",
    "preprocess": "#56b4e9",
    "network": "#0072b2",
    "nms": "#009e73",
    "masks": "#cc79a7",
    "rest": "#bbbbbb",
}


def save_plot(report: Mapping[str, Any], path: Path) -> Path:
    """Draw where the time of an image goes, the throughput by batch size and, where it is known, AP over time.

    Args:
        report: as `protomask bench --json` prints it.
        path: PNG file to write.

    """
    rows = report["models"]
    machine = report["machine"]
    with_ap = rows[0]["ap"] is not None
    height = 1.2 + 0.4 * len(rows)
    figure = Figure(figsize=(10, height + 3.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, 3.2])[:, 0]
    _draw_stages(upper.subplots(), rows)
    panels = lower.subplots(1, 2 if with_ap else 1, squeeze=False)[0]
    _draw_throughput(panels[0], rows)
    if with_ap:
        _draw_accuracy(panels[1], rows)
    figure.suptitle(f"{machine['cpu']}, {machine['threads']} threads, {machine['date']}", fontsize="small")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return path


def _labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Models without the folders they lie in."""
    return [Path(row["model"]).name for row in rows]


def _draw_stages(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    totals = [row["stages"]["total"] for row in rows]
    stages = [stage for stage in rows[0]["stages"] if stage != "total"]
    widths = {stage: [(row["stages"][stage] or {"median_ms": 0.0})["median_ms"] for row in rows] for stage in stages}
    sums = [sum(values) for values in zip(*widths.values(), strict=True)]
    widths["rest"] = [max(0.0, total["median_ms"] - known) for total, known in zip(totals, sums, strict=True)]
    left = [0.0] * len(rows)
    for stage, values in widths.items():
        axes.barh(range(len(rows)), values, left=left, height=0.6, color=_STAGE_COLORS[stage], label=stage)
        left = [start + value for start, value in zip(left, values, strict=True)]
    for index, (end, total) in enumerate(zip(left, totals, strict=True)):
        axes.plot([end, total["p95_ms"]], [index, index], color="#444444", linewidth=1, marker="|", markevery=[1])
        text = f"  {total['median_ms']:.1f} ms (p95 {total['p95_ms']:.1f})"
        axes.text(max(end, total["p95_ms"]), index, text, va="center", fontsize="small")
    axes.set_yticks(range(len(rows)), _labels(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(max(one["p95_ms"], end) for one, end in zip(totals, left, strict=True)))
    axes.set_xlabel("milliseconds per image, file to run-length masks (median; the line ends at the 95th percentile)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(widths), frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_throughput(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    sizes = [entry["batch_size"] for entry in rows[0]["throughput"]]
    for row, label in zip(rows, _labels(rows), strict=True):
        axes.plot([entry["images_per_second"] for entry in row["throughput"]], marker="o", label=label)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("batch size")
    axes.set_ylabel("images per second")
    axes.set_ylim(0, 1.15 * max(entry["images_per_second"] for row in rows for entry in row["throughput"]))
    axes.margins(x=0.1)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    _finish(axes)


def _draw_accuracy(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """In the colours of `_draw_throughput`, whose legend serves both."""
    for row in rows:
        axes.plot(row["stages"]["total"]["median_ms"], row["ap"]["mask_AP"] or 0.0, "o")
    axes.set_xlabel("milliseconds per image (median)")
    axes.set_ylabel("mask AP")
    axes.set_xlim(0, 1.15 * max(row["stages"]["total"]["median_ms"] for row in rows))
    axes.set_ylim(0, 1.15 * max(row["ap"]["mask_AP"] or 0.0 for row in rows) or 1)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
