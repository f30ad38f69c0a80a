"""What the folder of a training run says about it, read without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from protomask.engine.records import read_metrics
from protomask.errors import ConfigError

NUMBERS = "metrics.json"
"""File beside the page of a report with its numbers."""

Kind = Literal["mask", "box"]
KINDS: tuple[Kind, ...] = ("mask", "box")
_WITHOUT_REPORT = ("AP", "AP50", "AP75")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run as it is compared with others.

    Attributes:
        name: name of its folder, with as much of the path as distinguishes it from the others.
        path: its folder.
        settings: its config.yaml, nested ones with names such as ``augmentation.mosaic``.
        records: lines of metrics.jsonl.
        report: numbers of its report, if that shows the best weights so far.
        missing: why there is no ``report``; "" if there is one.

    """

    name: str
    path: Path
    settings: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any] | None
    missing: str

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The training lines."""
        return [line for line in self.records if line["kind"] == "train"]

    @property
    def validations(self) -> list[Mapping[str, Any]]:
        """The validation lines."""
        return [line for line in self.records if line["kind"] == "validation"]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The validation with the highest mask AP, the first of equals; None without any."""
        return _best(self.validations)

    @property
    def iterations(self) -> int:
        """Steps done."""
        return max((line["iteration"] for line in self.records), default=0)

    @property
    def epochs_per_iteration(self) -> float | None:
        """Share of the training images in a step; None while nothing is logged."""
        lines = [line for line in (self.steps or self.validations) if line["iteration"] > 0]
        return lines[-1]["epoch"] / lines[-1]["iteration"] if lines else None

    @property
    def seconds(self) -> float | None:
        """How long it took; None if its log does not say."""
        return max((line["elapsed_seconds"] for line in self.records if line.get("elapsed_seconds")), default=None)

    def measures(self, kind: Kind) -> dict[str, float | None]:
        """AP and AR by name: of the report, else AP, AP50 and AP75 of the best validation."""
        if self.report is not None:
            table = self.report.get(kind) or {}
            return {name: value for name, value in table.items() if name not in ("AR_max", "per_class")}
        best = self.best or {}
        return {name: best.get(f"{kind}_{name}") for name in _WITHOUT_REPORT if f"{kind}_{name}" in best}

    def classes(self, kind: Kind) -> Mapping[str, Mapping[str, Any]]:
        """AP, AP50 and num_objects of each class; none without a report."""
        table = (self.report or {}).get(kind) or {}
        return dict(table.get("per_class", {}))

    @property
    def truth(self) -> object:
        """Equal for runs that were, as far as their reports say, measured on the same images."""
        counts = {name: one["num_objects"] for kind in KINDS for name, one in self.classes(kind).items()}
        return (self.report or {}).get("num_images"), counts


def read_runs(folders: Sequence[str | Path]) -> list[ComparedRun]:
    """Read two or more run folders.

    Raises:
        ConfigError: there are fewer than two, a folder is given twice, or holds no run.

    """
    paths = [Path(folder) for folder in folders]
    whole = [path.resolve() for path in paths]
    if len(whole) < 2:
        raise ConfigError(f"run_folders: expected two or more to compare, got {len(whole)}")
    for path, other in zip(paths, whole, strict=True):
        if whole.count(other) > 1:
            raise ConfigError(f"run_folders: expected each folder once, got {path} again")
    return [_read(path, name) for path, name in zip(paths, _names(whole), strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as make them differ."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str) -> ComparedRun:
    settings_file = path / "config.yaml"
    try:
        settings = yaml.safe_load(settings_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"run_folders: expected the folder of a training run, got {path} ({settings_file.name}: {error.strerror})"
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"run_folders: {settings_file}: cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"run_folders: {settings_file}: expected the settings of a run as 'name: value' lines")
    records = read_metrics(path)
    report, missing = _read_report(path, records)
    return ComparedRun(name=name, path=path, settings=_flat(settings), records=records, report=report, missing=missing)


def _read_report(path: Path, records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """The numbers of the report, or why there are none that count."""
    try:
        report = json.loads((path / "report" / NUMBERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, "has no report"
    if not isinstance(report, dict):
        return None, "has no report"
    best = _best([line for line in records if line["kind"] == "validation"])
    if best is not None and report.get("iteration") not in (None, best["iteration"]):
        return None, f"has better weights, of iteration {best['iteration']}, than its report shows"
    return report, ""


def _best(validations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    judged = [line for line in validations if line.get("mask_AP") is not None]
    return max(judged, key=lambda line: float(line["mask_AP"]), default=None)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with their path as the name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
