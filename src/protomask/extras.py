"""The extra that brings the network half: whether it is there, and what to say where it is not."""

from __future__ import annotations

from importlib.util import find_spec

from protomask.errors import MissingExtraError


def require_torch(what: str) -> None:
    """Check that the network half is there, without importing it.

    Args:
        what: needs it, for the message.

    Raises:
        MissingExtraError: PyTorch is not installed; the message says which extra brings it.

    """
    if find_spec("torch") is None:
        raise MissingExtraError(_message(what, "torch"))


class needing_torch:
    """Turns the import errors of its block into one that says which extra is missing.

    Args:
        what: needs the network half, for the message.

    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("protomask"):
            raise MissingExtraError(_message(self.what, str(error.name))) from error


def _message(what: str, package: str) -> str:
    return f"{what} needs the extra torch ({package} is not installed): pip install 'protomask[torch]'"
