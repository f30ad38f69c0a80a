"""Files of parameters as MXNet writes them (`.params`): named arrays in three dialects, read byte by byte.

Nothing in such a file is code. Every length is compared with what is left of the file before memory is taken.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_UNKNOWN_SHAPE = 0xFFFFFFFF
_DENSE = 0
_DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
_MOST_DIMENSIONS = 32
_LONGEST_NAME = 4096


def read_params(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by their names there, ``arg:NAME`` and ``aux:NAME``; absent arrays are left out.

    Raises:
        ValueError: no such file, a sparse array, or a damaged one.

    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size)
        magic, _ = reader.numbers("<QQ")
        if magic != _LIST_MAGIC:
            raise ValueError(f"expected a file of MXNet parameters, which begins with {_LIST_MAGIC:#x}, got {magic:#x}")
        arrays = [_read_array(reader) for _ in range(reader.count("arrays", least_bytes=4))]
        names = [_read_name(reader) for _ in range(reader.count("names", least_bytes=8))]
    if len(names) != len(arrays):
        raise ValueError(f"expected {len(arrays)} names, one for each array, got {len(names)}")
    if len(set(names)) != len(names):
        raise ValueError(
            f"expected different names, got {next(name for name in names if names.count(name) > 1)!r} twice"
        )
    if reader.left:
        raise ValueError(f"expected the file to end after the names, got {reader.left} more bytes")
    return {name: array for name, array in zip(names, arrays, strict=True) if array is not None}


class _Reader:
    """A file of which no more is asked for than it has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.left = size

    def bytes(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError(f"expected {count} more bytes, the file has {self.left}")
        content = self._file.read(count)
        if len(content) != count:
            raise ValueError("the file became shorter while it was read")
        self.left -= count
        return content

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def count(self, what: str, *, least_bytes: int) -> int:
        (count,) = self.numbers("<Q")
        if count * least_bytes > self.left:
            raise ValueError(f"expected at most {self.left // least_bytes} {what} in what is left of it, got {count}")
        return count


def _read_name(reader: _Reader) -> str:
    (length,) = reader.numbers("<Q")
    if length > _LONGEST_NAME:
        raise ValueError(f"expected a name of at most {_LONGEST_NAME} bytes, got {length}")
    return reader.bytes(length).decode("utf-8")


def _read_array(reader: _Reader) -> Tensor | None:
    """One array; None where there is only its name."""
    (magic,) = reader.numbers("<I")
    if magic in (_V2, _V3):
        (storage,) = reader.numbers("<i")
        if storage != _DENSE:
            raise ValueError(f"expected dense arrays (storage type {_DENSE}), got storage type {storage}")
    # The oldest dialect has no magic number, but begins with the number of dimensions.
    dimensions = reader.numbers("<I")[0] if magic in (_V1, _V2, _V3) else magic
    absent = _UNKNOWN_SHAPE if magic == _V3 else 0
    if dimensions == absent:
        return None
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"expected arrays of at most {_MOST_DIMENSIONS} dimensions, got {dimensions}")
    shape = reader.numbers(f"<{dimensions}{'q' if magic in (_V1, _V2, _V3) else 'I'}")
    _, _, kind = reader.numbers("<iii")  # device type and number say where the array was, which means nothing here
    if kind not in _DTYPES:
        raise ValueError(f"expected a type of numbers from 0 to {max(_DTYPES)}, got {kind}")
    if any(side < 0 for side in shape):
        raise ValueError(f"expected a shape without negative sides, got {shape}")
    dtype = np.dtype(_DTYPES[kind])
    content = reader.bytes(prod(shape) * dtype.itemsize)
    return torch.from_numpy(np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("=")))
