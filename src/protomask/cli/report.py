"""`protomask report`."""

from __future__ import annotations

EXAMPLE = "protomask report runs/shapes\n  protomask report runs/a runs/b"
POSITIONAL = ("run_folders",)


def run(
    run_folders: list[str],
    *,
    data: str | None = None,
    split: str | None = None,
    output: str | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Write the page about a training run again, or compare several runs.

    Args:
        run_folders: folder that `protomask train` wrote; of several, a page compares the others with the first: curves,
            AP, settings that differ. It takes the AP of each class from their reports and predicts nothing.
        data: the data set, if it has moved since; by default that of the run. Only for one run.
        split: part of the data set to take the images of the page from, such as test; the validation images of the run
            by default. Only for one run.
        output: folder of the page, index.html and its images; by default report/ in the run folder. For several runs,
            the HTML file; by default comparison.html beside the first run folder.
        batch_size: images that go through the network together.
        num_workers: processes that load images; 0 loads them in this one.
        device: device that runs the network: auto, cpu, cuda, cuda:N or mps.
        json: print the numbers of the page as JSON.
    """
    from protomask.cli.output import dump_json, progress
    from protomask.data.coco.layout import open_dataset
    from protomask.engine.config import TrainConfig
    from protomask.engine.folder import RunFolder
    from protomask.errors import ConfigError
    from protomask.extras import require_torch

    if len(run_folders) > 1:
        for name, value in (("data", data), ("split", split)):
            if value is not None:
                raise ConfigError(f"{name}: expected one run folder beside it, got {len(run_folders)}")
        return _compare(run_folders, output, json)

    require_torch("protomask report")
    folder = RunFolder.of_run(run_folders[0])
    open_dataset(data or TrainConfig.load(folder.settings_file).data, () if split is None else (split,))
    from protomask.reports.run_report import write_report

    with progress("report", None, quiet=json) as bar:
        report = write_report(
            run_folders[0],
            data=data,
            split=split,
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


def _compare(run_folders: list[str], output: str | None, json: bool) -> int:
    from protomask.cli.output import dump_json, print_table
    from protomask.reports.compared_run import KINDS
    from protomask.reports.comparison import compare_runs

    compared = compare_runs(run_folders, output=output)
    if json:
        dump_json(compared.to_dict())
        return 0
    rows = []
    for one in compared.runs:
        measures = [one.measures(kind) for kind in KINDS]
        rows.append([one.name, *(table.get(name) for table in measures for name in ("AP", "AP50"))])
    print_table(["run", *(f"{kind} {name}" for kind in KINDS for name in ("AP", "AP50"))], rows)
    for one in compared.runs:
        if one.missing:
            print(f"{one.name} {one.missing}; protomask report {one.path} makes a new one")
    print(f"comparison: {compared.page}")
    return 0
