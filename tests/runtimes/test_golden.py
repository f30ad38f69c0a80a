from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protomask.errors import CheckpointError
from protomask.runtimes.golden import MOST_VALUES, Expected, Golden
from protomask.runtimes.info import ExportInfo

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def golden(**outputs: Any) -> Golden:
    return Golden.of(IMAGE, {name: np.asarray(values) for name, values in outputs.items()})


def test_what_is_stored_comes_back() -> None:
    stored = golden(scores=np.array([0.5, 0.25], dtype=np.float32), labels=np.array([3, 1]), none=np.zeros((0, 4)))
    again = Golden.from_json(stored.to_json(), "a.onnx")
    np.testing.assert_array_equal(again.image, IMAGE)
    assert (again.tolerance, again.source, list(again.outputs)) == (1e-3, "pytorch", ["scores", "labels", "none"])
    for name, one in stored.outputs.items():
        assert again.outputs[name].shape == one.shape
        np.testing.assert_array_equal(again.outputs[name].places, one.places)
        np.testing.assert_array_equal(again.outputs[name].values, one.values)


def test_other_languages_find_what_the_documentation_says() -> None:
    content = json.loads(golden(scores=np.array([[0.5, 0.25]], dtype=np.float32)).to_json())
    assert set(content) == {"version", "source", "tolerance", "outputs", "image"}
    one = content["outputs"]["scores"]
    assert one["shape"] == [1, 2]
    assert b64decode(one["places"]) == bytes([0, 0, 0, 0, 1, 0, 0, 0])
    assert b64decode(one["values"]) == np.array([0.5, 0.25], dtype="<f4").tobytes()
    assert b64decode(content["image"]).startswith(b"\x89PNG")


def test_large_outputs_keep_what_is_not_zero_first() -> None:
    masks = np.zeros((20, 50, 50), dtype=np.float32)
    masks[3, 10:20, 5:10] = RNG.random((10, 5)) + 0.1
    few = Expected.of(masks)
    assert len(few.places) == len(few.values) == MOST_VALUES
    assert np.count_nonzero(few.values) == 50
    full = Expected.of(masks + 1)
    assert len(full.places) == MOST_VALUES
    assert full.places[0] < 50 < 49_900 < full.places[-1]
    assert (np.diff(full.places) > 0).all()


def test_detections_that_score_alike_may_change_places() -> None:
    outputs = {
        "boxes": RNG.random((5, 4)).astype(np.float32),
        "class_scores": np.array([0.9, 0.5, 0.500004, 0.2, 0.0], dtype=np.float32),
    }
    stored = Golden.of(IMAGE, outputs).outputs
    swapped, wrong = outputs["boxes"][[0, 2, 1, 3, 4]], outputs["boxes"][[0, 1, 2, 4, 3]]
    assert stored["boxes"].compare(swapped, 1e-3)[1]
    assert not stored["boxes"].compare(wrong, 1e-3)[1]
    assert len(stored["class_scores"].places) == 5


@pytest.mark.parametrize(
    ("found", "difference", "fits"),
    [
        ([0.0, 100.0], 0.0, True),
        ([0.0009, 100.09], 0.09, True),
        ([0.0011, 100.0], 0.0011, False),
        ([0.0, 100.2], 0.2, False),
        ([np.nan, 100.0], np.inf, False),
        ([0.0, np.inf], np.inf, False),
        ([0.0, 100.0, 0.0], np.inf, False),
        ([[0.0, 100.0]], np.inf, False),
    ],
)
def test_numbers_may_differ_by_rounding(found: Any, difference: float, fits: bool) -> None:
    size, same = Expected.of(np.array([0.0, 100.0])).compare(np.array(found), 1e-3)
    assert size == pytest.approx(difference, rel=1e-3)
    assert same is fits


def test_a_diverged_network_gives_the_same_nonsense() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert Expected.of(values).compare(values.copy(), 1e-3) == (0.0, True)
    assert not Expected.of(values).compare(np.array([np.nan, np.inf, np.inf, 1.0]), 1e-3)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "stored results of version 1, got 2"),
        ({"outputs": {}}, "its stored results are incomplete"),
        ({"tolerance": 2.0}, "its stored results are incomplete"),
        ({"source": "guess"}, "its stored results are incomplete"),
        ({"image": "?"}, "its stored results cannot be read"),
        ({"image": b64encode(b"GIF89a").decode()}, "its stored results cannot be read"),
        ({"outputs": {"a": {"shape": [1], "places": "AQAAAA==", "values": "AAAAAA=="}}}, "from 0 to 0"),
        ({"outputs": {"a": {"shape": [1], "places": "", "values": "AAAAAA=="}}}, "places of 1 values"),
        ({"outputs": {"a": 1}}, "its stored results cannot be read"),
        ({"outputs": None}, "its stored results cannot be read"),
    ],
)
def test_damaged_results_are_named(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(golden(scores=[0.5]).to_json()), **change})
    with pytest.raises(CheckpointError, match=rf"^a\.onnx: .*{message}"):
        Golden.from_json(text, "a.onnx")


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "[" * 100_000], ids=["none", "empty", "list", "dict", "deep"])
def test_what_is_no_result_is_refused(text: str | None) -> None:
    with pytest.raises(CheckpointError, match="stored results"):
        Golden.from_json(text, "a.onnx")


def test_whether_a_file_takes_batches_is_known_without_being_said() -> None:
    pytest.importorskip("onnx")
    from onnx_files import CANDIDATES, DETECTIONS

    assert [info.takes_batches for info in (CANDIDATES, DETECTIONS)] == [True, False]
    assert [info.replace(batch="any").takes_batches for info in (CANDIDATES, DETECTIONS)] == [True, True]
    assert [info.replace(batch="one").takes_batches for info in (CANDIDATES, DETECTIONS)] == [False, False]
    again = ExportInfo.from_json(DETECTIONS.replace(batch="any").to_json(), str(Path("a.onnx")))
    assert again.batch == "any"
