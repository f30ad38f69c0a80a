"""Names of videos, cameras and streams: which is what, and how FFmpeg opens it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from protomask.errors import DataError
from protomask.images.fetch import is_url

VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mjpeg",
    ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogv", ".ts", ".vob", ".webm",
    ".wmv", ".y4m",
))  # fmt: skip
"""Endings of the files that are taken for videos."""
_PLAYLISTS = frozenset((".m3u8", ".mpd"))
_LIVE_SCHEMES = frozenset((
    "mmsh", "mmst", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "sctp", "srt", "tcp", "tls", "udp",
    "udplite", "unix",
))  # fmt: skip
_CAMERA = re.compile(r"camera:(.+)|(\d{1,3})|/dev/(video\d+)", re.ASCII)
STREAM = "stream:"
"""Before an http(s) address that is a video or stream, though its ending does not say so."""

_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
"""By `sys.platform`: FFmpeg's device format, and how it names a camera."""


class Address(NamedTuple):
    """Where a video comes from.

    Args:
        name: as frames and messages show it.
        url: as FFmpeg opens it.
        format: FFmpeg's name of the format; found out when None.
        live: whether it has no end and waits for nobody; None where opening it will tell.

    """

    name: str
    url: str
    format: str | None = None
    live: bool | None = False


def address_of(text: str | int) -> Address | None:
    """The camera or stream that a text or number stands for; None where it is neither.

    Raises:
        DataError: a camera on a system whose cameras are not known.

    """
    if isinstance(text, int):
        return camera(str(text))
    found = _CAMERA.fullmatch(text)
    if found and not (found[2] and Path(text).exists()):
        return camera(found[1] or found[2] or text)
    scheme = text.partition("://")[0].lower()
    if scheme in _LIVE_SCHEMES and "://" in text:
        return Address(_shown(text), text, live=True)
    rest = text.removeprefix(STREAM)
    if rest != text:
        return address_of(rest) or Address(_shown(rest), rest, live=None)
    if is_url(text) and Path(urlsplit(text).path).suffix.lower() in VIDEO_SUFFIXES | _PLAYLISTS:
        return web_address(text)
    return None


def web_address(url: str) -> Address:
    """A video or stream at an http(s) address."""
    return Address(_shown(url), url, live=None)


def file_address(path: Path) -> Address:
    """A video file."""
    # Not by its bare name: "a:b.mp4" would be taken for a protocol.
    return Address(str(path), f"file:{path}")


def camera(name: str) -> Address:
    """A camera by its number or name.

    Raises:
        DataError: cameras of this system are not known.

    """
    if sys.platform not in _CAMERAS:
        raise DataError(f"camera {name}: expected Linux, macOS or Windows, got {sys.platform}")
    format, pattern = _CAMERAS[sys.platform]
    number = name.removeprefix("/dev/video")
    url = pattern.format(number) if number.isdecimal() or sys.platform != "linux" else name
    return Address(f"camera:{number}", url, format=format, live=True)


def _shown(url: str) -> str:
    """An address without the password in it."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)


_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"FLV\x01"),
    (0, b"OggS"),
    (0, b"DKIF"),  # IVF
    (0, b"YUV4MPEG2"),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"\x00\x00\x01\xb3"),  # MPEG video
    (0, b"\x00\x00\x00\x01"),  # H.264 and H.265 without a container
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, WMV
    (0, b"\x06\x0e\x2b\x34"),  # MXF
    (8, b"AVI "),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
)
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
SIGNATURE_BYTES = 400
"""Beginning of a file by which `looks_like_video` decides."""


def looks_like_video(beginning: bytes) -> bool:
    """Whether the first bytes of a file are those of a video."""
    if beginning[4:8] == b"ftyp":
        return beginning[8:12] not in _STILL_BRANDS
    if beginning[:1] == b"G" and beginning[188:189] == b"G":  # MPEG transport stream: packets of 188 bytes
        return True
    return any(beginning[at : at + len(sign)] == sign for at, sign in _SIGNATURES)
