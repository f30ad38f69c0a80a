from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from golden_weights import golden_weights
from protomask.api import build, load
from protomask.checkpoints.io import save_weights
from protomask.detection.options import NMS_MODES, PredictOptions
from protomask.errors import CheckpointError, ConfigError, DataError
from protomask.images.decode import Pixels
from protomask.runtimes.shipped import SHIPPED
from protomask.structures.instances import Instances
from protomask.torch_runtime.predictor import TorchPredictor, resolve_device
from tiny_rcnn import tiny_rcnn

NAMES = ("nut", "bolt", "gear")
SMALL: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0", "image_size": 64, "fpn_channels": 16, "protonet_channels": 8, "num_prototypes": 4,
}  # fmt: skip
EVERYTHING: dict[str, Any] = {"score_threshold": 0, "candidate_threshold": 0}


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    torch.manual_seed(0)
    return build("yolact_nano", class_names=NAMES, device="cpu", **SMALL)


@pytest.fixture(scope="module")
def weights(model: TorchPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def some_pixels(height: int = 40, width: int = 50, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal(one: Instances, other: Instances) -> None:
    assert one.image_size == other.image_size
    for field in ("boxes", "labels", "scores", "masks"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


def assert_close(one: Instances, other: Instances) -> None:
    """Equal but for rounding, which lets the near ties of an untrained network change places."""
    assert one.image_size == other.image_size
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-4)
    alike = np.abs(one.boxes - other.boxes).max(axis=1) < 0.01
    assert alike.mean() > 0.9
    assert (one.masks[alike] != other.masks[alike]).mean() < 1e-3


def test_every_kind_of_image_gives_the_same(model: TorchPredictor, tmp_path: Path) -> None:
    pixels = some_pixels()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    wanted = model.predict(pixels, **EVERYTHING)
    assert isinstance(wanted, Instances)
    assert len(wanted) == model.config.max_detections
    assert wanted.image_size == (40, 50)
    assert wanted.class_names == model.class_names == NAMES
    for source in (path, str(path), Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        assert_equal(model.predict(source, **EVERYTHING), wanted)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_gives_what_its_images_give(model: TorchPredictor, batch_size: int) -> None:
    images = [some_pixels(40, 50, 1), some_pixels(64, 64, 2), some_pixels(10, 90, 3)]
    together = model.predict(images, batch_size=batch_size, **EVERYTHING)
    for found, image in zip(together, images, strict=True):
        assert_close(found, model.predict(image, **EVERYTHING))


def test_no_images(model: TorchPredictor) -> None:
    assert model.predict([]) == model.predict(()) == model.predict_images([]) == []


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_odd_sizes(model: TorchPredictor, size: tuple[int, int], nms: Any) -> None:
    found = model.predict(some_pixels(*size), nms=nms, max_detections=5, **EVERYTHING)
    height, width = size
    assert 0 < len(found) <= 5
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes <= np.array([width, height, width, height])).all())
    assert found.masks.shape == (len(found), height, width)
    assert len(found.rle()) == len(found.polygons()) == len(found)


def test_thresholds(model: TorchPredictor) -> None:
    image = some_pixels()
    everything = model.predict(image, **EVERYTHING)
    middle = float(np.sort(everything.scores)[len(everything) // 2])
    above = model.predict(image, **EVERYTHING | {"score_threshold": middle})
    np.testing.assert_array_equal(above.scores, everything.scores[everything.scores > middle])
    assert (np.diff(everything.scores) <= 0).all()
    assert len(model.predict(image, max_detections=7, **EVERYTHING)) == 7
    assert len(model.predict(image, score_threshold=1.0)) == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"score_threshold": 2}, "score_threshold"),
        ({"iou_threshold": -1}, "iou_threshold"),
        ({"max_detections": 0}, "max_detections"),
        ({"nms": "greedy"}, "nms"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_options_are_refused_by_name(model: TorchPredictor, options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected"):
        model.predict([some_pixels()], **options)


def test_unreadable_images_are_named(model: TorchPredictor, tmp_path: Path) -> None:
    images: list[Any] = [some_pixels(), tmp_path / "gone.png"]
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        model.predict(images)


def test_options_are_one_object(model: TorchPredictor) -> None:
    options = PredictOptions(nms="batched", max_detections=5, **EVERYTHING)
    assert_equal(model.predict(some_pixels(), options), model.predict(some_pixels(), **options.to_dict()))
    assert len(model.predict(some_pixels(), options)) == 5
    assert model.limits(options) == ("batched", 5)
    assert model.limits(PredictOptions()) == (model.config.nms, model.config.max_detections)


def test_results_are_arrays_and_gradients_go_on(model: TorchPredictor) -> None:
    assert torch.is_grad_enabled()
    found = model.predict(some_pixels(), **EVERYTHING)
    assert torch.is_grad_enabled()
    for name, dtype in (("boxes", "float32"), ("labels", "int64"), ("scores", "float32"), ("masks", "bool")):
        assert isinstance(getattr(found, name), np.ndarray)
        assert getattr(found, name).dtype == dtype
    with pytest.raises(ValueError, match="read-only"):
        found.boxes += 1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_prediction_runs_in_evaluation_mode_and_training_goes_on(model: TorchPredictor) -> None:
    image = some_pixels()
    wanted = model.predict(image, **EVERYTHING)
    model = deepcopy(model)
    model.network.train()
    assert_equal(model.predict(image, **EVERYTHING), wanted)
    output = model.network.train()(torch.zeros(2, 3, 64, 64))
    (output.box_deltas * output.anchors).sum().backward()
    assert any(parameter.grad is not None for parameter in model.network.parameters())


def test_threads_do_not_disturb_each_other(model: TorchPredictor) -> None:
    images = [some_pixels(20 + index, 30, index) for index in range(8)]
    wanted = [model.predict(image, **EVERYTHING) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(
            pool.map(lambda image: model.predict(image, **EVERYTHING), images), wanted, strict=True
        ):
            assert_close(found, alone)


def test_timings_name_the_stages(model: TorchPredictor) -> None:
    timings: dict[str, float] = {}
    image = some_pixels()
    model.predict_images([image], timings=timings)
    assert set(timings) == {"preprocess", "network", "postprocess"}
    once = dict(timings)
    model.predict_images([image], timings=timings)
    assert all(timings[stage] > once[stage] > 0 for stage in once)


def test_prediction_in_tiles(model: TorchPredictor) -> None:
    large, small = some_pixels(90, 150), some_pixels(50, 60)
    options = PredictOptions(tile=64, tile_overlap=0.25, batch_size=4, max_detections=20, **EVERYTHING)
    found = model.predict([large, small], options)
    assert [one.image_size for one in found] == [(90, 150), (50, 60)]
    assert_equal(found[0], model.predict(large, options, tile_overlap=16))
    assert_equal(found[1], model.predict(small, options, tile=None))
    assert len(found[0]) == 20
    assert (np.diff(found[0].scores) <= 0).all()
    # As many as are wanted of the image, more than one view of it can hold; each tile has the best of its own.
    more = model.predict(large, options, max_detections=145)
    assert len(more) == 145
    assert len(model.predict(large, options, max_detections=3)) == 3
    assert (more.boxes >= 0).all()
    assert (more.boxes <= np.array([150.0, 90.0, 150.0, 90.0])).all()
    for box, mask in zip(more.boxes.tolist(), more.masks, strict=True):
        _, columns = mask.nonzero()
        if len(columns):
            assert columns.min() >= box[0] - 8
            assert columns.max() <= box[2] + 8


def test_save_and_load(model: TorchPredictor, weights: Path) -> None:
    loaded = load(weights, runtime="torch", device="cpu")
    assert loaded.source == str(weights)
    assert loaded.class_names == NAMES
    assert not loaded.network.training
    assert_close(loaded.predict(some_pixels(), **EVERYTHING), model.predict(some_pixels(), **EVERYTHING))
    assert str(weights) in repr(loaded)


def test_half_precision_files_predict_nearly_the_same(model: TorchPredictor, tmp_path: Path) -> None:
    path = save_weights(model.network, tmp_path / "half.safetensors", dtype=torch.float16)
    image = some_pixels()
    found, wanted = load(path, device="cpu").predict(image, **EVERYTHING), model.predict(image, **EVERYTHING)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=0.01)


def test_class_names_of_ones_own_file_cannot_be_changed(weights: Path) -> None:
    assert load(weights, class_names=NAMES, device="cpu").class_names == NAMES
    with pytest.raises(ConfigError, match=r"class_names: .* brings its own, nut, bolt, gear; got a, b, c"):
        load(weights, class_names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("yolact_resnet51", CheckpointError, "no model of that name; did you mean yolact_resnet50, "),
        ("gone.pth", CheckpointError, r"gone\.pth: no such file"),
        ("hf://owner/repository", ConfigError, "expected hf://owner/repository/file"),
        ("hf://owner", ConfigError, "expected hf://owner/repository/file"),
        ("hf:///a/b", ConfigError, "expected hf://owner/repository/file"),
        (".", CheckpointError, "expected the folder of a training run, found no weights in it"),
    ],
)
def test_sources_that_do_not_exist(
    source: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load(source)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(CheckpointError, match=r"model\.bin: expected a \.safetensors, \.pth, \.pt, \.pkl, "):
        load(path)


def test_files_of_the_hub(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repository: str, filename: str, *, revision: str | None) -> Path:
        asked.append((repository, filename))
        return weights

    monkeypatch.setattr("protomask.models.naming.fetch_from_hub", fetch)
    assert load("hf://owner/repository/folder/tiny.safetensors", device="cpu").class_names == NAMES
    assert asked == [("owner/repository", "folder/tiny.safetensors")]


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99", ""])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=r"^device: "):
        resolve_device(device)


def test_devices_that_are() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == best


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_cuda_gives_what_the_cpu_gives(model: TorchPredictor, weights: Path, where: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    images = [torch.from_numpy(some_pixels(seed=seed)).permute(2, 0, 1) for seed in range(2)]
    predictor = load(weights, device="cuda")
    assert str(predictor.device).startswith("cuda")
    on_gpu = predictor.predict([image.to(where) for image in images], **EVERYTHING)
    for found, wanted in zip(on_gpu, model.predict(images, **EVERYTHING), strict=True):
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-2)


@pytest.mark.slow
def test_an_official_file_through_the_front_door(golden_dir: Path, tmp_path: Path) -> None:
    golden = golden_dir / "yolact"
    torch.save(golden_weights(golden / "yolact_resnet50.state_dict.json"), tmp_path / "mine.pth")
    official = load(tmp_path / "mine.pth", model="yolact_resnet50", device="cpu")
    found = official.predict(golden / "inputs" / "image1.png", score_threshold=0.15)
    with np.load(golden / "yolact_resnet50.image1.npz") as wanted:
        assert found.labels.tolist() == wanted["post15.class"].tolist()
        np.testing.assert_allclose(found.scores, wanted["post15.score"], atol=1e-4)
        assert np.abs(found.boxes.astype(int) - wanted["post15.box"]).max() <= 1


def test_predictions_follow_weights_that_change(model: TorchPredictor) -> None:
    predictor = TorchPredictor(deepcopy(model.network))
    before = predictor.predict(some_pixels(), **EVERYTHING)
    assert_equal(predictor.predict(some_pixels(), **EVERYTHING), before)
    with torch.no_grad():
        for parameter in predictor.network.parameters():
            parameter.add_(torch.linspace(0, 0.1, parameter.numel()).reshape(parameter.shape))
    assert not np.array_equal(predictor.predict(some_pixels(), **EVERYTHING).scores, before.scores)
    assert set(predictor.state_dict()) == {f"network.{key}" for key in model.network.state_dict()}


def test_bf16_finds_nearly_the_same() -> None:
    exact = load("yolact_nano", runtime="torch", device="cpu")
    short = load("yolact_nano", device="cpu", precision="bf16")
    assert isinstance(short, TorchPredictor)
    scene = Path(str(files("protomask"))) / "samples" / "scene_1.jpg"
    full, half = exact.predict(scene), short.predict(scene)
    assert len(full) == len(half) > 0
    np.testing.assert_array_equal(full.labels, half.labels)
    np.testing.assert_allclose(full.scores, half.scores, rtol=0, atol=0.05)
    shared = (full.masks & half.masks).sum(axis=(1, 2)) / (full.masks | half.masks).sum(axis=(1, 2))
    assert shared.mean() > 0.9


def test_bf16_of_a_two_stage_model() -> None:
    predictor = TorchPredictor(
        build("ms_rcnn_resnet50_fpn", num_classes=3, device="cpu", image_size=64, fpn_channels=16,
                        head_channels=8).network,
        precision="bf16",
    )  # fmt: skip
    found = predictor.predict(some_pixels(), **EVERYTHING)
    assert found.scores.dtype == np.float32
    assert found.masks.shape == (len(found), 40, 50)


def test_an_unknown_precision_is_named(model: TorchPredictor) -> None:
    with pytest.raises(ConfigError, match="precision: expected one of float32, bf16, fp16, got 'int4'"):
        TorchPredictor(model.network, precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_shipped_nuclei_are_found_in_small_and_large_images(runtime: Any) -> None:
    """Bright spots on a dark ground, as under a fluorescence microscope."""
    if runtime == "onnx" and not (Path(str(files("protomask"))) / "weights" / SHIPPED["nuclei"]).is_file():
        pytest.skip("the file is not there yet")
    rows, columns = np.mgrid[0:300, 0:300]
    generator = np.random.default_rng(0)
    gray = generator.normal(12, 3, (300, 300))
    places = [(y, x) for y in range(30, 300, 48) for x in range(30, 300, 48)]
    for y, x in places:
        height, width = generator.uniform(8, 13, 2)
        distance = np.hypot((rows - y) / height, (columns - x) / width)
        gray += 110 / (1 + np.exp((distance - 1) * 12))
    image = np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    model = load("nuclei", device="cpu", runtime=runtime)
    assert model.class_names == ("nucleus",)
    for tile in (None, 200):
        found = model.predict(image, score_threshold=0.5, tile=tile)
        assert len(found) == len(places)
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        distances = np.linalg.norm(centres[:, None] - np.array(places)[:, ::-1], axis=2)
        assert distances.min(axis=0).max() < 3
        assert all(200 < one.area < 700 for one in found)


def test_image_size(model: TorchPredictor) -> None:
    pixels = some_pixels()
    own = model.predict(pixels, **EVERYTHING)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    assert_equal(model.predict(pixels, image_size=64, **EVERYTHING), own)
    larger = model.predict(pixels, image_size=96, **EVERYTHING)
    assert larger.image_size == own.image_size
    assert not np.array_equal(larger.boxes, own.boxes)
    assert_equal(model.predict(pixels, **EVERYTHING), own)
    # The same as a network of that size with these weights and anchors.
    scales = model.config.anchor_scales  # type: ignore[attr-defined]
    options = {**SMALL, "image_size": 96, "anchor_scales": scales}
    built = build("yolact_nano", class_names=NAMES, device="cpu", **options)
    built.network.load_state_dict(before)
    assert_close(larger, built.predict(pixels, **EVERYTHING))
    assert model.config.image_size == 64
    assert all(value.equal(model.network.state_dict()[name]) for name, value in before.items())


def test_image_size_follows_the_weights(model: TorchPredictor) -> None:
    own, pixels = deepcopy(model), some_pixels()
    first = own.predict(pixels, image_size=96, **EVERYTHING)
    with torch.no_grad():
        own.network.head.classify.bias[1] += 1  # type: ignore[attr-defined]
    assert not np.array_equal(own.predict(pixels, image_size=96, **EVERYTHING).scores, first.scores)


def test_image_size_out_of_range(model: TorchPredictor) -> None:
    with pytest.raises(ConfigError, match=r"^image_size: expected a whole number of at least 32 pixels"):
        model.predict(some_pixels(), image_size=8)


def test_image_size_of_a_two_stage_network() -> None:
    pixels = some_pixels(50, 70)
    found = TorchPredictor(tiny_rcnn()).predict(pixels, image_size=96, **EVERYTHING)
    other = tiny_rcnn(image_size=96)
    assert other.config.max_image_size == 192
    assert_close(found, TorchPredictor(other).predict(pixels, **EVERYTHING))
    assert not np.array_equal(found.boxes, TorchPredictor(tiny_rcnn()).predict(pixels, **EVERYTHING).boxes)
