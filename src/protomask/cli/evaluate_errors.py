"""Tables of `protomask eval --errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protomask.evaluation.errors.report import ErrorReport


def print_errors(report: ErrorReport) -> None:
    """Print what goes wrong, what it costs, and where."""
    from protomask.cli.output import print_table
    from protomask.evaluation.errors.report import GROUPINGS

    above = f"scores above {report.score_threshold:g}"
    heads = [f"{kind} {name}" for kind in report.types for name in ("errors", "AP50 cost")]
    print_table(["type", *heads], [[name, *values] for name, values in report.type_rows()], title=f"errors, {above}")
    if report.faults is not None:
        faults = report.faults
        rows = [[name, tally.count, tally.AP_cost] for name, tally in faults.faults.items()]
        title = f"masks, {above}: {faults.good} of {faults.examined} with an object are good"
        print_table(["fault", "masks", "mask AP cost"], rows, title=title)
        print_table(["", "mask", "boundary"], report.boundary_rows(), title="AP by mask IoU and by boundary IoU")
    for by, title in GROUPINGS.items():
        if len(report.objects[by]) > 1:
            for kind in report.tallies():
                columns, counts = report.breakdown(by, kind)
                print_table([title, *columns], [[name, *values] for name, values in counts])
