"""`protomask data check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from protomask.data.doctor.report import CheckReport
    from protomask.models.naming import ModelSource

EXAMPLE = "protomask data check mydata --save-dir mydata-check"
POSITIONAL = ("dataset",)


def run(
    dataset: str,
    *,
    split: str | None = None,
    model: str | None = None,
    image_size: int | None = None,
    model_options: dict[str, Any] | None = None,
    save_dir: str | None = None,
    seed: int = 0,
    json: bool = False,
) -> int:
    """Look for everything that is wrong or odd in a data set, before training does.

    Args:
        dataset: folder with annotations/SPLIT.json and images/SPLIT/, or a YAML file naming these paths.
        split: the only part of the data set to check; by default all parts it has, and always train and val.
        model: the model to be trained on it, as for train; its anchors are compared with the objects. The default is
            that of train.
        image_size: side of the network input in pixels, or its short side for a Mask R-CNN; the model's own by default.
        model_options: other fields of the model's configuration to change, by name, as for train.
        save_dir: folder for annotations.png, a sheet of random images with their annotations drawn on them.
        seed: chooses these images.
        json: print all findings as JSON instead of text.
    """
    from pathlib import Path

    from protomask.cli.output import dump_json, progress
    from protomask.data.doctor.check import check_dataset
    from protomask.defaults import DEFAULT_NETWORK
    from protomask.extras import require_torch
    from protomask.files import check_writable
    from protomask.models.naming import find_model
    from protomask.models.zoo import zoo_entry

    require_torch("protomask data check")
    found = find_model(model or DEFAULT_NETWORK)
    file = None if save_dir is None else Path(save_dir) / "annotations.png"
    if file is not None:
        check_writable(file, "save_dir")
    options = {**(model_options or {}), **({} if image_size is None else {"image_size": image_size})}
    if found.kind == "zoo":  # a wrong option need not wait for the data
        zoo_entry(found.name).preset().override(**options)
    with progress("check", None, quiet=json, lines=True) as bar:
        report = check_dataset(dataset, splits=None if split is None else (split,), progress=bar.update)
    sheet = None
    if report.splits:
        report = _with_network(report, found, options)
        sheet = None if file is None else _sheet(report, file, seed)
    if json:
        dump_json({**report.to_dict(), "sheet": None if sheet is None else str(sheet)})
    else:
        _print(report)
        if sheet is not None:
            print(f"annotations drawn on random images: {sheet}")
    return 1 if report.of("error") else 0


def _with_network(report: CheckReport, found: ModelSource, options: dict[str, Any]) -> CheckReport:
    """The report with what the model that is to learn the data makes of it."""
    from protomask.checkpoints.sources import read_config
    from protomask.models.families import family_of

    config = read_config(found).override(**options)
    network_input = family_of(config).network_input
    return report if network_input is None else report.with_network(network_input(config))


def _sheet(report: CheckReport, file: Path, seed: int) -> Path | None:
    from protomask.reports.sheets import write_sheet

    return write_sheet(report, file, seed=seed)


def _print(report: CheckReport) -> None:
    from protomask.cli.output import print_table
    from protomask.data.doctor.problems import SEVERITIES

    for name, split in report.splits.items():
        print(
            f"{name}: {split.images} images ({split.images_without_objects} without objects), {split.objects} objects, "
            f"{split.crowds} crowd regions, at most {split.most_objects} objects in an image"
        )
    if report.splits:
        print()
        columns = [(split.objects_of_class, split.images_of_class) for split in report.splits.values()]
        names = dict.fromkeys(name for objects, _ in columns for name in objects)
        rows = [[name, *(counts.get(name) for pair in columns for counts in pair)] for name in names]
        heads = [f"{split} {what}" for split in report.splits for what in ("objects", "images")]
        print_table(["class", *heads], rows)
    if report.network is not None:
        fit = report.network
        sides = ", ".join(f"{side:.0f} px ({share})" for share, side in fit.side_quantiles.items())
        print(f"{fit.name}: side of the training objects in its input, by share of smaller ones: {sides}")
        anchors = fit.anchors
        print(
            f"{fit.name}: {anchors.recall:.1%} of the training objects have an anchor of IoU {anchors.positive_iou:g} "
            f"or more, mean IoU of the best anchor {anchors.mean_iou:.2f}\n"
        )
    for severity in SEVERITIES:
        found = report.of(severity)
        print(f"{severity}s: {len(found) or 'none'}")
        for problem in found:
            print(f"  {severity}: {problem.message}")
