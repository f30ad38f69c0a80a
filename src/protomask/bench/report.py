"""What a comparison of models found, as typed data and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from protomask.bench.latency import Summary
from protomask.bench.memory import MemoryUse
from protomask.bench.models import ModelSpec


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What was measured, and how often.

    Attributes:
        images: names of the timed files.
        data: data set that AP was measured on, if any.
        data_split: part of it.
        data_images: number of its images.
        rounds: timed predictions of each image, and timed batches of each size, by each model.
        warmup: untimed predictions of each image by each model.
        score_threshold: only what scores above this was found; AP counts everything.
        device: as in `protomask.load`.

    """

    images: tuple[str, ...]
    data: str | None
    data_split: str | None
    data_images: int | None
    rounds: int
    warmup: int
    score_threshold: float
    device: str


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """Everything measured of one model.

    Attributes:
        spec: the model.
        instances_per_image: mean number of instances found in the timed images.
        stages: time of each stage, and ``total``; None for a stage that the runtime does not measure.
        throughput: images per second by batch size.
        memory: of a process of its own.
        ap: box_AP, box_AP50, box_AP75, mask_AP, mask_AP50 and mask_AP75 in [0, 1]; None without a data set.

    """

    spec: ModelSpec
    instances_per_image: float
    stages: Mapping[str, Summary | None]
    throughput: Mapping[int, float]
    memory: MemoryUse
    ap: Mapping[str, float | None] | None

    @property
    def name(self) -> str:
        """The model with its suffixes."""
        return str(self.spec)

    @property
    def total(self) -> Summary:
        """Time from file to run-length masks."""
        total = self.stages["total"]
        if total is None:
            raise RuntimeError(f"{self.name}: no total time")
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "model": self.name,
            **asdict(self.spec),
            "instances_per_image": self.instances_per_image,
            "stages": {stage: None if one is None else asdict(one) for stage, one in self.stages.items()},
            "throughput": [{"batch_size": size, "images_per_second": v} for size, v in self.throughput.items()],
            "memory": asdict(self.memory),
            "ap": None if self.ap is None else dict(self.ap),
        }


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """One run of `compare_models`.

    Attributes:
        machine: as `describe_machine` returns it.
        settings: what was measured.
        models: at least one, in the order given.
        missing: why a model is left out, by its name, for those that could not be loaded.

    """

    machine: Mapping[str, Any]
    settings: BenchSettings
    models: tuple[ModelResult, ...]
    missing: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        settings = {**asdict(self.settings), "images": list(self.settings.images)}
        return {
            "machine": dict(self.machine),
            "settings": settings,
            "models": [model.to_dict() for model in self.models],
            "missing": dict(self.missing),
        }
