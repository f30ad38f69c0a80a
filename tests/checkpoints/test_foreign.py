from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from protomask.checkpoints.foreign import ForeignFile, read_foreign, read_tensors
from protomask.errors import CheckpointError

ARRAYS: dict[str, np.ndarray] = {
    "float32": np.arange(6, dtype="f4").reshape(2, 3),
    "float64": np.array([0.5, -2.0]),
    "float16": np.array([[1.5]], dtype="f2"),
    "int64": np.array(7),
    "int32": np.array([1, -1], dtype="i4"),
    "uint8": np.array([255, 0], dtype="u1"),
    "bool": np.array([True, False]),
    "big endian": np.array([1.0, 2.0], dtype=">f4"),
    "Fortran order": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "strided": np.arange(6, dtype="f4")[::2],
    "empty": np.zeros((0, 4), dtype="f4"),
}


def write_pickle(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("wrapper", ["model", "blobs", None])
def test_pickled_arrays_become_tensors(protocol: int, wrapper: str | None, tmp_path: Path) -> None:
    content: Any = OrderedDict(ARRAYS)
    if wrapper:
        content = {wrapper: content, "__author__": "somebody", "best": np.float64(0.5)}
    tensors = read_tensors(write_pickle(tmp_path / "model_final.pkl", content, protocol))
    assert list(tensors) == list(ARRAYS)
    for key, array in ARRAYS.items():
        expected = torch.from_numpy(
            np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(array.shape)
        )
        assert tensors[key].dtype == expected.dtype, key
        assert tensors[key].shape == expected.shape, key
        assert torch.equal(tensors[key], expected), key
        tensors[key].zero_()  # memory of its own


def test_pickles_of_old_numpy_and_python_2(tmp_path: Path) -> None:
    content = pickle.dumps({"a": np.array([1.0, 200.0], dtype="f4")}, 2)
    assert b"numpy._core" in content or b"numpy.core" in content
    old = tmp_path / "old.pkl"
    old.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    assert read_tensors(old)["a"].tolist() == [1, 200]
    # As Python 2 wrote it: its strings are bytes (opcode U).
    array = np.array([1.0, 200.0], dtype="<f4")
    python_2 = (
        b"\x80\x02}U\x05modelcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + array.tobytes() + b"tbs."
    )
    old.write_bytes(python_2)
    assert read_tensors(old)["model"].tolist() == [1, 200]


class Calls:
    """Unpickled without care, it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    malicious = {"model": {"a": np.zeros(1)}, "code": Calls(os.system, f"touch {trace}")}
    path = write_pickle(tmp_path / "model.pkl", malicious, protocol)
    with pytest.raises(CheckpointError, match=r"model\.pkl: refused, .* could run code: .*system") as caught:
        read_foreign(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


REFUSED: dict[str, tuple[Any, str]] = {
    "builtin": (Calls(eval, "1"), r"builtins\.eval"),
    "class of ours": (CheckpointError("x"), r"protomask\.errors\.CheckpointError"),
    "objects": (np.array([{}, None]), "array of type O8"),
    "records": (np.zeros(2, dtype=[("a", "f4")]), "array of type V4"),
    "text": (np.array(["a"]), "array of type U1"),
    "tensor": (torch.zeros(1), r"torch\._utils\._rebuild_tensor_v2"),
    "numpy function": (Calls(np.load, "x.npy"), r"numpy(\.\w+)*\.load"),
}


@pytest.mark.parametrize(("value", "named"), REFUSED.values(), ids=REFUSED)
def test_anything_but_arrays_of_numbers_is_refused_by_name(value: Any, named: str, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "model.pkl", {"model": {"a": value}})
    with pytest.raises(CheckpointError, match=rf"model\.pkl: refused, .*Unsupported .*{named}"):
        read_foreign(path)


def test_a_pickle_cannot_change_what_reads_it(tmp_path: Path) -> None:
    # BUILD on a function sets its attributes: here on the one for numpy.dtype.
    attack = b"\x80\x02cnumpy\ndtype\n(N}U\x04codeU\x01xst" + b"b."
    path = tmp_path / "attack.pkl"
    path.write_bytes(attack)
    with pytest.raises(CheckpointError):
        read_foreign(path)
    assert read_tensors(write_pickle(tmp_path / "good.pkl", {"a": np.ones(1)}))["a"].tolist() == [1]


def one_array(**changes: Any) -> bytes:
    """A pickle whose array has a state other than the one NumPy writes."""

    class Odd:
        def __reduce__(self) -> tuple[Any, ...]:
            array = np.zeros(4, dtype="f4")
            reduced: Any = array.__reduce__()
            function, arguments, state = reduced
            fields = dict(zip(("version", "shape", "dtype", "fortran", "content"), state, strict=True)) | changes
            return function, arguments, tuple(fields.values())

    return pickle.dumps({"a": Odd()}, 4)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a readable weights file: ValueError damaged pickle"),
    "text": (b"hello", "not a readable weights file: ValueError damaged pickle"),
    "truncated": (pickle.dumps({"a": np.ones(100)}, 4)[:-50], "not a readable weights file: ValueError damaged pickle"),
    "too few numbers": (one_array(shape=(5,)), "not a readable weights file: ValueError"),
    "too many dimensions": (one_array(shape=(1,) * 99), "not a readable weights file: ValueError"),
    "no content": (one_array(content=None), "not a readable weights file: TypeError"),
    "a list": (pickle.dumps([np.ones(1)]), "expected named tensors, got list"),
    "numbers": (pickle.dumps({"a": 1}), "expected named tensors, got dict"),
    "nothing": (pickle.dumps({}), "expected named tensors, got dict"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_pickles_say_so(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.pkl: {message}"):
        read_foreign(path)


METAS: dict[str, tuple[dict[str, Any], tuple[str, ...] | None, str | None]] = {
    "version 2": (
        {"CLASSES": ("cat", "dog"), "config": "style='caffe'", "epoch": 12, "seed": None, "lr": [0.02], "env": "x"},
        ("cat", "dog"),
        "style='caffe'",
    ),
    "version 3": (
        {"dataset_meta": {"classes": ("cat",), "palette": [(220, 20, 60)]}, "cfg": "style='pytorch'"},
        ("cat",),
        "style='pytorch'",
    ),
    "early version 3": ({"dataset_meta": {"CLASSES": ["cat"], "PALETTE": None}}, ("cat",), None),
    "NumPy numbers": (
        {"CLASSES": ("cat",), "hook_msgs": {"best": np.float64(0.5), "score": np.float32(0.25), "iter": np.int64(3)}},
        ("cat",),
        None,
    ),
    "neither": ({"epoch": 3, "CLASSES": None, "config": {"a": 1}}, None, None),
    "one string": ({"CLASSES": "cat"}, None, None),
}


@pytest.mark.parametrize(("meta", "class_names", "config_text"), METAS.values(), ids=METAS)
@pytest.mark.parametrize("zipped", [True, False])
def test_mmdetection_meta(
    meta: dict[str, Any], class_names: tuple[str, ...] | None, config_text: str | None, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "epoch_12.pth"
    content = {"meta": meta, "state_dict": OrderedDict({"module.a.weight": torch.ones(2)})}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    file = read_foreign(path)
    assert (file.class_names, file.config_text) == (class_names, config_text)
    assert {key: value.tolist() for key, value in file.tensors.items()} == {"a.weight": [1, 1]}


def test_numpy_numbers_of_old_numpy(tmp_path: Path) -> None:
    path = tmp_path / "epoch_12.pth"
    content = {"meta": {"best": np.float64(0.5)}, "state_dict": {"a": torch.ones(1)}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    assert list(read_foreign(path).tensors) == ["a"]


def test_numpy_numbers_open_the_door_for_nothing_else(tmp_path: Path) -> None:
    path, trace = tmp_path / "epoch_12.pth", tmp_path / "executed"
    meta = {"best": np.float64(0.5), "code": Calls(os.mkdir, str(trace))}
    torch.save({"meta": meta, "state_dict": {"a": torch.ones(1)}}, path)
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(CheckpointError, match=r"refused, .* could run code: .*mkdir"):
        read_foreign(path)
    assert not trace.exists()
    assert set(torch.serialization.get_safe_globals()) == before


def test_files_without_meta(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pth")
    file = read_foreign(tmp_path / "plain.pth")
    assert file == ForeignFile(tensors=file.tensors)


def test_wrapped_and_prefixed_tensors_are_found(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"epoch": 3, "state_dict": {"module.a.weight": torch.ones(2)}}, path)
    assert read_tensors(path)["a.weight"].tolist() == [1, 1]
    torch.save({"model": {"module.b": torch.ones(1)}}, path)
    assert list(read_tensors(path)) == ["b"]
    save_file({"module.c": torch.ones(1)}, tmp_path / "run.safetensors")
    assert list(read_tensors(tmp_path / "run.safetensors")) == ["c"]
