"""`protomask report`."""

from __future__ import annotations

EXAMPLE = "protomask report runs/shapes"
POSITIONAL = ("run_folder",)


def run(
    run_folder: str,
    *,
    data: str | None = None,
    output: str | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Write the page about a training run again: curves, AP, confusion matrix, best and worst images.

    Args:
        run_folder: folder that `protomask train` wrote.
        data: the data set, if it has moved since; by default that of the run.
        output: folder of the page, index.html and its images; by default report/ in the run folder.
        batch_size: images that go through the network together.
        num_workers: processes that load images; 0 loads them in this one.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        json: print the numbers of the page as JSON.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.reports.run_report import write_report

    with progress("report", None, quiet=json) as bar:
        report = write_report(
            run_folder,
            data=data,
            output=output,
            batch_size=batch_size,
            num_workers=num_workers,
            device=device,
            on_progress=bar.update,
        )
    if json:
        dump_json(report.to_dict())
    else:
        print(f"report: {report.page}")
    return 0
