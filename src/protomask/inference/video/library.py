"""PyAV, which brings FFmpeg: imported on first use, for most of the package does without."""

from __future__ import annotations

import warnings
from typing import Any

from protomask.errors import MissingExtraError

BUFFER_BYTES = 1 << 20
"""Read from a file at a time."""


class VideoWarning(UserWarning):
    """A video is not as it should be, and was used as far as it goes."""


def load_av() -> Any:
    """The module ``av``.

    Raises:
        MissingExtraError: it is not installed.

    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            "videos, cameras and streams need PyAV, whose wheels bundle FFmpeg with x264 and x265 (GPL): "
            "pip install 'protomask[video]'"
        ) from error
    return av


def any_metadata() -> dict[str, str]:
    """Arguments of ``av.open`` that let it open a file whose title is not UTF-8; from PyAV 19 on it always does."""
    return {"metadata_errors": "replace"} if int(load_av().__version__.split(".")[0]) < 19 else {}


def warn(text: str) -> None:
    """Say what is wrong with a video."""
    warnings.warn(text, VideoWarning, stacklevel=3)


def reason(error: Exception) -> str:
    """What FFmpeg says, without its number and the name of the file."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
