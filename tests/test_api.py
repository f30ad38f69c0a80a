"""What `import protomask` offers, from loading a model to exporting it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import protomask
from protomask import CocoMetrics, ConfigError, DataError, PredictOptions
from protomask.checkpoints.io import load_weights
from protomask.data.synthetic.write import write_dataset
from protomask.engine.result import TrainResult
from protomask.exporting.agreement import Agreement
from protomask.runtimes.onnx import OnnxPredictor
from protomask.torch_runtime.predictor import TorchPredictor

SCENES = sorted(Path(str(files("protomask"))).joinpath("samples").glob("*.jpg"))
FIRST_SHAPE = (512, 512, 3)
"""Of the first of them."""
TINY: dict[str, Any] = {
    "backbone": "shufflenet_v2_x1_0", "fpn_channels": 8, "protonet_channels": 8, "num_prototypes": 4,
}  # fmt: skip


class Recorder:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, Any]] = []
        self.validations: list[Mapping[str, Any]] = []

    def on_step(self, metrics: Mapping[str, Any]) -> None:
        self.steps.append(metrics)

    def on_validation(self, metrics: Mapping[str, Any]) -> None:
        self.validations.append(metrics)

    def message(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes that the shipped model knows."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_dataset(folder, images=4, val_images=3, seed=2, image_size=(128, 128))
    return folder


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def trained(data: Path, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return protomask.train(
        data, model="yolact_nano", output=tmp_path_factory.mktemp("runs") / "run", reporter=recorder, image_size=64,
        model_options=TINY, pretrained_backbone=False, epochs=1, batch_size=2, num_workers=0, device="cpu", log_every=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> TorchPredictor:
    return protomask.load("yolact_nano", runtime="torch", device="cpu")


# Load and build


def test_the_default_is_a_shipped_model_in_onnx_runtime() -> None:
    assert protomask.list_models()[0] == "everyday"
    for model in (protomask.load(), protomask.load("everyday", runtime="onnx", device="cpu", threads=1)):
        assert type(model) is OnnxPredictor
        assert (model.source, model.model_name, model.device) == ("everyday", "everyday", "cpu")


def test_shipped_models_run_in_openvino_too() -> None:
    pytest.importorskip("openvino")
    from protomask.runtimes.openvino import OpenVinoPredictor

    model = protomask.load("nuclei", runtime="openvino", precision="bf16")
    assert type(model) is OpenVinoPredictor
    assert (model.source, model.class_names) == ("nuclei", ("nucleus",))


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"compile": True}, {"runtime": "torch"}], ids=str)
def test_what_only_pytorch_has_brings_pytorch(changes: dict[str, Any]) -> None:
    model = protomask.load("yolact_nano", **{"device": "cpu", **changes})
    assert isinstance(model, TorchPredictor)
    assert model.precision == changes.get("precision", "float32")
    assert model.compile_network == changes.get("compile", False)
    assert not model.network.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "tensorrt"}, "runtime: expected auto, torch, onnx or openvino, got 'tensorrt'"),
        ({"runtime": "onnx", "device": "cuda"}, "device: expected none with runtime onnx"),
        ({"runtime": "openvino", "device": "mps"}, "device: expected none with runtime openvino"),
        (
            {"runtime": "onnx", "compile": True, "class_names": ["a"]},
            "class_names, compile: expected none with runtime",
        ),
        ({"runtime": "onnx", "precision": "fp16"}, "precision: expected float32 in ONNX Runtime, got 'fp16'"),
        ({"runtime": "torch", "device": "tpu"}, "device: "),
        ({"device": "tpu"}, "device: "),
        ({"runtime": "torch", "precision": "int4"}, "precision: expected one of float32, bf16, fp16, got 'int4'"),
        ({"source": "yolact_resnet50", "runtime": "onnx"}, "runtime: expected torch for yolact_resnet50, got onnx"),
    ],
    ids=str,
)
def test_runtimes_devices_and_precisions_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        protomask.load(**changes)


def test_a_model_is_built_untrained() -> None:
    model = protomask.build("yolact_nano", class_names=("nut", "bolt"), device="cpu", image_size=64, **TINY)
    assert model.class_names == ("nut", "bolt")
    assert model.predict(np.zeros((40, 50, 3), dtype=np.uint8), score_threshold=0).image_size == (40, 50)
    assert len(protomask.build(num_classes=3, device="cpu", **TINY).class_names) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "yolact_nanny"}, "yolact_nanny"),
        ({"class_names": ("a", "b"), "num_classes": 3}, "num_classes"),
        ({"num_classes": 2, "fpn_chanels": 8}, "fpn_chanels"),
        ({"num_classes": 2, "image_size": -1}, "image_size: expected"),
        ({"num_classes": 2, "device": "tpu"}, "^device: "),
    ],
    ids=str,
)
def test_models_that_cannot_be_built(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        protomask.build(**arguments)


# Train


def test_training_leaves_weights_and_metrics(trained: TrainResult, recorder: Recorder) -> None:
    assert (trained.iteration, trained.epoch, trained.interrupted) == (2, 1, False)
    assert trained.best.is_file()
    assert trained.best.parent == trained.output
    assert isinstance(trained.metrics, CocoMetrics)
    assert trained.metrics.num_images == 3
    assert [step["iteration"] for step in recorder.steps] == [1, 2]
    assert len(recorder.validations) == 1


def test_what_was_trained_is_loaded_from_its_folder_or_its_file(trained: TrainResult) -> None:
    wanted = load_weights(trained.best).state_dict()
    for source in (trained.output, str(trained.output), trained.best):
        model = protomask.load(source, device="cpu")
        assert isinstance(model, TorchPredictor)
        assert model.source == str(trained.best)
        found = model.network.state_dict()
        assert all(bool((found[key] == value).all()) for key, value in wanted.items())
    with pytest.raises(ConfigError, match=r"^runtime: expected torch for .*best\.safetensors, got onnx; export"):
        protomask.load(trained.output, runtime="onnx")


def test_a_device_asks_for_pytorch_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(protomask.load(device="cpu"), TorchPredictor)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not isinstance(protomask.load(device="cpu"), TorchPredictor)


def test_settings_come_on_top_of_a_recipe(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("protomask.engine.run.train", lambda config, reporter: seen.append(config))
    protomask.train(str(data), recipe="modern", pretrained_backbone=False, output="runs/a", epochs=3)
    protomask.train(data, pretrained_backbone=False, output="runs/a", epochs=3)
    [modern, plain] = seen
    assert (modern.data, modern.output, modern.epochs) == (str(data), "runs/a", 3)
    assert (modern.optimizer, plain.optimizer) == ("adamw", "sgd")
    assert modern.model is None or modern.model in protomask.list_models()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 4}, "unknown batchsize"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"recipe": "classic"}, "recipe: expected one of .*modern.*; got 'classic'"),
        ({"model": "yolact_nanny"}, "yolact_nanny"),
    ],
    ids=str,
)
def test_wrong_settings_end_before_anything_is_written(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        protomask.train(data, output=tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


# Evaluate


def test_a_model_is_measured_by_name_or_as_it_is(data: Path, shipped: TorchPredictor) -> None:
    by_name = protomask.evaluate("yolact_nano", data=data, batch_size=2)
    assert by_name.num_images == 3
    assert (by_name.tables["mask"].AP or 0) > 0.2
    assert protomask.evaluate("yolact_nano", data=str(data)) == by_name
    with pytest.raises(DataError, match="the categories do not match"):
        protomask.evaluate(data=data)  # the default knows no shapes
    in_torch = protomask.evaluate(shipped, data=data).to_dict()
    assert in_torch["mask"]["AP"] == pytest.approx(by_name.tables["mask"].AP, abs=1e-3)
    assert protomask.evaluate("yolact_nano", data=data, split="train").num_images == 4


def test_weights_and_run_folders_are_measured(data: Path, trained: TrainResult) -> None:
    by_path = protomask.evaluate(trained.best, data=data, score_threshold=0.9)
    assert protomask.evaluate(trained.output, data=data) == by_path
    assert trained.metrics is not None
    for name, table in by_path.tables.items():
        last = trained.metrics.tables[name].AP
        assert pytest.approx(last, abs=1e-3) == table.AP


def test_options_of_a_measurement(data: Path, shipped: TorchPredictor) -> None:
    few = protomask.evaluate(shipped, data=data, options=PredictOptions(max_detections=1))
    assert few.max_detections == (1,)
    more = protomask.evaluate(shipped, data=data, max_detections=5, score_threshold=0.5, errors=True)
    assert more.max_detections == (1, 5)
    assert few.errors is None
    assert more.errors is not None
    assert more.errors.score_threshold == 0.5
    assert more.errors.mask is not None
    assert pytest.approx(more.tables["mask"].AP50, abs=1e-12) == more.errors.mask.AP50
    assert more.to_dict()["errors"] == more.errors.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_detections": 0}, "max_detections: expected"),
        ({"nms": "greedy"}, "nms: expected"),
        ({"scorethreshold": 0.1}, "scorethreshold: no such option, did you mean score_threshold?"),
    ],
    ids=str,
)
def test_wrong_options_of_a_measurement(changes: dict[str, Any], message: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        protomask.evaluate(data=data, **changes)


def test_a_model_of_other_classes_cannot_be_measured(data: Path) -> None:
    with pytest.raises(DataError, match="unknown to the model"):
        protomask.evaluate("nuclei", data=data)


# Export


class Written:
    """In place of the exporter: keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, model: TorchPredictor, output: Path, **arguments: Any) -> Agreement:
        self.calls.append({"model": model, "output": output, **arguments})
        return Agreement(
            images=1, detections=1, unmatched=0, score_difference=0.0, box_difference=0.0, mask_iou=1.0
        )  # fmt: skip


def test_weights_are_exported_whatever_names_them(
    trained: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    monkeypatch.setattr("protomask.exporting.files.export", written)
    protomask.export("yolact_nano", tmp_path / "a.onnx", options=PredictOptions(max_detections=7), nms="batched")
    protomask.export(protomask.load("yolact_nano"), tmp_path / "a.onnx", form="candidates", precision="float16")
    protomask.export(trained.output, str(tmp_path / "a.xml"), images=SCENES[:2], calibration=SCENES[0], licence="MIT")
    named, running, own = written.calls
    assert [call["model"].source for call in written.calls] == ["yolact_nano", "yolact_nano", str(trained.best)]
    assert all(isinstance(call["model"], TorchPredictor) for call in written.calls)
    assert all(call["model"].device.type == "cpu" for call in written.calls)
    assert [len(call["images"]) for call in written.calls] == [len(SCENES), len(SCENES), 2]
    assert named["options"] == PredictOptions(max_detections=7, nms="batched")
    assert (named["form"], named["precision"]) == ("detections", "float32")
    assert (running["form"], running["precision"]) == ("candidates", "float16")
    assert (own["output"], own["licence"]) == (tmp_path / "a.xml", "MIT")
    assert own["calibration"][0].shape == FIRST_SHAPE


def test_files_are_verified_with_some_images_of_the_source_or_of_the_data(
    trained: TrainResult, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    monkeypatch.setattr("protomask.exporting.files.export", written)
    protomask.export(trained.output, tmp_path / "a.onnx", images=SCENES, verify_images=2, search_depth=500)
    protomask.export(trained.output, tmp_path / "a.onnx", data=data, verify_images=2)
    protomask.export(trained.output, tmp_path / "a.onnx", data=data, images=SCENES[0])
    some, own, other = written.calls
    assert (len(some["images"]), some["dataset"], some["search_depth"]) == (2, None, 500)
    assert [len(call["dataset"]) for call in (own, other)] == [3, 3]
    for index, image in enumerate(own["images"]):
        np.testing.assert_array_equal(image, own["dataset"].load_pixels(index))
    assert len(own["images"]) == 2
    assert [image.shape for image in other["images"]] == [FIRST_SHAPE]
    with pytest.raises(ConfigError, match="verify_images: expected at least 1, got 0"):
        protomask.export(trained.output, tmp_path / "a.onnx", verify_images=0)


def test_an_exported_file_is_not_exported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ConfigError, match=r"^model: expected a name or weights .* got the exported file a\.onnx"):
        protomask.export("a.onnx", "b.onnx")


@pytest.mark.slow
def test_a_shipped_model_is_exported_by_name(tmp_path: Path, shipped: TorchPredictor) -> None:
    """The files in the package are made so."""
    path = tmp_path / "again.onnx"
    agreement = protomask.export("yolact_nano", path, form="candidates", precision="float16")
    assert agreement.unmatched == 0
    assert agreement.box_difference < 1e-3
    again, own = protomask.load(path), protomask.load("yolact_nano")
    assert isinstance(again, OnnxPredictor)
    assert isinstance(own, OnnxPredictor)
    assert again.info.replace(protomask_version=own.info.protomask_version) == own.info
    for scene in SCENES:
        found, wanted = again.predict(scene), own.predict(scene)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-2)


# Check


def test_a_sound_data_set_has_no_problems(data: Path) -> None:
    report = protomask.check(data)
    assert report.of("error") == []
    assert {name: split.images for name, split in report.splits.items()} == {"train": 4, "val": 3}
    assert protomask.check(str(data), model=None).of("error") == []


def test_anchors_are_compared_with_the_objects(data: Path) -> None:
    huge = {"anchor_scales": [[900.0]] * 5}
    told = [problem.message for problem in protomask.check(data, model_options=huge).problems]
    assert told != [problem.message for problem in protomask.check(data, model=None).problems]


def test_bad_data_is_told_and_never_raised(tmp_path: Path) -> None:
    assert protomask.check(tmp_path / "nowhere").of("error")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text("{")
    assert protomask.check(tmp_path).of("error")


def test_a_check_has_settings_of_its_own(data: Path) -> None:
    argument: Any = 12
    with pytest.raises(ConfigError, match="data: expected a path, got 12"):
        protomask.check(argument)
    with pytest.raises(ConfigError, match="yolact_nanny"):
        protomask.check(data, model="yolact_nanny")
    with pytest.raises(ConfigError, match="fpn_chanels"):
        protomask.check(data, model_options={"fpn_chanels": 8})
