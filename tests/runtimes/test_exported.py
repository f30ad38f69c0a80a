"""What a file does in every runtime that reads it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from protomask.detection.options import NMS_MODES, Limits, PredictOptions
from protomask.detection.prototypes import PrototypeMasks, PrototypeRows, paint
from protomask.detection.regions import RegionRows
from protomask.detection.regions import paint as paint_regions
from protomask.errors import CheckpointError, ConfigError
from protomask.images.decode import Pixels
from protomask.masks.grids import MaskPaste
from protomask.runtimes.exported import ExportedPredictor, PreparedByCount
from protomask.runtimes.info import FixedInput
from protomask.runtimes.load import load_exported
from protomask.structures.instances import Instances

pytest.importorskip("onnx")
from onnx_files import (
    CANDIDATE_ROWS,
    CANDIDATES,
    DETECTIONS,
    NAMES,
    SIDE,
    candidates,
    detections,
    write_candidates,
    write_detections,
)

Load = Callable[[Path], ExportedPredictor]
BLACK = np.zeros((64, 48, 3), dtype=np.uint8)
RED = BLACK + np.array([255, 0, 0], dtype=np.uint8)
SMALL = BLACK[:SIDE, :SIDE]
FIRST, SECOND, THIRD, FOURTH, LAST = (box for box, _ in CANDIDATE_ROWS)


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def load(request: pytest.FixtureRequest) -> Load:
    runtime: Literal["onnx", "openvino"] = request.param
    pytest.importorskip("onnxruntime" if runtime == "onnx" else "openvino")
    return lambda path: load_exported(path, runtime=runtime)


@pytest.fixture(scope="module")
def free(load: Load, tmp_path_factory: pytest.TempPathFactory) -> ExportedPredictor:
    """A file of candidates."""
    return load(write_candidates(tmp_path_factory.mktemp("files") / "candidates.onnx"))


@pytest.fixture(scope="module")
def settled(load: Load, tmp_path_factory: pytest.TempPathFactory) -> ExportedPredictor:
    """A file of detections."""
    return load(write_detections(tmp_path_factory.mktemp("files") / "detections.onnx"))


def told(found: Instances) -> list[tuple[tuple[float, ...], str, float]]:
    """Relative boxes, names, and scores."""
    height, width = found.image_size
    boxes = found.boxes / np.array([width, height, width, height])
    return [
        (tuple(box.tolist()), name, round(score, 2))
        for box, name, score in zip(boxes, found.names, found.scores.tolist(), strict=True)
    ]


def assert_same(one: Instances, other: Instances) -> None:
    assert one.image_size == other.image_size
    for field in ("boxes", "labels", "class_scores", "masks"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_what_a_file_says_of_itself(free: ExportedPredictor, settled: ExportedPredictor) -> None:
    assert free.info == CANDIDATES
    assert (free.class_names, free.model_name, free.device) == (NAMES, "yolact_nano", "cpu")
    assert free.source.endswith("candidates.onnx")
    assert free.source in repr(free)
    assert free.most_detections is None
    assert settled.most_detections == 4


def test_candidates_become_instances(free: ExportedPredictor) -> None:
    found = free.predict(BLACK)
    assert told(found) == [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6)]
    assert found.image_size == (64, 48)
    assert found.mask_scores is None
    assert found.masks.shape == (3, 64, 48)
    kept = np.array([0, 2, 3])
    given = candidates()
    rows = PrototypeRows(
        given["boxes"][kept], found.labels, found.class_scores,
        PrototypeMasks(given["prototypes"], given["mask_coefficients"][kept]),
    )  # fmt: skip
    np.testing.assert_array_equal(found.masks, paint(rows, (64, 48), NAMES).masks)
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.astype(int).tolist(), strict=True):
        assert mask[y1:y2, x1:x2].all()


OPTIONS: list[tuple[dict[str, Any], list[tuple[tuple[float, ...], str, float]]]] = [
    ({"score_threshold": 0.65}, [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7)]),
    ({"score_threshold": 0.95}, []),
    (
        {"iou_threshold": 0.7},
        [(FIRST, "nut", 0.9), (SECOND, "nut", 0.8), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6)],
    ),
    ({"max_detections": 2}, [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7)]),
    ({"max_detections": 1000}, [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6)]),
    ({"nms": "cross_class_fast"}, [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7)]),
    ({"nms": "batched"}, [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6)]),
    (
        {"nms": "soft_gaussian"},
        [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6), (SECOND, "nut", 0.33)],
    ),
    (
        {"nms": "soft_linear", "score_threshold": 0.1},
        [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6), (SECOND, "nut", 0.27)],
    ),
    (
        {"score_threshold": 0.02, "candidate_threshold": 0.02, "nms": "batched"},
        [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6), (LAST, "nut", 0.04)],
    ),
    (
        {"score_threshold": 0.02, "nms": "batched"},
        [(FIRST, "nut", 0.9), (THIRD, "bolt", 0.7), (FOURTH, "nut", 0.6)],
    ),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=[str(options) for options, _ in OPTIONS])
def test_candidates_take_every_option(
    free: ExportedPredictor, options: dict[str, Any], expected: list[tuple[tuple[float, ...], str, float]]
) -> None:
    assert told(free.predict(BLACK, **options)) == expected
    assert told(free.predict(BLACK, PredictOptions(**options))) == expected


def test_candidates_in_tiles(free: ExportedPredictor) -> None:
    whole = free.predict(SMALL)
    assert told(free.predict(SMALL, tile=32)) == told(whole)
    found = free.predict(BLACK, tile=32, tile_overlap=0)
    # Two times two tiles, of which each shows the same; what ends near a border between them may be cut.
    assert {box[2] - box[0] for box in found.boxes.tolist()} <= {8.0, 12.0}
    assert len(found) > len(whole)
    assert len(free.predict(BLACK, tile=32, max_detections=5)) == 5


def test_a_file_is_prepared_once_more_when_several_images_come() -> None:
    made: list[str] = []

    def prepare() -> str:
        made.append("any")
        return "any"

    prepared = PreparedByCount("single", prepare)
    assert prepared.to_run(1) == "single"
    assert made == []
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(prepared.to_run, [1, 3, 2, 1, 7])) == ["single", "any", "any", "single", "any"]
    assert made == ["any"]
    assert PreparedByCount("single", None).to_run(3) == "single"


def test_a_file_may_vanish_once_it_is_loaded(load: Load, tmp_path: Path) -> None:
    path, images = write_candidates(tmp_path / "candidates.onnx"), [BLACK, RED]
    predictor = load(path)
    wanted = [predictor.predict(image) for image in images]
    path.write_bytes(b"something else")
    path.unlink()
    for one, other in zip(predictor.predict(images, batch_size=2), wanted, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_candidates_of_several_images(
    free: ExportedPredictor, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    run = free.run

    def counted(images: Pixels) -> Any:
        shapes.append(images.shape)
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        return run(images)

    monkeypatch.setattr(free, "run", counted)
    images = [BLACK, RED, RED[:20], BLACK[:, :7], BLACK]
    together = free.predict(images, batch_size=batch_size)
    assert sum(shape[0] for shape in shapes) == 5
    assert max(shape[0] for shape in shapes) == min(batch_size, 5)
    assert {shape[1:] for shape in shapes} == {(3, SIDE, SIDE)}
    assert [one.image_size for one in together] == [image.shape[:2] for image in images]
    # Red images let the first candidate lose to the second.
    assert [told(one)[0][0] for one in together] == [FIRST, SECOND, SECOND, FIRST, FIRST]
    for image, found in zip(images, together, strict=True):
        assert_same(found, free.predict(image))
    assert free.predict([]) == []


def test_threads_do_not_disturb_each_other(free: ExportedPredictor) -> None:
    images = [RED if number % 2 else BLACK for number in range(20)]
    wanted = [free.predict(BLACK), free.predict(RED)]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(free.predict, images)):
            assert_same(found, wanted[number % 2])


def test_results_outlive_the_next_prediction(free: ExportedPredictor) -> None:
    found = free.predict(BLACK)
    scores, masks = found.class_scores.copy(), free.predict(BLACK).masks
    free.predict(RED)
    np.testing.assert_array_equal(found.class_scores, scores)
    np.testing.assert_array_equal(found.masks, masks)


def test_a_stream_of_files(free: ExportedPredictor, tmp_path: Path) -> None:
    for name, image in (("b10.png", RED), ("b9.png", BLACK)):
        Image.fromarray(image).save(tmp_path / name)
    frames = list(free.stream(tmp_path))
    assert [Path(frame.source).name for frame in frames] == ["b9.png", "b10.png"]
    assert [told(frame.found)[0][0] for frame in frames if frame.found is not None] == [FIRST, SECOND]


def test_stages_are_timed(free: ExportedPredictor, settled: ExportedPredictor) -> None:
    for predictor in (free, settled):
        timings: dict[str, float] = {}
        predictor.predict_images([SMALL, SMALL], timings=timings)
        assert set(timings) == {"preprocess", "network", "postprocess"}
        once = dict(timings)
        predictor.predict_images([SMALL], timings=timings)
        assert all(timings[stage] > once[stage] > 0 for stage in once)


@pytest.mark.parametrize("nms", NMS_MODES)
def test_limits_of_candidates(free: ExportedPredictor, nms: Any) -> None:
    assert free.limits(PredictOptions()) == Limits("fast", 20)
    assert free.limits(PredictOptions(nms=nms, max_detections=7)) == Limits(nms, 7)


def test_limits_of_detections(settled: ExportedPredictor) -> None:
    assert settled.limits(PredictOptions()) == Limits("fast", 4)
    assert settled.limits(PredictOptions(max_detections=3)) == Limits("fast", 3)
    with pytest.raises(ConfigError, match="max_detections"):
        settled.limits(PredictOptions(max_detections=5))


def test_detections_become_instances(settled: ExportedPredictor) -> None:
    found = settled.predict(SMALL, score_threshold=0)
    given = detections((SIDE, SIDE))
    np.testing.assert_array_equal(found.boxes, given["boxes"][:3])
    assert found.names == ["nut", "bolt", "bolt"]
    np.testing.assert_array_equal(found.class_scores, given["class_scores"][:3])
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.astype(int).tolist(), strict=True):
        inside = mask[y1:y2, x1:x2]
        assert inside.sum() == mask.sum() > 0.8 * inside.size


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 2), ({"score_threshold": 0.8}, 1), ({"score_threshold": 0.9}, 0), ({"score_threshold": 0.1}, 3),
        ({"crop": "component"}, 2), ({"exclusive": "score"}, 2), ({"max_detections": 1}, 1),
        ({"max_detections": 4, "score_threshold": 0}, 3), ({"batch_size": 3}, 2),
        ({"nms": "fast", "iou_threshold": 0.5, "candidate_threshold": 0.05}, 2), ({"tile": 64}, 2),
    ],
)  # fmt: skip
def test_options_that_detections_take(settled: ExportedPredictor, options: dict[str, Any], count: int) -> None:
    assert len(settled.predict(SMALL, **options)) == count
    assert [len(one) for one in settled.predict([SMALL, SMALL], **options)] == [count, count]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_detections": 5}, r"max_detections: .*detections\.onnx was exported for 1 to 4, got 5"),
        ({"nms": "batched"}, r"nms: .*detections\.onnx was exported with fast, got batched; export the model again"),
        ({"iou_threshold": 0.6}, r"iou_threshold: .*\.onnx was exported with 0.5, got 0.6; .* the form candidates"),
        ({"overlap": "mask_iou"}, r"overlap: .*\.onnx was exported with box_iou, got mask_iou"),
        ({"crop": "none"}, r"crop: .*\.onnx was exported with box, got none"),
        ({"crop_margin": 0.1}, r"crop_margin: .*\.onnx was exported with 0.0, got 0.1"),
        ({"edges": "pixels"}, r"edges: .*\.onnx was exported with grid, got pixels"),
        ({"candidate_threshold": 0.0}, r"candidate_threshold: .*\.onnx was exported with 0.05, got 0.0"),
    ],
)
def test_what_detections_have_settled_is_refused(
    settled: ExportedPredictor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settled.predict(SMALL, **options)
    with pytest.raises(ConfigError, match=message):
        settled.predict([SMALL, SMALL], **options)


def test_more_can_be_wanted_of_tiles_than_detections_have_places_for(settled: ExportedPredictor) -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    assert len(settled.predict(image, tile=32, max_detections=6, score_threshold=0)) == 6


def test_the_size_that_a_file_wants(load: Load, tmp_path: Path) -> None:
    info = CANDIDATES.replace(
        form="detections", rule=None, input=FixedInput(size=(SIDE, SIDE), method="pillow"),
        thresholds=DETECTIONS.thresholds,
    )  # fmt: skip
    found = load(write_detections(tmp_path / "fixed.onnx", info)).predict(BLACK)
    assert found.boxes[0].tolist() == [6, 8, 24, 32]
    assert found.image_size == (64, 48)


def test_final_scores_decide(load: Load, tmp_path: Path) -> None:
    outputs = detections((SIDE, SIDE), mask_scores=np.array([0.25, 1.5, np.nan, 0], dtype=np.float32))
    predictor = load(write_detections(tmp_path / "scored.onnx", outputs=outputs))
    found = predictor.predict(SMALL, score_threshold=0)
    assert found.names == ["bolt", "nut", "bolt"]
    assert found.mask_scores is not None
    assert found.mask_scores.tolist() == [1, 0.25, 0]
    assert found.scores.tolist() == pytest.approx([0.7, 0.225, 0])
    assert predictor.predict(SMALL, score_threshold=0.3).names == ["bolt"]


@pytest.mark.parametrize("paste", ["integer", "continuous", "pixels"])
def test_masks_over_their_boxes(load: Load, tmp_path: Path, paste: MaskPaste) -> None:
    info = DETECTIONS.replace(mask_frame="region", mask_paste=paste)
    given = detections((SIDE, SIDE), masks=np.array([[[1, 0], [0.4, 0.8]]] * 4, dtype=np.float32))
    found = load(write_detections(tmp_path / "regions.onnx", info, given)).predict(SMALL)
    rows = RegionRows(
        given["boxes"][:2], given["labels"][:2], given["class_scores"][:2], given["masks"][:2], None, (SIDE, SIDE)
    )  # fmt: skip
    assert_same(found, paint_regions(rows, (SIDE, SIDE), NAMES, paste=paste))
    assert found.masks.any(axis=(1, 2)).all()


def test_half_precision_outputs(load: Load, tmp_path: Path) -> None:
    outputs = {
        name: values.astype(np.float16) if values.dtype == np.float32 else values
        for name, values in detections((SIDE, SIDE)).items()
    }
    found = load(write_detections(tmp_path / "half.onnx", outputs=outputs)).predict(SMALL)
    assert found.boxes.dtype == found.class_scores.dtype == np.float32
    assert found.scores.tolist() == pytest.approx([0.9, 0.7], abs=1e-3)


@pytest.mark.parametrize("name", ["class_logits", "boxes", "mask_coefficients", "prototypes"])
def test_candidates_that_lack_something(load: Load, tmp_path: Path, name: str) -> None:
    outputs = candidates()
    del outputs[name]
    with pytest.raises(CheckpointError, match=rf"less\.onnx: expected the outputs class_logits, .*, lacks {name}$"):
        load(write_candidates(tmp_path / "less.onnx", outputs=outputs))


def test_a_file_that_is_not_what_it_says(load: Load, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of the form candidates, lacks class_logits, mask_coefficients, proto"):
        load(write_detections(tmp_path / "a.onnx", CANDIDATES))
    with pytest.raises(CheckpointError, match="of the form detections, lacks labels, class_scores, masks"):
        load(write_candidates(tmp_path / "b.onnx", DETECTIONS))


@pytest.mark.parametrize("name", NAMES)
def test_classes(free: ExportedPredictor, settled: ExportedPredictor, name: str) -> None:
    for predictor in (free, settled):
        whole = predictor.predict(BLACK, score_threshold=0.1)
        chosen = predictor.predict(BLACK, score_threshold=0.1, classes=[name])
        assert 0 < len(chosen) < len(whole)
        assert_same(chosen, whole[name])
        assert_same(predictor.predict(BLACK, score_threshold=0.1, classes=[name], max_detections=1), whole[name][:1])
        with pytest.raises(ConfigError, match=r"^classes: expected .*, got 'bold'; did you mean 'bolt'"):
            predictor.predict(BLACK, classes=["bold"])


def test_image_size_is_that_of_the_file(free: ExportedPredictor, settled: ExportedPredictor) -> None:
    assert_same(free.predict(BLACK, image_size=SIDE), free.predict(BLACK))
    with pytest.raises(ConfigError, match=rf"^image_size: expected {SIDE}, the only size .* got 64; .* PyTorch"):
        free.predict(BLACK, image_size=64)
    with pytest.raises(ConfigError, match=r"^image_size: expected a size that it has settled itself"):
        settled.check_options(PredictOptions(image_size=64))
