"""Writes files of MXNet parameters, in every dialect."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Dialect = Literal[0, 1, 2, 3]
_KINDS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def params_bytes(
    arrays: Mapping[str, NDArray[Any] | None], dialect: Dialect = 2, *, names: list[str] | None = None
) -> bytes:
    """The content of a file; None is an array that is not there."""
    listed = list(arrays) if names is None else names
    content = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(
        array_bytes(one, dialect) for one in arrays.values()
    )
    encoded = [name.encode() for name in listed]
    return content + struct.pack("<Q", len(encoded)) + b"".join(struct.pack("<Q", len(name)) + name for name in encoded)


def array_bytes(array: NDArray[Any] | None, dialect: Dialect = 2, *, storage: int = 0) -> bytes:
    """One array, as if it had been on a GPU."""
    head = {0: b"", 1: struct.pack("<I", 0xF993FAC8), 2: struct.pack("<Ii", 0xF993FAC9, storage),
            3: struct.pack("<Ii", 0xF993FACA, storage)}[dialect]  # fmt: skip
    if array is None:
        return head + struct.pack("<I", 0xFFFFFFFF if dialect == 3 else 0)
    sides = struct.pack(f"<I{array.ndim}{'q' if dialect else 'I'}", array.ndim, *array.shape)
    return head + sides + struct.pack("<iii", 2, 3, _KINDS[array.dtype.name]) + np.ascontiguousarray(array).tobytes()
