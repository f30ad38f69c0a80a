"""Report of what the check of a data set found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from protomask.data.doctor.problems import Findings, Problem, Severity, worst_first
from protomask.errors import DataError

if TYPE_CHECKING:
    from protomask.data.doctor.network_fit import NetworkFit, SplitObjects
    from protomask.ops.anchors import NetworkInput


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """The usable content of a split.

    Attributes:
        annotation_file: COCO JSON.
        image_dir: folder.
        images: number of images listed.
        images_without_objects: number of images without an object; crowds are not objects.
        objects: number of objects.
        crowds: number of crowd regions.
        most_objects: largest number of objects in one image.
        objects_of_class: number of objects of each class, in label order.
        images_of_class: number of images with objects of each class.

    """

    annotation_file: str
    image_dir: str
    images: int
    images_without_objects: int
    objects: int
    crowds: int
    most_objects: int
    objects_of_class: dict[str, int]
    images_of_class: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """Everything `check_dataset` found.

    Attributes:
        dataset: path of the data set, as given.
        splits: the readable splits, by name.
        problems: errors first, then warnings, then notes.
        network: how the objects look to a network; None until `with_network`.

    """

    dataset: str
    splits: dict[str, SplitSummary]
    problems: tuple[Problem, ...]
    network: NetworkFit | None = None
    _objects: Mapping[str, SplitObjects] = field(default_factory=dict, repr=False)

    def of(self, severity: Severity) -> list[Problem]:
        """Problems of one severity."""
        return [problem for problem in self.problems if problem.severity == severity]

    def raise_errors(self) -> None:
        """Raise one DataError with all errors, if there are any."""
        errors = [problem.message for problem in self.of("error")]
        if errors:
            more = f"\n`protomask data check {self.dataset}` reports everything"
            head = f"{self.dataset}: {len(errors)} errors\n" if len(errors) > 1 else ""
            raise DataError(head + "\n".join(errors) + more)

    def with_network(self, network: NetworkInput) -> CheckReport:
        """The same report, with the problems that appear at the size at which a network sees the objects."""
        from protomask.data.doctor.network_fit import check_network_fit

        objects = self._objects.get("train")
        if objects is None or not len(objects.boxes):
            return self
        findings = Findings("train", self.splits["train"].annotation_file)
        fit = check_network_fit(objects, network, findings)
        if fit is None:
            return self
        return replace(self, problems=worst_first([*self.problems, *findings.problems()]), network=fit)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, all places included."""
        return {
            "dataset": self.dataset,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "network": None if self.network is None else asdict(self.network),
            "problems": [asdict(problem) for problem in self.problems],
        }
