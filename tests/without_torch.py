"""Runs the command line, or Python code after ``-c``, as where PyTorch and what comes with it are not installed."""

from __future__ import annotations

import sys
from typing import Any

NETWORK_HALF = ("torch", "torchvision", "pycocotools", "safetensors", "accelerate", "faster_coco_eval", "supervision",
                "tensorboard")  # fmt: skip
"""Packages that the light half of the package does without."""


class Without:
    """A finder of modules that finds all but some packages.

    Args:
        finder: of `sys.meta_path`.
        names: packages that it shall not find.

    """

    def __init__(self, finder: Any, names: tuple[str, ...]) -> None:
        self._finder = finder
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._names:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def hide(*names: str) -> None:
    """Make packages that were not imported yet look as if they were not installed."""
    early = [name for name in names if name in sys.modules]
    if early:
        raise RuntimeError(f"imported already: {', '.join(early)}")
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]


if __name__ == "__main__":
    hide(*NETWORK_HALF)
    if sys.argv[1] == "-c":
        exec(sys.argv[2], {})
        sys.exit(0)
    from protomask.cli.main import main

    sys.exit(main(sys.argv[1:]))
