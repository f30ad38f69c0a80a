"""Real-time instance segmentation: YOLACT, Mask R-CNN and their families, from an image to masks in any runtime.

>>> import protomask
>>> model = protomask.load()  # the model that ships with the package
>>> found = model.predict("street.jpg")
>>> found.boxes, found.labels, found.scores, found.masks
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from protomask.errors import CheckpointError, ConfigError, DataError, ExportError, MissingExtraError, ProtomaskError

if TYPE_CHECKING:
    from protomask.api import build, check, evaluate, export, list_models, load, train, verify
    from protomask.calibrating.calibrate import calibrate
    from protomask.detection.options import PredictOptions
    from protomask.engine.config import TrainConfig
    from protomask.evaluation.tables import CocoMetrics
    from protomask.explaining.explain import explain
    from protomask.explaining.results import Explanation
    from protomask.inference.predictor import Predictor
    from protomask.inference.video.options import VideoOptions
    from protomask.structures.frame import Frame
    from protomask.structures.instance import Instance
    from protomask.structures.instances import Instances
    from protomask.structures.target import Target

__version__ = "0.2.0"

# Imported on first use: `import protomask` and the command line's --help wait for nothing.
_LAZY = {
    "CocoMetrics": "protomask.evaluation.tables",
    "Frame": "protomask.structures.frame",
    "Instance": "protomask.structures.instance",
    "Instances": "protomask.structures.instances",
    "PredictOptions": "protomask.detection.options",
    "Explanation": "protomask.explaining.results",
    "Predictor": "protomask.inference.predictor",
    "Target": "protomask.structures.target",
    "TrainConfig": "protomask.engine.config",
    "VideoOptions": "protomask.inference.video.options",
    "calibrate": "protomask.calibrating.calibrate",
    "explain": "protomask.explaining.explain",
    **dict.fromkeys(
        ("build", "check", "evaluate", "export", "list_models", "load", "train", "verify"), "protomask.api"
    ),
}

__all__ = [
    "CheckpointError",
    "CocoMetrics",
    "ConfigError",
    "DataError",
    "Explanation",
    "ExportError",
    "Frame",
    "Instance",
    "Instances",
    "MissingExtraError",
    "PredictOptions",
    "Predictor",
    "ProtomaskError",
    "Target",
    "TrainConfig",
    "VideoOptions",
    "__version__",
    "build",
    "calibrate",
    "check",
    "evaluate",
    "explain",
    "export",
    "list_models",
    "load",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'protomask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
