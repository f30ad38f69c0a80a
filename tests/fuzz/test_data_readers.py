"""Every reader of data sets and results, given inputs that were damaged at random.

Whatever a file holds, a reader gives a result or a `ProtomaskError`, within two seconds and 512 MB, and what training
reads evaluation reads as well. The number of cases for each reader is ``PROTOMASK_FUZZ_EXAMPLES``.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protomask.data.coco.dataset import CocoDataset
from protomask.data.doctor.check import check_dataset
from protomask.data.formats.convert import convert_dataset
from protomask.errors import DataError, ProtomaskError
from protomask.evaluation.match import prepare_results
from protomask.evaluation.truth import GroundTruth
from protomask.masks.rle import decode_rle, rle_area, rle_to_runs
from protomask.structures.coco_json import read_coco_ids

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EXAMPLES = int(os.environ.get("PROTOMASK_FUZZ_EXAMPLES", "300"))
MAX_SECONDS, MAX_BYTES = 2.0, 512 << 20
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None if EXAMPLES > 1000 else settings.default.database,  # type: ignore[union-attr]
)
slower = settings(many, max_examples=max(EXAMPLES // 10, 20))
WIDTH, HEIGHT = 16, 12


def _memory(kind: Literal["VmRSS", "VmHWM"]) -> int:
    """Resident bytes of this process, now or at most since `_forget_peak`; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{kind}:")), 0)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def sane() -> Iterator[None]:
    """Only errors on purpose, in little time and memory."""
    _forget_peak()  # what earlier cases and the search for new ones took is not this case's
    before = _memory("VmRSS")
    start = time.process_time()  # a busy machine makes nothing slow here
    with warnings.catch_warnings(), suppress(ProtomaskError):
        warnings.simplefilter("ignore")
        yield
    assert time.process_time() - start < MAX_SECONDS
    assert _memory("VmHWM") - before < MAX_BYTES


numbers = st.one_of(
    st.integers(-3, 40),
    st.floats(-20, 40, width=32),
    st.sampled_from(
        [0, -1, 2**31, 2**63, 10**30, 10**400, 1e5, -1e5, 1e9, 1e300, float("nan"), float("inf"), 0.5, -0.0]
    ),
)
names = st.sampled_from(["", "x", "7", "a.png", "A.PNG", "../a.png", "/a.png", "a\0", "\ud800", "x" * 5000, "b%2e.png"])
odd = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, names, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from(["id", "size", "counts", "name", "x"]), inner, max_size=3),
    ),
    max_leaves=12,
)
rle_text = st.text(st.characters(min_codepoint=40, max_codepoint=125), max_size=30)
codes = st.fixed_dictionaries(
    {
        "size": st.one_of(
            st.just([HEIGHT, WIDTH]), st.just([2 * HEIGHT, 2 * WIDTH]), st.lists(numbers, max_size=3), odd
        ),
        "counts": st.one_of(rle_text, st.lists(st.integers(0, 200), max_size=9), st.just([100, 20, 72]), odd),
    }
)
outlines = st.lists(st.lists(numbers, max_size=14), max_size=3)
segmentations = st.one_of(codes, outlines, odd)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> Any:
    """A document with some values replaced, removed or added."""
    content = copy.deepcopy(sound)
    for _ in range(draw(st.integers(0, 3))):
        known = list(places(content))
        if not known:
            break
        *path, key = draw(st.sampled_from(known))
        holder = content
        for step in path:
            holder = holder[step]
        how = draw(st.integers(0, 9))
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            own = {"segmentation": segmentations, "bbox": st.one_of(st.lists(numbers, min_size=4, max_size=4), odd)}
            # A copy: `just` gives the same list each time, and later damage changes it.
            holder[key] = copy.deepcopy(draw(own.get(key, odd) if isinstance(key, str) else odd))
    return content


@st.composite
def damaged_bytes(draw: st.DrawFn, sound: bytes) -> bytes:
    """A file with some bytes replaced, removed or added."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 6))
        content[start : start + length] = draw(st.binary(max_size=8))
    return bytes(content)


def write_json(file: Path, content: Any) -> None:
    file.write_bytes(json.dumps(content).encode("utf-8", "surrogatepass"))


COCO: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in (1, 2)],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[2, 2, 10, 2, 10, 8, 2, 8]],
            "bbox": [2, 2, 8, 6],
            "area": 48,
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 2,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [60, 6, 126]},
            "bbox": [5, 0, 1, 6],
            "area": 6,
            "iscrowd": 0,
        },
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (WIDTH, HEIGHT), (number, 2, 3)).save(folder / "images" / split / f"{number}.png")
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        write_json(folder / "annotations" / f"{split}.json", COCO)
    return folder


def _read_as_training_does(folder: Path) -> int:
    dataset = CocoDataset(folder / "annotations" / "train.json", folder / "images" / "train")
    return sum(len(dataset[index][1].labels) for index in range(len(dataset)))


def _read_all(folder: Path) -> None:
    file = folder / "annotations" / "train.json"
    objects = None
    with suppress(DataError):
        objects = _read_as_training_does(folder)
    with suppress(ProtomaskError):
        read_coco_ids(file, ["a"])
    try:
        truth = GroundTruth.load(file, masks=True)
    except DataError:
        assert objects is None, "training accepts what evaluation refuses"
        raise
    assert objects is None or objects == len(truth.annotations)


@many
@given(content=damaged(COCO))
def test_coco(coco: Path, content: Any) -> None:
    write_json(coco / "annotations" / "train.json", content)
    with sane():
        _read_all(coco)


@many
@given(segmentation=segmentations, bbox=st.one_of(st.none(), st.lists(numbers, min_size=4, max_size=4)))
def test_coco_segmentations(coco: Path, segmentation: Any, bbox: Any) -> None:
    content = copy.deepcopy(COCO)
    content["annotations"][0].update(segmentation=segmentation, bbox=bbox)
    write_json(coco / "annotations" / "train.json", content)
    with sane():
        _read_all(coco)


@many
@given(content=damaged_bytes(json.dumps(COCO).encode()))
def test_coco_bytes(coco: Path, content: bytes) -> None:
    (coco / "annotations" / "train.json").write_bytes(content)
    with sane():
        _read_all(coco)


@slower
@given(content=damaged(COCO))
def test_check_and_conversion_of_coco(coco: Path, content: Any) -> None:
    write_json(coco / "annotations" / "train.json", content)
    with sane():
        report = check_dataset(coco)
        json.dumps(report.to_dict())
    accepted = not report.of("error")
    try:
        with sane():
            _convert(coco)
            if accepted:
                _read_as_training_does(coco)
            accepted = False
    finally:
        kinds = {problem.kind for problem in report.of("error")}
        assert not accepted, f"the check accepts what is refused later {kinds}"


_OUTPUTS = iter(range(1 << 60))


def _convert(folder: Path, output_format: str = "coco") -> None:
    output = folder.parent / f"out-{next(_OUTPUTS)}"
    try:
        convert_dataset(folder, output, output_format=output_format)
    finally:
        shutil.rmtree(output, ignore_errors=True)


LABELME: dict[str, Any] = {
    "version": "5",
    "flags": {},
    "shapes": [
        {"label": "a", "points": [[1, 1], [9, 1], [9, 7]], "shape_type": "polygon", "group_id": None, "flags": {}},
        {"label": "b", "points": [[1, 1], [9, 7]], "shape_type": "rectangle", "group_id": 1},
        {"label": "b", "points": [[4, 4], [5, 7]], "shape_type": "circle", "group_id": 1},
        {
            "label": "b",
            "points": [[1, 1], [2, 2]],
            "shape_type": "mask",
            "mask": "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR4nGP4z8DE8B8ABgYCAYmzSBEAAAAASUVORK5CYII=",
        },
    ],
    "imagePath": "a.png",
    "imageData": None,
    "imageHeight": HEIGHT,
    "imageWidth": WIDTH,
}


@pytest.fixture(scope="module")
def labelme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelme") / "set"
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")
    return folder


@many
@given(content=damaged(LABELME))
def test_labelme(labelme: Path, content: Any) -> None:
    write_json(labelme / "a.json", content)
    with sane():
        _convert(labelme)


VIA: dict[str, Any] = {
    "a.png123": {
        "filename": "a.png",
        "size": 123,
        "regions": [
            {
                "shape_attributes": {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 7]},
                "region_attributes": {"label": "a"},
            },
            {"shape_attributes": {"name": "circle", "cx": 5, "cy": 5, "r": 3}, "region_attributes": {"label": "b"}},
            {
                "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4},
                "region_attributes": {"label": {"a": True}},
            },
        ],
        "file_attributes": {},
    }
}


@many
@given(content=damaged(VIA))
def test_via(labelme: Path, content: Any) -> None:
    folder = labelme.parent / "via"
    folder.mkdir(exist_ok=True)
    shutil.copy(labelme / "a.png", folder)
    write_json(folder / "a.json", content)
    with sane():
        _convert(folder)


YAML = b"train: images\nval:\nnames: [a, b]\n"
LABELS = b"0 0.1 0.1 0.9 0.1 0.9 0.8\n1 0.2 0.2 0.5 0.2 0.5 0.5 0.2 0.5\n"


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yolo") / "set"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")
    return folder


words = st.lists(st.one_of(st.just("0"), numbers.map(str), st.text(max_size=4), st.just("9" * 5000)), max_size=12)
yaml_text = st.one_of(
    damaged_bytes(YAML),
    odd.map(lambda names: b"train: images\nnames: " + json.dumps(names).encode("utf-8", "surrogatepass")),
    odd.map(lambda entry: b"names: [a]\ntrain: " + json.dumps(entry).encode("utf-8", "surrogatepass")),
)


@many
@given(
    yaml=yaml_text,
    labels=st.one_of(damaged_bytes(LABELS), words.map(lambda line: " ".join(line).encode("utf-8", "replace"))),
)
def test_yolo(yolo: Path, yaml: bytes, labels: bytes) -> None:
    (yolo / "data.yaml").write_bytes(yaml)
    (yolo / "labels" / "a.txt").write_bytes(labels)
    with sane():
        _convert(yolo)


XML = (
    b"<annotation><size><width>16</width><height>12</height></size><object><name>cat</name><bndbox><xmin>1</xmin>"
    b"<ymin>1</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></object></annotation>"
)


def png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


_MAP = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
_MAP[2:6, 3:9] = 1
_MAP[7:10, 3:12] = 2


@st.composite
def label_maps(draw: st.DrawFn) -> bytes:
    """PNG files of numbers: sound, of another size or depth, of noise, or damaged."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(damaged_bytes(png(_MAP)))
    size = draw(st.sampled_from([(HEIGHT, WIDTH), (WIDTH, HEIGHT), (1, 1), (300, 400)]))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    if kind == 1:
        return png(random.integers(0, 1 << 16, size, dtype=np.uint16))
    if kind == 2:
        return png(random.integers(0, 255, (*size, 3), dtype=np.uint8))
    return png(random.integers(0, 2, size).astype(bool))


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voc") / "set"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / "a.jpg")
    return folder


@many
@given(objects=label_maps(), classes=st.one_of(st.none(), label_maps()), xml=damaged_bytes(XML))
def test_voc(voc: Path, objects: bytes, classes: bytes | None, xml: bytes) -> None:
    (voc / "SegmentationObject" / "a.png").write_bytes(objects)
    (voc / "SegmentationClass" / "a.png").unlink(missing_ok=True)
    if classes is not None:
        (voc / "SegmentationClass" / "a.png").write_bytes(classes)
    (voc / "Annotations" / "a.xml").write_bytes(xml)
    with sane():
        _convert(voc)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "set"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "a.png")
    return folder


@many
@given(content=label_maps())
def test_mask_files(maps: Path, content: bytes) -> None:
    (maps / "masks" / "a.png").write_bytes(content)
    with sane():
        _convert(maps)


@many
@given(code=st.one_of(codes, odd))
def test_run_length_codes(code: Any) -> None:
    attempts: tuple[Callable[[Any], Any], ...] = (rle_area, rle_to_runs)
    for attempt in attempts:
        with sane():
            attempt(code)
    with sane():
        runs, size = rle_to_runs(code)
        if size[0] * size[1] < 1 << 20:
            assert int((runs[:, 1] - runs[:, 0]).sum()) == decode_rle(code).sum()


ROWS: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [2, 2, 8, 6], "segmentation": [[2, 2, 10, 2, 10, 8, 2, 8]]},
    {
        "image_id": 2,
        "category_id": 2,
        "score": 0.25,
        "bbox": [5, 0, 1, 6],
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": [60, 6, 126]},
    },
]


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return GroundTruth.load(COCO, masks=True)


@many
@given(rows=damaged(ROWS))
def test_results(truth: GroundTruth, rows: Any) -> None:
    from protomask.evaluation.rows import read_rows

    for iou_type in ("bbox", "segm"):
        with sane():
            prepare_results(read_rows(rows), truth, iou_type)


def test_the_sound_inputs_are_read(coco: Path, labelme: Path, yolo: Path, voc: Path, maps: Path) -> None:
    """Otherwise what is damaged would never be reached."""
    for split in ("train", "val"):
        write_json(coco / "annotations" / f"{split}.json", COCO)
    write_json(labelme / "a.json", LABELME)
    (yolo / "data.yaml").write_bytes(YAML)
    (yolo / "labels" / "a.txt").write_bytes(LABELS)
    for name in ("SegmentationClass", "SegmentationObject"):
        (voc / name / "a.png").write_bytes(png(_MAP))
    (voc / "Annotations" / "a.xml").write_bytes(XML)
    (maps / "masks" / "a.png").write_bytes(png(_MAP))
    for folder in (coco, labelme, yolo, voc, maps):
        _convert(folder)
