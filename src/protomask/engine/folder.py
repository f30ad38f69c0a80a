"""The run folder: settings, metrics, weights, and the state from which a run continues."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protomask.engine.config import TrainConfig
from protomask.engine.stretch import ExistingRunError, Stretch
from protomask.errors import CheckpointError, ConfigError
from protomask.files import is_locked, locked_folder, near_path, replacing
from protomask.models.naming import run_weights

# PyTorch is imported where it is used, so that paths and settings can be checked without waiting for it.
if TYPE_CHECKING:
    from protomask.data.training.loader import TrainBatch
    from protomask.evaluation.tables import CocoMetrics
    from protomask.models.network import Network

# These may differ between a run and its continuation: they change neither the network nor what it is shown.
_MAY_CHANGE = frozenset(
    {"data", "weights", "output", "resume", "device", "num_workers", "log_every", "validate_every", "max_detections"}
    | {"checkpoint_minutes", "channels_last", "mixed_precision", "patience", "max_bad_steps"}
    | {"trackers", "tracker_project"}
)
_LENGTH = ("epochs", "iterations", "minutes")


@dataclass(kw_only=True)
class Progress:
    """The progress of a run.

    Attributes:
        iteration: steps done.
        validated_iteration: steps done at the last validation, -1 before the first.
        best_mask_ap: mask AP in [0, 1] of best.safetensors, None while no validation found one.
        best_iteration: steps done at that validation, -1 before it.
        skipped_steps: steps left out because their loss or gradient was not finite.
        bad_steps: how many of them came last, in a row.
        stale_validations: validations since the best one.
        stretch: the part of the run that was planned; None before the first state is saved.
        seconds: time that the run has taken.
        pace: see `protomask.engine.pace.Pace.to_plain`.

    """

    iteration: int = 0
    validated_iteration: int = -1
    best_mask_ap: float | None = None
    best_iteration: int = -1
    skipped_steps: int = 0
    bad_steps: int = 0
    stale_validations: int = 0
    stretch: Stretch | None = None
    seconds: float = 0.0
    pace: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of `dataclasses.asdict`."""
        stretch = values["stretch"]
        return cls(**{**values, "stretch": None if stretch is None else Stretch(**stretch)})

    def validated(self, metrics: CocoMetrics) -> bool:
        """Record a validation of the current weights; returns whether they are the best so far."""
        self.validated_iteration = self.iteration
        mask_ap = None if metrics.mask is None else metrics.mask.AP
        if mask_ap is None or (self.best_mask_ap is not None and mask_ap <= self.best_mask_ap):
            self.stale_validations += 1
            return False
        self.best_mask_ap = mask_ap
        self.best_iteration = self.iteration
        self.stale_validations = 0
        return True


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run, and how its state is saved and restored."""

    path: Path

    @classmethod
    def of_run(cls, path: str | Path) -> RunFolder:
        """The folder of a run that has weights already.

        Raises:
            ConfigError: there is no such run; the message names one that is spelled almost like it.

        """
        folder = cls(Path(path))
        if not folder.settings_file.is_file() or not (folder.best_weights.is_file() or folder.last_weights.is_file()):
            near = near_path(folder.settings_file)
            hint = f"; did you mean {near.parent}?" if near is not None and near != folder.settings_file else ""
            got = path if folder.path.exists() else f"{path}, which does not exist"
            raise ConfigError(f"run_folder: expected the folder of a training run with weights, got {got}{hint}")
        return folder

    @property
    def settings_file(self) -> Path:
        """The run's `TrainConfig`."""
        return self.path / "config.yaml"

    @property
    def state_file(self) -> Path:
        """Everything a run needs to continue."""
        return self.path / "checkpoints" / "last" / "state.pt"

    @property
    def weights(self) -> Path:
        """The weights to use: the best ones, else the last ones.

        Raises:
            CheckpointError: the folder holds no weights.

        """
        return run_weights(self.path)

    @property
    def last_weights(self) -> Path:
        """Weights at the time of the saved state."""
        return self.path / "last.safetensors"

    @property
    def best_weights(self) -> Path:
        """Weights with the highest mask AP so far."""
        return self.path / "best.safetensors"

    def check(self, config: TrainConfig) -> None:
        """Check that a run with these settings may write here.

        Raises:
            ConfigError: another run is at work there; or is there and is not to be continued, or was made with settings
                that contradict.

        """
        if is_locked(self.path):
            with locked_folder(self.path, "output"):  # says why not
                pass
        self._check_settings(config)

    def _check_settings(self, config: TrainConfig) -> None:
        if config.added and not self.state_file.is_file():
            name = config.added[0]
            raise ConfigError(f"{name}: expected a run in {self.path} to prolong by {getattr(config, name)}")
        if not self.state_file.is_file() and not (self.path / "metrics.jsonl").is_file():
            return
        if not config.resume:
            raise ExistingRunError(
                f"output: {self.path} already holds a run; expected another folder, or resume to continue that run"
            )
        before, now = TrainConfig.load(self.settings_file).to_dict(), config.to_dict()
        may_change = _MAY_CHANGE | set(config.added) | ({"learning_rate"} if config.added else set())
        changed = [name for name in now if name not in may_change and now[name] != before[name]]
        if changed:
            differences = "; ".join(f"{name} was {before[name]}, got {now[name]}" for name in changed)
            longer = "; +N prolongs a run at its end by N" if set(_LENGTH) & set(changed) else ""
            raise ExistingRunError(f"resume: expected the settings of the run in {self.path}: {differences}{longer}")

    def without_addition(self, config: TrainConfig) -> TrainConfig:
        """The settings of a run that is to be prolonged, with the length and learning rate that it began with."""
        before = TrainConfig.load(self.settings_file)
        return config.replace(**{name: getattr(before, name) for name in (*_LENGTH, "learning_rate")})

    @contextmanager
    def opened(self, config: TrainConfig) -> Iterator[None]:
        """Make the folder, write the settings into it, and let no other run write there meanwhile.

        Raises:
            ConfigError: as `check`, or the folder cannot be written.

        """
        with locked_folder(self.path, "output"):
            self._check_settings(config)
            try:
                self.state_file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"output: expected a folder that can be written, got {self.path}: {error}") from error
            replace(config, resume=False).save(self.settings_file)
            yield

    def save_state(
        self,
        parts: Mapping[str, Any],
        progress: Progress,
        random_states: Sequence[Any],
        *,
        network: Network,
        pending: Mapping[str, Any],
    ) -> None:
        """Write the full state; at every moment the file is either the former state or this one.

        It is written before the weights and lines that belong to it, and holds all that they are made of: a run that is
        killed in between writes them when it continues.

        Args:
            parts: objects with a ``state_dict``, by name; None for those that the run does not have.
            progress: progress of the run.
            random_states: `random_state` of each process.
            network: that learns.
            pending: of the lines of metrics.jsonl that are not complete; plain types.

        Raises:
            CheckpointError: the file cannot be written; the former state is still there.

        """
        from protomask.models.families import family_of

        state = {
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
            "progress": asdict(progress),
            "random": list(random_states),
            "pending": dict(pending),
            "model": {
                "family": family_of(network.config).name,
                "config": network.config.to_dict(),
                "class_names": list(network.class_names),
            },
        }
        _save(state, self.state_file, durable=True)

    def saved_network(self) -> Network:
        """An untrained network like the one whose state is saved.

        Raises:
            CheckpointError: the file cannot be read.

        """
        import torch

        from protomask.models.build import build_network
        from protomask.models.families import family

        try:
            model = torch.load(self.state_file, map_location="cpu", weights_only=True, mmap=True)["model"]
            config = family(model["family"]).config.from_dict(model["config"])
            return build_network(config, class_names=model["class_names"])
        except Exception as error:  # a damaged archive surfaces as almost any exception
            raise CheckpointError(f"{self.state_file}: expected the state of this run: {error}") from error

    def load_state(
        self, parts: Mapping[str, Any], *, process: int = 0, processes: int = 1
    ) -> tuple[Progress, dict[str, Any]]:
        """Bring every part and the random generators of this process to the saved state.

        Returns:
            How far the run is, and what was pending.

        Raises:
            CheckpointError: the file cannot be read or belongs to another network.
            ConfigError: the run had a different number of processes.

        """
        import torch

        try:
            state = torch.load(self.state_file, map_location="cpu", weights_only=True)
            for name, part in parts.items():
                if part is not None and state[name] is not None:
                    part.load_state_dict(state[name])
            saved, pending = state["random"], dict(state["pending"])
            progress = Progress.from_plain(state["progress"])
            if len(saved) == processes:
                _set_random_state(saved[process])
        except Exception as error:  # a damaged archive surfaces as almost any exception
            raise CheckpointError(f"{self.state_file}: expected the state of this run: {error}") from error
        if len(saved) != processes:
            raise ConfigError(f"resume: the run in {self.path} had {len(saved)} processes, got {processes}")
        return progress, pending

    def save_bad_batch(self, iteration: int, problem: str, batches: Sequence[TrainBatch], *, process: int = 0) -> Path:
        """Save the batches of a step that could not be taken, for `torch.load`; returns the file.

        It holds the iteration, the problem and, for every batch, the images (B, 3, H, W) uint8 and, for each image, its
        image_id, boxes (N, 4) in pixels of the image, labels (N,) and masks (N, h, w) bool.
        """
        content = {
            "iteration": iteration,
            "problem": problem,
            "batches": [
                {
                    "images": images,
                    "targets": [
                        {name: getattr(target, name) for name in ("image_id", "boxes", "labels", "masks")}
                        for target in targets
                    ],
                }
                for images, targets in batches
            ],
        }
        path = self.path / "bad_batches" / f"iteration_{iteration}_process_{process}.pt"
        _save(content, path)
        return path


def _save(content: Mapping[str, Any], path: Path, *, durable: bool = False) -> None:
    import torch

    try:
        with replacing(path, error=CheckpointError, durable=durable) as file:
            torch.save(content, file)
    except RuntimeError as error:  # as torch reports some failed writes
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def random_state() -> dict[str, Any]:
    """The state of every random generator that a process draws from."""
    import torch

    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def without_folders(config: TrainConfig) -> dict[str, Any]:
    """Settings as plain values, with every local path reduced to its name."""
    settings = replace(config, resume=False).to_dict()
    for key in ("data", "output", "weights", "backbone_weights", "teacher"):
        value = settings[key]
        if value is not None and "://" not in value:
            settings[key] = Path(value).name
    return settings
