"""Real-time instance segmentation: YOLACT, Mask R-CNN and their families in one small PyTorch package.

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
    from protomask.inference.predictor import Predictor, build, load
    from protomask.models.zoo import list_models
    from protomask.structures.instances import Instances, Target

__version__ = "0.1.0"

# Imported on first use: `import protomask` and the command line's --help do not wait for torch.
_LAZY = {
    "Instances": "protomask.structures.instances",
    "Predictor": "protomask.inference.predictor",
    "Target": "protomask.structures.instances",
    "build": "protomask.inference.predictor",
    "list_models": "protomask.models.zoo",
    "load": "protomask.inference.predictor",
}

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExportError",
    "Instances",
    "MissingExtraError",
    "Predictor",
    "ProtomaskError",
    "Target",
    "__version__",
    "build",
    "list_models",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'protomask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
