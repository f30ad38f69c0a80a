from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import protomask
from golden_weights import golden_weights
from protomask.checkpoints.io import save_weights
from protomask.errors import CheckpointError, ConfigError, DataError
from protomask.inference.predictor import Predictor, resolve_device
from protomask.models.config import NMS_MODES
from protomask.structures.instances import Instances

NAMES = ("nut", "bolt", "gear")
EVERYTHING: dict[str, Any] = {"score_threshold": 0, "candidate_threshold": 0}


@pytest.fixture(scope="module")
def model() -> Predictor:
    torch.manual_seed(0)
    return protomask.build(
        "yolact_nano", class_names=NAMES, device="cpu", backbone="shufflenet_v2_x1_0", image_size=64, fpn_channels=16,
        protonet_channels=8, num_prototypes=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def weights(model: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def some_pixels(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal(one: Instances, other: Instances) -> None:
    assert one.image_size == other.image_size
    for field in ("boxes", "labels", "scores", "masks"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def assert_close(one: Instances, other: Instances) -> None:
    """Equal but for rounding, which lets the near ties of an untrained network change places."""
    assert one.image_size == other.image_size
    torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-4)
    alike = (one.boxes - other.boxes).abs().amax(dim=1) < 0.01
    assert alike.float().mean() > 0.9
    assert (one.masks[alike] != other.masks[alike]).float().mean() < 1e-3


def test_every_kind_of_source_gives_the_same(model: Predictor, tmp_path: Path) -> None:
    pixels = some_pixels()
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    wanted = model.predict(pixels, **EVERYTHING)
    assert isinstance(wanted, Instances)
    assert len(wanted) == model.network.config.max_detections
    assert wanted.image_size == (40, 50)
    assert wanted.class_names == model.class_names == NAMES
    for source in (path, str(path), Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        assert_equal(model.predict(source, **EVERYTHING), wanted)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_gives_what_its_images_give(model: Predictor, kind: type, batch_size: int) -> None:
    images = [some_pixels(40, 50, 1), some_pixels(64, 64, 2), some_pixels(10, 90, 3)]
    together = model.predict(kind(images), batch_size=batch_size, **EVERYTHING)
    assert isinstance(together, list)
    for found, image in zip(together, images, strict=True):
        assert_close(found, model.predict(image, **EVERYTHING))


def test_no_images(model: Predictor) -> None:
    assert model.predict([]) == model.predict(()) == model.predict_images([]) == []


@pytest.mark.parametrize("nms", NMS_MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_odd_sizes(model: Predictor, size: tuple[int, int], nms: str) -> None:
    found = model.predict(some_pixels(*size), nms=nms, max_detections=5, **EVERYTHING)
    height, width = size
    assert 0 < len(found) <= 5
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes <= torch.tensor([width, height, width, height])).all())
    assert found.masks.shape == (len(found), height, width)
    assert len(found.rle()) == len(found.polygons()) == len(found)


def test_thresholds(model: Predictor) -> None:
    image = some_pixels()
    everything = model.predict(image, **EVERYTHING)
    middle = float(everything.scores.median())
    above = model.predict(image, **EVERYTHING | {"score_threshold": middle})
    assert torch.equal(above.scores, everything.scores[everything.scores > middle])
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
def test_wrong_options_are_refused_by_name(model: Predictor, options: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected"):
        model.predict([some_pixels()], **options)


def test_unreadable_images_are_named(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        model.predict([some_pixels(), tmp_path / "gone.png"])


def test_results_are_ordinary_tensors(model: Predictor) -> None:
    assert torch.is_grad_enabled()
    found = model.predict(some_pixels(), **EVERYTHING)
    assert torch.is_grad_enabled()
    for tensor in (found.boxes, found.labels, found.scores, found.masks):
        assert not tensor.requires_grad
        assert not tensor.is_inference()
    found.boxes.add_(1)
    (found.scores * torch.ones(1, requires_grad=True)).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_prediction_runs_in_evaluation_mode_and_training_goes_on(model: Predictor) -> None:
    image = some_pixels()
    wanted = model.predict(image, **EVERYTHING)
    model = deepcopy(model)
    model.network.train()
    assert_equal(model.predict(image, **EVERYTHING), wanted)
    output = model.network.train()(torch.zeros(2, 3, 64, 64))
    (output.box_deltas * output.anchors).sum().backward()
    assert model.network.head.box.weight.grad is not None


def test_threads_do_not_disturb_each_other(model: Predictor) -> None:
    images = [some_pixels(20 + index, 30, index) for index in range(8)]
    wanted = [model.predict(image, **EVERYTHING) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(
            pool.map(lambda image: model.predict(image, **EVERYTHING), images), wanted, strict=True
        ):
            assert_close(found, alone)


def test_timings_name_the_stages(model: Predictor) -> None:
    timings: dict[str, float] = {}
    image = torch.from_numpy(some_pixels()).permute(2, 0, 1)
    model.predict_images([image], timings=timings)
    assert set(timings) == {"preprocess", "network", "postprocess"}
    once = dict(timings)
    model.predict_images([image], timings=timings)
    assert all(timings[stage] > once[stage] > 0 for stage in once)


def test_save_and_load(model: Predictor, weights: Path) -> None:
    loaded = protomask.load(weights, device="cpu")
    assert loaded.source == str(weights)
    assert loaded.class_names == NAMES
    assert not loaded.network.training
    assert_close(loaded.predict(some_pixels(), **EVERYTHING), model.predict(some_pixels(), **EVERYTHING))
    assert str(weights) in repr(loaded)


def test_half_precision_files_predict_nearly_the_same(model: Predictor, tmp_path: Path) -> None:
    path = save_weights(model.network, tmp_path / "half.safetensors", dtype=torch.float16)
    image = some_pixels()
    found, wanted = protomask.load(path, device="cpu").predict(image, **EVERYTHING), model.predict(image, **EVERYTHING)
    torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=0.01)


def test_class_names_of_ones_own_file_cannot_be_changed(weights: Path) -> None:
    assert protomask.load(weights, class_names=NAMES, device="cpu").class_names == NAMES
    with pytest.raises(ConfigError, match=r"class_names: .* brings its own, nut, bolt, gear; got a, b, c"):
        protomask.load(weights, class_names=["a", "b", "c"])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("yolact_resnet51", CheckpointError, "no such file, and no model of that name; known models: yolact_nano, "),
        ("gone.pth", CheckpointError, r"gone\.pth: no such file"),
        ("hf://owner/repository", ConfigError, "expected hf://owner/repository/file"),
        ("hf://owner", ConfigError, "expected hf://owner/repository/file"),
        ("hf:///a/b", ConfigError, "expected hf://owner/repository/file"),
        (".", CheckpointError, "no such file"),
    ],
)
def test_sources_that_do_not_exist(
    source: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        protomask.load(source)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(CheckpointError, match=r"model\.bin: expected a \.safetensors, \.pth, \.pt or \.pkl file"):
        protomask.load(path)


def test_files_of_the_hub(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repository: str, filename: str) -> Path:
        asked.append((repository, filename))
        return weights

    monkeypatch.setattr("protomask.checkpoints.sources.fetch_from_hub", fetch)
    assert protomask.load("hf://owner/repository/folder/tiny.safetensors", device="cpu").class_names == NAMES
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
def test_cuda_gives_what_the_cpu_gives(model: Predictor, weights: Path, where: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    images = [torch.from_numpy(some_pixels(seed=seed)).permute(2, 0, 1) for seed in range(2)]
    on_gpu = protomask.load(weights, device="cuda").predict([image.to(where) for image in images], **EVERYTHING)
    for found, wanted in zip(on_gpu, model.predict(images, **EVERYTHING), strict=True):
        assert found.boxes.device.type == "cpu"
        torch.testing.assert_close(found.scores, wanted.scores, rtol=0, atol=1e-2)


@pytest.mark.slow
def test_an_official_file_through_the_front_door(golden_dir: Path, tmp_path: Path) -> None:
    golden = golden_dir / "yolact"
    torch.save(golden_weights(golden / "yolact_resnet50.state_dict.json"), tmp_path / "mine.pth")
    official = protomask.load(tmp_path / "mine.pth", model="yolact_resnet50", device="cpu")
    found = official.predict(golden / "inputs" / "image1.png", score_threshold=0.15)
    with np.load(golden / "yolact_resnet50.image1.npz") as wanted:
        assert found.labels.tolist() == wanted["post15.class"].tolist()
        np.testing.assert_allclose(found.scores.numpy(), wanted["post15.score"], atol=1e-4)
        assert np.abs(found.boxes.numpy().astype(int) - wanted["post15.box"]).max() <= 1


def test_predictions_follow_weights_that_change(model: Predictor) -> None:
    predictor = Predictor(deepcopy(model.network))
    before = predictor.predict(some_pixels(), **EVERYTHING)
    assert_equal(predictor.predict(some_pixels(), **EVERYTHING), before)
    with torch.no_grad():
        predictor.network.backbone.body["conv1"][0].weight.mul_(2)
        predictor.network.head.classify.bias.add_(torch.linspace(-1, 1, len(predictor.network.head.classify.bias)))
    assert not torch.equal(predictor.predict(some_pixels(), **EVERYTHING).scores, before.scores)
    assert set(predictor.state_dict()) == {f"network.{key}" for key in model.network.state_dict()}


def test_bf16_finds_nearly_the_same() -> None:
    photo = protomask.load(device="cpu"), protomask.load(device="cpu", precision="bf16")
    scene = next((Path(protomask.__file__).parent / "samples").glob("*.jpg"))
    full, half = (predictor.predict(scene) for predictor in photo)
    assert len(full) == len(half) > 0
    assert torch.equal(full.labels, half.labels)
    torch.testing.assert_close(full.scores, half.scores, rtol=0, atol=0.05)
    shared = (full.masks & half.masks).flatten(1).sum(1) / (full.masks | half.masks).flatten(1).sum(1)
    assert float(shared.mean()) > 0.9


def test_bf16_of_a_two_stage_model(golden_dir: Path) -> None:
    predictor = Predictor(
        protomask.build("ms_rcnn_resnet50_fpn", num_classes=3, device="cpu", image_size=64, fpn_channels=16,
                        head_channels=8).network,
        precision="bf16",
    )  # fmt: skip
    found = predictor.predict(some_pixels(), **EVERYTHING)
    assert found.scores.dtype == torch.float32
    assert found.masks.shape == (len(found), 40, 50)


def test_an_unknown_precision_is_named(model: Predictor) -> None:
    with pytest.raises(ConfigError, match="precision: expected one of float32, bf16, fp16, got 'int4'"):
        Predictor(model.network, precision="int4")


def test_shipped_nuclei_are_found_in_small_and_large_images() -> None:
    """Bright spots on a dark ground, as under a fluorescence microscope."""
    rows, columns = np.mgrid[0:300, 0:300]
    generator = np.random.default_rng(0)
    picture = generator.normal(12, 3, (300, 300))
    places = [(y, x) for y in range(30, 300, 48) for x in range(30, 300, 48)]
    for y, x in places:
        height, width = generator.uniform(8, 13, 2)
        distance = np.hypot((rows - y) / height, (columns - x) / width)
        picture += 110 / (1 + np.exp((distance - 1) * 12))
    image = np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    model = protomask.load("nuclei", device="cpu")
    assert model.class_names == ("nucleus",)
    for options in ({}, {"tile": 200}):
        found = model.predict(image, score_threshold=0.5, **options)
        assert len(found) == len(places)
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        distances = torch.cdist(centres, torch.tensor(places, dtype=torch.float32).flip(1))
        assert distances.min(dim=0).values.max() < 3
        assert all(200 < int(mask.sum()) < 700 for mask in found.masks)
