"""How videos are written: codecs and their settings, and what is taken over from a source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from protomask.errors import ConfigError
from protomask.inference.video.library import any_metadata, load_av
from protomask.settings import AtLeast, Settings

CodecName = Literal["h264", "hevc", "vp9", "av1"]


@dataclass(frozen=True, kw_only=True)
class VideoFileOptions(Settings):
    """How annotated videos are written.

    Attributes:
        video_codec: of written videos; h264 plays everywhere, vp9 makes WebM files, hevc and av1 make the smallest.
        bit_rate: of written videos, in bits per second; auto keeps the quality constant, source takes the bit rate of
            the video that is read.
        keep_audio: copy the sound of the video that is read.

    Raises:
        ConfigError: a value is out of range or of another type; the message names it.

    """

    video_codec: CodecName = "h264"
    bit_rate: Literal["auto", "source"] | Annotated[int, AtLeast(1000)] = "auto"
    keep_audio: bool = False


class Codec(NamedTuple):
    """What FFmpeg is asked for.

    Args:
        encoders: names in FFmpeg; the first one that is there is taken.
        suffix: of the files.
        options: of the encoder. No frame refers to a later one: the file can be continued after any frame.
        quality: its options for a constant quality.
        tag: of the stream in the container, where FFmpeg's own choice is not played everywhere.

    """

    encoders: tuple[str, ...]
    suffix: str
    options: dict[str, str]
    quality: dict[str, str]
    tag: str | None = None


CODECS: dict[CodecName, Codec] = {
    "h264": Codec(("libx264", "libopenh264"), ".mp4", {"preset": "veryfast", "bf": "0"}, {"crf": "23"}),
    "hevc": Codec(
        ("libx265",), ".mp4", {"preset": "veryfast", "x265-params": "bframes=0:log-level=none"}, {"crf": "26"}, "hvc1"
    ),
    "vp9": Codec(
        ("libvpx-vp9",), ".webm",
        {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "lag-in-frames": "0", "auto-alt-ref": "0"},
        {"crf": "33"},
    ),
    "av1": Codec(("libsvtav1",), ".mp4", {"preset": "11", "svtav1-params": "pred-struct=1"}, {"crf": "35"}),
}  # fmt: skip

CONTAINER_OPTIONS: dict[str, dict[str, str]] = {
    # One fragment after another, each playable when it is written; at the end the index of an ordinary file.
    ".mp4": {
        "movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000",
        "flush_packets": "1",
    },
    ".webm": {"cluster_time_limit": "1000", "flush_packets": "1"},
}  # fmt: skip
FORMATS = {".mp4": "mp4", ".webm": "webm"}
USUAL_BASE = Fraction(1, 90_000)
"""Ticks of written videos where the source says nothing."""
_COARSEST_BASE = Fraction(1, 1000)
_BT709, _LIMITED = 1, 1  # numbers of ITU-T H.273, which all formats share
KEY_SECONDS = 2
"""Between frames that refer to no other one, to which a player can jump."""


class SourceInfo(NamedTuple):
    """What of a video file is taken over into what is written about it.

    Args:
        rate: frames per second on average.
        base: length of a tick of its clock, seconds.
        bit_rate: bits per second of its pictures; None where the file does not say.
        aspect: width of a pixel by its height.

    """

    rate: Fraction = Fraction(25)
    base: Fraction = USUAL_BASE
    bit_rate: int | None = None
    aspect: Fraction | None = None


def source_info(source: str) -> SourceInfo:
    """What is known of a source; the usual values where it is not a video file."""
    av = load_av()
    path = Path(source)
    try:
        if not path.is_file():
            return SourceInfo()
        with av.open(f"file:{path}", **any_metadata()) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            base = stream.time_base if stream.time_base and stream.time_base <= _COARSEST_BASE else USUAL_BASE
            bit_rate = stream.bit_rate or (None if container.streams.audio else container.bit_rate) or None
            return SourceInfo(Fraction(rate), base, bit_rate, stream.sample_aspect_ratio or None)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return SourceInfo()


def encoder_of(name: CodecName) -> str:
    """FFmpeg's encoder for a codec.

    Raises:
        ConfigError: this build of PyAV has none.

    """
    available = load_av().codecs_available
    for encoder in CODECS[name].encoders:
        if encoder in available:
            return encoder
    others = [other for other, codec in CODECS.items() if any(encoder in available for encoder in codec.encoders)]
    raise ConfigError(
        f"video_codec: expected one that this build of PyAV can write ({', '.join(others) or 'none'}), got {name!r}"
    )


def add_pictures(
    container: Any, size: tuple[int, int], info: SourceInfo, options: VideoFileOptions, *, live: bool
) -> Any:
    """A stream of pictures in a container that is written.

    Args:
        container: of PyAV.
        size: even (H, W).
        info: of the source.
        options: codec and bit rate.
        live: write each frame at once; a little less can be saved then.

    """
    codec = CODECS[options.video_codec]
    os.environ.setdefault("SVT_LOG", "1")  # of the encoder for AV1, which else prints its settings
    encoder = encoder_of(options.video_codec)
    wanted = info.bit_rate if options.bit_rate == "source" else options.bit_rate
    bits = wanted if isinstance(wanted, int) else None
    settings = dict(codec.options) if encoder == codec.encoders[0] else {}
    if encoder == codec.encoders[0] and bits is None:
        settings |= codec.quality
    if live and encoder in ("libx264", "libx265"):
        settings["tune"] = "zerolatency"
    stream = container.add_stream(encoder, rate=info.rate, options=settings)
    stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
    context = stream.codec_context
    context.time_base = info.base
    context.gop_size = max(1, round(KEY_SECONDS * info.rate))
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    context.thread_count = 0
    if bits is not None:
        context.bit_rate = bits
    elif encoder == "libvpx-vp9":
        context.bit_rate = 0
    if info.aspect is not None:
        context.sample_aspect_ratio = info.aspect
    if codec.tag is not None:
        context.codec_tag = codec.tag
    return stream
