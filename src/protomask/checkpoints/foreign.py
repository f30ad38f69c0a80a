"""Weights files of other codebases: named tensors and the few facts beside them, never unpickling arbitrary objects."""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from protomask.checkpoints.mxnet_params import read_params
from protomask.errors import CheckpointError

_WRAPPERS = ("state_dict", "model", "blobs")
_EXPANSION = 8
"""How many times as large as their file tensors may be: it may be compressed, and tensors may share memory."""
_NUMERIC = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """What a file of another codebase holds.

    Attributes:
        tensors: by their names there, without a ``module.`` prefix.
        class_names: in the order of the labels, None where the file has none.
        config_text: of the config the model was trained with, as the file has it; None where it has none.

    """

    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None
    config_text: str | None = None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a foreign file alone, see `read_foreign`."""
    return read_foreign(path).tensors


def read_foreign(path: str | Path) -> ForeignFile:
    """Read a .pth, .pt, .pkl, .params or .safetensors file; only tensors, arrays and plain containers are unpickled.

    A ``module.`` prefix (data-parallel training) is dropped; a dict under ``state_dict``, ``model`` or ``blobs`` is
    looked into; class names and config are those of mmdetection's ``meta``.

    Raises:
        CheckpointError: the file cannot be read, or holds something else than named tensors.

    """
    path = Path(path)
    try:
        content = _READERS.get(path.suffix, _read_torch)(path)
        size = path.stat().st_size
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, the file holds more than named tensors, and loading the rest could run code: "
            f"{_refused_object(error)}"
        ) from error
    except Exception as error:  # torch.load raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a readable weights file: {type(error).__name__} {reason}") from error
    found = content
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    named = isinstance(found, dict) and all(isinstance(value, Tensor) for value in found.values())
    if not named or not found:
        raise CheckpointError(f"{path}: expected named tensors, got {type(found).__name__}")
    total = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if total > _EXPANSION * size:
        raise CheckpointError(
            f"{path}: expected tensors that the file itself holds, got {total} bytes of them in a file of {size}"
        )
    meta = content.get("meta")
    return ForeignFile(
        tensors={str(key).removeprefix("module."): value for key, value in found.items()},
        class_names=_class_names(meta) if isinstance(meta, dict) else None,
        config_text=_config_text(meta) if isinstance(meta, dict) else None,
    )


def _class_names(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Mmdetection's names: of version 2, of version 3, of its first releases."""
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, dict) else {}
    for names in (meta.get("CLASSES"), dataset.get("classes"), dataset.get("CLASSES")):
        if isinstance(names, tuple | list) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None


def _config_text(meta: Mapping[str, Any]) -> str | None:
    """Mmdetection's config: of version 2, of version 3."""
    return next((text for text in (meta.get("config"), meta.get("cfg")) if isinstance(text, str)), None)


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> Any:
    # Mapped into memory, no tensor reaches beyond the file, whatever size the pickle in it claims.
    mapped = _is_plain_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        # PyTorch 2.4 cannot allow more for one file alone.
        if "numpy" not in str(error) or not hasattr(torch.serialization, "safe_globals"):
            raise
    # Best scores in a training log are NumPy numbers, whose constructor NumPy 2 moved to another module.
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [np.dtype, *(type(np.dtype(code)) for code in _NUMERIC)]
    allowed += [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _is_plain_archive(path: Path) -> bool:
    """Whether a file is an archive as PyTorch writes it since version 1.6; checks what it would unpack to.

    Raises:
        ValueError: the archive holds more than it could, or compressed entries.

    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("expected an archive as torch.save writes it, got a compressed one; unpack it first")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("the archive claims to hold more than its own size")
    return True


def _refused_object(error: pickle.UnpicklingError) -> str:
    """What torch objects to, without its advice to load the file unsafely."""
    reason = re.search(r"(Unsupported|Trying to load)[^\n]*?(?=\.? Please use|\.?\n|$)", str(error))
    return reason[0] if reason else type(error).__name__


class _RefusedError(pickle.UnpicklingError):
    """A pickle asks for something that could run code."""


def _read_pickle(path: Path) -> Any:
    """A pickle of NumPy arrays, as tensors."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            _check_opcodes(file, size)
            file.seek(0)
            unpickler = _ArrayUnpickler(file, encoding="latin1")
            unpickler.left = size
            return _tensors_for_arrays(unpickler.load())
    except _RefusedError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(f"damaged pickle: {error}") from error


def check_pickle(path: Path) -> None:
    """Look at a .pkl file before anything that could read it is imported, which takes longer.

    Raises:
        CheckpointError: it asks for more memory than its size accounts for, or is not a pickle.

    """
    try:
        with path.open("rb") as file:
            _check_opcodes(file, path.stat().st_size)
    except (OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a readable weights file: damaged pickle: {error}") from error


def _check_opcodes(file: IO[bytes], size: int) -> None:
    """See that a pickle asks for no more memory than its own size accounts for, without running it.

    Raises:
        UnpicklingError: it does, or is not a pickle.

    """
    try:
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", _Bounded(file, size))):
            # The unpickler makes room for as many remembered objects as the highest number says.
            if "PUT" in opcode.name and int(argument or 0) > size:
                raise pickle.UnpicklingError(f"object number {argument} in a file of {size} bytes")
    except (ValueError, EOFError, OverflowError, MemoryError) as error:
        raise pickle.UnpicklingError(str(error)) from error


class _Bounded:
    """A file of which no more is asked for than it has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        if count > max(self._size, 16):
            raise pickle.UnpicklingError(f"{count} bytes in a file of {self._size}")
        return self._file.read(count)


def _tensors_for_arrays(value: Any, depth: int = 4) -> Any:
    """Arrays as tensors, no deeper than any such file nests them."""
    if isinstance(value, dict) and depth:
        return {key: _tensors_for_arrays(item, depth - 1) for key, item in value.items()}
    return value.tensor if isinstance(value, _Array) else value


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the few names that pickled arrays consist of, and gives harmless stand-ins of our own for each.

    NumPy's own constructors are not called: they trust what a pickle says about memory. What the stand-ins make is
    counted, for a few bytes can ask for the same large object over and over.
    """

    left: int
    """Bytes that may still be made: what a file holds, it holds once."""

    def spend(self, size: int) -> None:
        """Count memory that is about to be taken.

        Raises:
            UnpicklingError: the file does not account for it.

        """
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("it makes more than it holds")

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get(f"{module.replace('numpy._core', 'numpy.core')}.{name}")
        if stand_in is None:
            raise _RefusedError(f"Unsupported global: {module}.{name}")
        # A pickle may set attributes of what it is given, which must not outlive it.
        return partial(stand_in, self)

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError(f"Unsupported reference to another file: {pid!r}")


class _Dtype:
    """Stands for numpy.dtype: the kinds of plain numbers alone."""

    def __init__(self, _: _ArrayUnpickler, code: str, *__: Any) -> None:
        if code not in _NUMERIC:
            raise _RefusedError(f"Unsupported array of type {code}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


class _Array:
    """Stands for numpy.ndarray while a pickle is read."""

    tensor: Tensor

    def __init__(self, unpickler: _ArrayUnpickler, *_: Any) -> None:
        self._unpickler = unpickler

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, "F" if fortran else "C")

    def fill(self, content: str | bytes, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> None:
        self._unpickler.spend(len(content))
        array = np.frombuffer(_bytes_of(content), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
        self.tensor = torch.from_numpy(array.astype(dtype.dtype.newbyteorder("="), order="C"))


def _filled_array(
    unpickler: _ArrayUnpickler, content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str
) -> _Array:
    array = _Array(unpickler)
    array.fill(content, dtype, shape, order)
    return array


def _number(_: _ArrayUnpickler, dtype: _Dtype, content: str | bytes) -> Any:
    return np.frombuffer(_bytes_of(content[:16]), dtype.dtype, count=1)[0].item()


def _encoded(unpickler: _ArrayUnpickler, content: str, _: str = "latin1") -> bytes:
    unpickler.spend(len(content))
    return _bytes_of(content)


def _bytes_of(content: str | bytes) -> bytes:
    """Strings of Python 2 are bytes, read as text by the encoding that keeps them."""
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _ordered(unpickler: _ArrayUnpickler, items: Any = ()) -> OrderedDict[Any, Any]:
    unpickler.spend(len(items))
    return OrderedDict(items)


_STAND_INS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encoded,
    "__builtin__.bytes": lambda _: b"",  # how protocol 2 says that there are none
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": lambda unpickler, *_: _Array(unpickler),
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _filled_array,
}
_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".pkl": _read_pickle,
    ".params": read_params,
}
