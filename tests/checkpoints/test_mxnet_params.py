from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from params_files import Dialect, array_bytes, params_bytes
from protomask.checkpoints.foreign import read_tensors
from protomask.checkpoints.mxnet_params import read_params
from protomask.errors import CheckpointError

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)
HEAD = struct.pack("<QQQ", 0x112, 0, 1)
TAIL = struct.pack("<QQ", 1, 1) + b"a"


@pytest.mark.parametrize("name", ["tiny_v0_own", "tiny_v1_own", "tiny_v2_mxnet191"])
def test_files_of_every_dialect_that_mxnet_reads(name: str, golden_dir: Path) -> None:
    tensors = read_params(golden_dir / "fcis" / f"{name}.params")
    bias = torch.linspace(-1, 1, 8)
    wanted = {
        "arg:conv1_weight": (torch.arange(54) / 8 - 3).reshape(2, 3, 3, 3),
        "arg:bn_conv1_gamma": torch.tensor([1, 0.5]),
        "arg:bn_conv1_beta": torch.tensor([0, -0.25]),
        "arg:fcis_bbox_bias": bias,
        "arg:fcis_bbox_bias_test": bias * torch.tensor([0.2, 0.2, 0.5, 0.5]).repeat(2),
        "aux:bn_conv1_moving_mean": torch.tensor([0.125, 2]),
        "aux:bn_conv1_moving_var": torch.tensor([1.0, 4]),
    }
    assert set(tensors) == set(wanted)
    for key, tensor in wanted.items():
        torch.testing.assert_close(tensors[key], tensor)


@pytest.mark.parametrize("dialect", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"])
def test_every_type_of_numbers(dialect: Dialect, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    given = {"arg:a": NUMBERS.astype(dtype), "arg:none": None, "aux:ü": np.zeros((0, 2), dtype)}
    path.write_bytes(params_bytes(given, dialect))
    found = read_tensors(path)
    assert set(found) == {"arg:a", "aux:ü"}
    np.testing.assert_array_equal(found["arg:a"].numpy(), given["arg:a"])
    assert found["arg:a"].numpy().dtype == dtype
    assert found["aux:ü"].shape == (0, 2)
    found["arg:a"] += 1  # its memory is its own


def test_a_single_number_of_the_newest_dialect(tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    path.write_bytes(params_bytes({"a": np.array(2.5, dtype=np.float32), "b": NUMBERS}, 3))
    assert float(read_params(path)["a"]) == 2.5


def array(*sides: int, kind: int = 0, content: bytes = b"") -> bytes:
    """One array in a file, with a head of its own."""
    head = struct.pack("<IiI", 0xF993FAC9, 0, len(sides)) + struct.pack(f"<{len(sides)}q", *sides)
    return HEAD + head + struct.pack("<iii", 1, 0, kind) + content + TAIL


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected 16 more bytes, the file has 0"),
    "another file": (b"PK\x03\x04" + bytes(40), "expected a file of MXNet parameters"),
    "more arrays than bytes": (struct.pack("<QQQ", 0x112, 0, 1 << 60), "expected at most 0 arrays in what is left"),
    "an array larger than the file": (array(1 << 40), "more bytes, the file has"),
    "sides that overflow": (array(1 << 62, 1 << 62), "more bytes, the file has"),
    "a negative side": (array(-1), "expected a shape without negative sides"),
    "too many dimensions": (HEAD + struct.pack("<I", 4096) + bytes(64), "expected arrays of at most 32 dimensions"),
    "unknown numbers": (array(1, kind=12, content=bytes(4)), "expected a type of numbers from 0 to 6, got 12"),
    "sparse": (HEAD + array_bytes(NUMBERS, storage=1) + TAIL, r"expected dense arrays \(storage type 0\)"),
    "a name longer than the file": (HEAD + array_bytes(NUMBERS) + struct.pack("<QQ", 1, 999), "more bytes, the file"),
    "an endless name": (HEAD + array_bytes(NUMBERS) + struct.pack("<QQ", 1, 1 << 50), "expected a name of at most"),
    "no names": (params_bytes({"a": NUMBERS}, names=[]), "expected 1 names, one for each array, got 0"),
    "one name twice": (params_bytes({"a": NUMBERS, "b": NUMBERS}, names=["a", "a"]), "different names, got 'a' twice"),
    "names that are not text": (HEAD + array_bytes(NUMBERS) + struct.pack("<QQ", 1, 1) + b"\xff", "codec"),
    "something behind": (params_bytes({"a": NUMBERS}) + b"x", "expected the file to end after the names, got 1 more"),
    "nothing in it": (params_bytes({}), "expected named tensors"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_say_so(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.params"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"broken\.params: .*{message}"):
        read_tensors(path)


@pytest.mark.parametrize("dialect", [0, 1, 2, 3])
def test_no_part_of_a_file_is_read_as_a_whole_one(dialect: Any, tmp_path: Path) -> None:
    content = params_bytes({"arg:a": NUMBERS, "aux:b": NUMBERS[0]}, dialect)
    path = tmp_path / "cut.params"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_tensors(path)
