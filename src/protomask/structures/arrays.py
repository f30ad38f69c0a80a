"""What `Instances` and `Target` do alike with their arrays: checks, and the many ways to choose rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protomask.errors import DataError


def check_array(name: str, array: Any, shape: tuple[int | None, ...], dtype: str) -> None:
    """Check a NumPy array or a PyTorch tensor.

    Args:
        name: for the message.
        array: to be checked.
        shape: expected; None stands for any size.
        dtype: expected, by name: "float32", "int64", "bool".

    Raises:
        DataError: another shape or dtype.

    """
    own_shape = tuple(getattr(array, "shape", ()))
    own_dtype = str(getattr(array, "dtype", type(array).__name__)).rpartition(".")[2]
    matches = len(own_shape) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, own_shape, strict=True)
    )
    if not matches or own_dtype != dtype:
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise DataError(f"{name}: expected {dtype} of shape ({wanted}), got {own_dtype} of shape {own_shape}")


def as_array(value: Any) -> NDArray[Any]:
    """A NumPy array of an array, a tensor on any device, or a sequence."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def rows_of(index: Any, length: int) -> NDArray[np.int64]:
    """The rows that an index means, which always keeps the instance dimension.

    Args:
        index: whole number, slice, sequence or array of whole numbers, or of ``length`` truth values.
        length: number of rows.

    Returns:
        (K,) int64, not negative.

    Raises:
        IndexError: a row that does not exist, another number of truth values, or no index at all.

    """
    if isinstance(index, slice):
        return np.ascontiguousarray(np.arange(length)[index])  # PyTorch takes no negative strides
    chosen = as_array(index).reshape(-1)
    if chosen.dtype == np.bool_:
        if len(chosen) != length:
            raise IndexError(f"expected {length} truth values for {length} instances, got {len(chosen)}")
        return np.flatnonzero(chosen)
    if not chosen.size:
        return np.zeros(0, dtype=np.int64)
    if chosen.dtype.kind not in "iu":
        raise IndexError(f"expected whole numbers, truth values, a slice or a class name, got {index!r}")
    rows: NDArray[np.int64] = chosen.astype(np.int64)
    if rows.min() < -length or rows.max() >= length:
        wrong = next(row for row in rows.tolist() if not -length <= row < length)
        raise IndexError(f"instance {wrong} of {length}")
    return np.where(rows < 0, rows + length, rows)


def frozen(array: Any) -> NDArray[Any]:
    """A copy that cannot be written to."""
    copy = np.array(as_array(array))
    copy.flags.writeable = False
    return copy


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
