"""Weights, pickles, exported files and images that were damaged at random: an error of ours, soon, in little memory.

PROTOMASK_FUZZ_EXAMPLES says how many cases each test tries, 100 by default.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import protomask
from onnx_files import CANDIDATES, DETECTIONS
from params_files import Dialect, params_bytes
from protomask.checkpoints.foreign import read_foreign
from protomask.checkpoints.io import load_weights
from protomask.errors import ProtomaskError
from protomask.images.decode import read_image
from protomask.runtimes.info import ExportInfo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does"),
]
SECONDS = 2.0
MEBIBYTES = 512
many = settings(
    max_examples=int(os.environ.get("PROTOMASK_FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=10)
    | st.sampled_from([10**6, 10**9, 10**400, -1, 0, 1e308, "", "\ud800", "yolact", [], {}]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=10,
)  # fmt: skip


@contextmanager
def within_bounds() -> Iterator[None]:
    """Errors of ours alone, in so much time and memory."""
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with suppress(ProtomaskError):
        yield
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEBIBYTES << 10


@st.composite
def changed_json(draw: st.DrawFn, content: Any) -> str:
    """JSON with some values, names or characters changed."""
    changed = copy.deepcopy(content)
    for _ in range(draw(st.integers(0, 3))):
        place = changed
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) or not isinstance(place[key], dict | list) or not place[key]:
                if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
                    del place[key]
                else:
                    place[key] = draw(JSON)
                break
            place = place[key]
    text = json.dumps(changed)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=3)) + text[at + draw(st.integers(0, 3)) :]
    return text


@st.composite
def changed_bytes(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """A file with some bytes replaced, added or missing."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
        elif kind == 1:
            size = draw(st.sampled_from([1, 2, 4, 8]))
            order: Any = draw(st.sampled_from(["little", "big"]))
            content[at : at + size] = draw(st.integers(0, 256**size - 1)).to_bytes(size, order)
        elif kind == 2:
            del content[at : at + draw(st.integers(1, 20))]
        else:
            del content[at:]
    return bytes(content)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], bytes, Path]:
    """The header of the shipped weights, what is in it, the tensors, and a file to write to."""
    raw = (Path(protomask.__file__).parent / "weights" / "yolact_nano.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    outer = json.loads(raw[8 : 8 + size])
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    load_weights(Path(protomask.__file__).parent / "weights" / "yolact_nano.safetensors")  # imports and warms up
    return outer, json.loads(outer["__metadata__"]["protomask"]), raw[8 + size :], path


@many
@given(data=st.data())
def test_headers_of_weights(weights: tuple[dict[str, Any], dict[str, Any], bytes, Path], data: st.DataObject) -> None:
    outer, inner, tensors, path = weights
    text = data.draw(changed_json(inner))
    head = json.dumps({**outer, "__metadata__": {"protomask": text}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + tensors)
    with within_bounds():
        load_weights(path)


@many
@given(data=st.data())
def test_tables_of_weights(weights: tuple[dict[str, Any], dict[str, Any], bytes, Path], data: st.DataObject) -> None:
    outer, _, tensors, path = weights
    head = data.draw(changed_json(outer)).encode("utf-8", "replace")
    size = len(head) if data.draw(st.integers(0, 9)) else data.draw(st.integers(0, 2**64 - 1))
    path.write_bytes(struct.pack("<Q", size) + head + tensors)
    with within_bounds():
        load_weights(path)


def small_pickles() -> list[bytes]:
    arrays = {"a.weight": np.ones((2, 3), np.float32), "b": np.zeros(0), "c": np.float64(2)}
    return [pickle.dumps(arrays, protocol) for protocol in range(6)] + [pickle.dumps({"model": arrays}, 2)]


OPCODES = [
    b"]", b"}", b")", b"(", b"0", b"1", b"2", b"N", b"t", b"l", b"d", b"u", b"s", b"a", b"e", b"R", b"b", b"o",
    b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x8f", b"\x90", b"\x91", b"\x94", b"\x93", b"\x97", b"\x98",
    b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"K\x01", b"J\xff\xff\xff\x7f", b"r\xff\xff\x00\x00", b"p9999\n",
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"U\x02f4", b"cos\nsystem\n",
    b"I99999\n", b"X\x01\x00\x00\x00a",
]  # fmt: skip
made_up = st.lists(st.sampled_from(OPCODES), max_size=40).map(lambda codes: b"\x80\x04" + b"".join(codes) + b".")


@many
@given(content=changed_bytes(small_pickles()) | made_up)
def test_pickles(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.pkl"
    path.write_bytes(content)
    with within_bounds():
        read_foreign(path)


def small_params() -> list[bytes]:
    arrays: dict[str, Any] = {"arg:a": np.ones((2, 3), np.float32), "aux:b": np.zeros(4, np.float16), "arg:none": None}
    dialects: tuple[Dialect, ...] = (0, 1, 2, 3)
    return [params_bytes(arrays, dialect) for dialect in dialects]


@many
@given(content=changed_bytes(small_params()))
def test_params_of_mxnet(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.params"
    path.write_bytes(content)
    with within_bounds():
        read_foreign(path)


def small_archives() -> list[bytes]:
    contents = []
    for legacy in (False, True):
        file = io.BytesIO()
        state = {"state_dict": {"a.weight": torch.ones(2, 3), "b": torch.zeros(4)}, "meta": {"CLASSES": ("a",)}}
        torch.save(state, file, _use_new_zipfile_serialization=not legacy)
        contents.append(file.getvalue())
    return contents


@many
@given(content=changed_bytes(small_archives()))
def test_archives_of_torch(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.pth"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    with within_bounds():
        read_foreign(path)


@many
@given(text=st.one_of([changed_json(json.loads(info.to_json())) for info in (CANDIDATES, DETECTIONS)]))
def test_metadata_of_exported_files(text: str) -> None:
    with within_bounds():
        info = ExportInfo.from_json(text, "a.onnx")
        if info.given_size is not None:
            info.input.prepare(np.zeros((4, 4, 3), np.uint8))


def small_images() -> list[bytes]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    contents = []
    kinds = [("PNG", mode) for mode in ("RGB", "P", "1", "RGBA")] + [("TIFF", "RGB"), ("TIFF", "F"), ("GIF", "P")]
    kinds += [(kind, "RGB") for kind in ("JPEG", "BMP", "PPM", "TGA", "WEBP", "JPEG2000")]
    for kind, mode in kinds:
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, format=kind)
        contents.append(file.getvalue())
    return contents


@many
@given(content=changed_bytes(small_images()) | st.binary(max_size=100))
def test_images(content: bytes) -> None:
    with within_bounds():
        read_image(content)
