"""Experiment trackers beside TensorBoard: W&B, MLflow and trackio, through accelerate."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from protomask.errors import ConfigError, MissingExtraError
from protomask.files import replacing

if TYPE_CHECKING:
    from accelerate import Accelerator

    from protomask.engine.config import TrainConfig


class Listener(Protocol):
    """Receives a message when a tracker fails."""

    def message(self, text: str) -> None:
        """Receive a line of text."""
        ...


def external_trackers(config: TrainConfig) -> list[str]:
    """The trackers of a run that accelerate starts: all but TensorBoard.

    Raises:
        MissingExtraError: the package of one is not installed.

    """
    from accelerate.utils import LoggerType

    names: list[str] = [name for name in config.trackers if name != "tensorboard"]
    for name in names:
        # accelerate knows trackio since version 1.9, which the extra asks for.
        if find_spec(name) is None or name not in [kind.value for kind in LoggerType]:
            raise MissingExtraError(f"trackers: {name} is not installed: pip install 'protomask[{name}]'")
    return names


class Trackers:
    """The trackers of one run. Their run ids are kept in trackers.json, so that a resumed run continues there.

    A tracker failure never stops a training run: a tracker that fails receives nothing more.

    Args:
        accelerator: made with ``log_with=external_trackers(config)``.
        config: settings of the run, passed to a new tracker run.
        listener: receives a message about each failure.

    Raises:
        ConfigError: a tracker cannot be started.

    """

    def __init__(self, accelerator: Accelerator, config: TrainConfig, listener: Listener) -> None:
        self._listener = listener
        folder = Path(config.output)
        ids_file = folder / "trackers.json"
        known = json.loads(ids_file.read_text(encoding="utf-8")) if config.resume and ids_file.is_file() else {}
        options: dict[str, dict[str, Any]] = {
            "wandb": {"name": folder.name, "dir": str(folder)},
            "mlflow": {"run_name": folder.name},
            "trackio": {"name": f"{folder.name}-{uuid.uuid4().hex[:8]}"},  # it identifies runs by their names only
        }
        for name, run_id in known.items():
            key = {"wandb": "id", "mlflow": "run_id", "trackio": "name"}[name]
            options[name] |= {key: run_id} if name == "mlflow" else {key: run_id, "resume": "allow"}
        try:
            with redirect_stdout(sys.stderr):  # the standard output belongs to the caller
                accelerator.init_trackers(config.tracker_project, init_kwargs=options)
            self._trackers = list(accelerator.trackers)
            ids = {tracker.name: _run_id(tracker) for tracker in self._trackers}
            for tracker in self._trackers:
                if tracker.name != "mlflow" or "mlflow" not in known:  # it takes settings only once
                    tracker.store_init_configuration(_flat(config.to_dict()))
        except Exception as error:  # what a tracker raises is its own
            raise ConfigError(f"trackers: {', '.join(config.trackers)} cannot be started: {error}") from error
        if ids:
            with replacing(ids_file, error=ConfigError) as file:
                file.write(json.dumps({**known, **ids}).encode())

    def log(self, values: Mapping[str, float], iteration: int) -> None:
        """Add the values of an iteration to all trackers."""
        for tracker in tuple(self._trackers):
            try:
                tracker.log(dict(values), step=iteration)
            except Exception as error:
                self._leave_out(tracker, error)

    def close(self) -> None:
        """Finish the runs."""
        # Not by Accelerator.end_training, which ends the connection to the other processes as well.
        for tracker in tuple(self._trackers):
            try:
                with redirect_stdout(sys.stderr):
                    tracker.finish()
            except Exception as error:
                self._leave_out(tracker, error)

    def _leave_out(self, tracker: Any, error: Exception) -> None:
        self._trackers.remove(tracker)
        self._listener.message(f"warning: {tracker.name} failed and gets no more of this run: {error}")


def _run_id(tracker: Any) -> str:
    run = tracker.tracker
    known_as: dict[str, str] = {"wandb": "id", "trackio": "name"}
    return str(run.info.run_id if tracker.name == "mlflow" else getattr(run, known_as[tracker.name]))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings without nesting: ``augmentation.crop``; lists as JSON."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list) else value
    return flat
