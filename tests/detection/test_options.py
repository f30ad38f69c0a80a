from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, get_type_hints

import numpy as np
import pytest

from protomask.detection.options import MIN_TILE, NMS_MODES, PredictChanges, PredictOptions, take_options
from protomask.errors import ConfigError

NAMES = tuple(field.name for field in dataclasses.fields(PredictOptions))


def test_keyword_arguments_are_the_fields() -> None:
    assert tuple(get_type_hints(PredictChanges)) == NAMES


def test_options_are_frozen_compared_by_value_and_pickled() -> None:
    options = PredictOptions(score_threshold=0.5, nms="batched")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.score_threshold = 0.1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(options)) == copy.deepcopy(options) == options != PredictOptions()
    assert len({options, copy.copy(options), PredictOptions()}) == 2


def test_keyword_arguments_come_on_top_of_options() -> None:
    options = PredictOptions(score_threshold=0.5, max_detections=7)
    taken = take_options(options, {"max_detections": 9, "nms": "fast"})
    assert taken == PredictOptions(score_threshold=0.5, max_detections=9, nms="fast")
    assert options.max_detections == 7
    assert take_options(None, {}) == PredictOptions()
    assert take_options(options, {"max_detections": None}).max_detections is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("score_treshold", ", did you mean score_threshold?"),
        ("tiles", ", did you mean tile?"),
        ("conf", ""),
        ("", ""),
    ],
)
def test_a_wrong_name_is_an_error_that_lists_the_right_ones(name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take_options(PredictOptions(), {"nms": "fast", name: 0.5})
    assert str(caught.value) == f"{name}: no such option{near}; expected some of {', '.join(NAMES)}"


@pytest.mark.parametrize("options", [0.5, {"score_threshold": 0.5}, PredictOptions])
def test_other_objects_are_no_options(options: Any) -> None:
    with pytest.raises(ConfigError, match=r"^options: expected PredictOptions, got "):
        take_options(options, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("score_threshold", "iou_threshold", "candidate_threshold")
          for value in (-0.1, 1.1, float("nan"), float("inf"), "0.5", True, [0.5], np.array([0.5]))],
        *[(name, value) for name in ("max_detections", "batch_size")
          for value in (0, -1, 2.5, float("nan"), float("inf"), "3", True, np.array([3]))],
        ("score_threshold", None),
        ("batch_size", None),
        ("nms", "greedy"),
        ("nms", 3),
        ("nms", ["fast"]),
        ("tile", MIN_TILE - 1),
        ("tile_overlap", -0.1),
        ("tile_overlap", float("inf")),
        ("tile_overlap", None),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}: expected .*, got "):
        PredictOptions(**{name: value})
    with pytest.raises(ConfigError, match=rf"^{name}: expected .*, got "):
        take_options(None, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("score_threshold", 0, 0.0),
        ("score_threshold", np.float32(0.25), 0.25),
        ("iou_threshold", 1, 1.0),
        ("max_detections", np.int64(7), 7),
        ("tile", np.uint16(640), 640),
        ("nms", "soft_gaussian", "soft_gaussian"),
    ],
)
def test_values_become_plain_numbers(name: str, value: Any, wanted: Any) -> None:
    got = getattr(PredictOptions(**{name: value}), name)
    assert got == wanted
    assert type(got) is type(wanted)


def test_every_mode_of_nms_is_an_option() -> None:
    assert [PredictOptions(nms=mode).nms for mode in NMS_MODES] == list(NMS_MODES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tile", "overlap", "pixels"), [(640, 0.25, 160), (100, 0.001, 1), (64, 63, 63), (64, 0, 0), (None, 0.5, 0)]
)
def test_the_overlap_of_tiles_is_a_share_or_pixels(tile: int | None, overlap: float, pixels: int) -> None:
    assert PredictOptions(tile=tile, tile_overlap=overlap).tile_overlap_pixels == pixels


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 63.5), (32, 0.99)])
def test_tiles_overlap_by_less_than_their_side(tile: int, overlap: float) -> None:
    with pytest.raises(ConfigError, match=rf"^tile_overlap: expected .* tile={tile}, got {float(overlap)}$"):
        PredictOptions(tile=tile, tile_overlap=overlap)
    assert PredictOptions(tile_overlap=overlap).tile is None


PARTS = ("Person", "car", "traffic light")


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(None, None), (["car"], [1]), (("traffic light", "Person"), [0, 2]), (["car", "car"], [1])],
)
def test_classes_are_labels_of_a_model(classes: list[str] | None, labels: list[int] | None) -> None:
    found = PredictOptions(classes=classes).labels(PARTS)  # type: ignore[arg-type]
    assert (None if found is None else found.tolist()) == labels


@pytest.mark.parametrize(
    ("name", "hint"),
    [("person", "; did you mean 'Person'?"), ("cars", "; did you mean 'car'?"), ("zebra", "")],
)
def test_unknown_classes(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PredictOptions(classes=("car", name)).labels(PARTS)
    assert str(caught.value) == f"classes: expected some of Person, car, traffic light, got {name!r}{hint}"


def test_many_classes_are_only_counted() -> None:
    with pytest.raises(ConfigError, match=r"expected some of 0, 1, .*, 11 and 68 more classes of the model, got 'x'$"):
        PredictOptions(classes=("x",)).labels(list(map(str, range(80))))


@pytest.mark.parametrize("classes", [(), "car", (1,), ("",)])
def test_classes_are_a_list_of_names(classes: Any) -> None:
    with pytest.raises(ConfigError, match=r"^classes: expected "):
        PredictOptions(classes=classes)
