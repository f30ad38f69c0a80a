"""The public face: what `import protomask` offers, one typed function per verb.

Functions import what they need when they are called, so that nothing here waits for PyTorch, or asks for it where it is
not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from protomask.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from protomask.inference.predictor import Predictor
    from protomask.torch_runtime.predictor import TorchPredictor

Precision = Literal["float32", "bf16", "fp16"]
Runtime = Literal["auto", "torch", "onnx", "openvino"]
DEFAULT_MODEL = "yolact_nano"


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
) -> Predictor:
    """Load a trained model, ready to predict.

    Args:
        source: name of a shipped model; zoo name (its published weights are downloaded once); file of ours
            (.safetensors), file of another codebase (.pth, .pkl), ``hf://owner/repository/file``; or file of
            `protomask export` (.onnx, .xml). The shipped default when not given.
        runtime: what runs the network. "auto" runs shipped models and .onnx files in ONNX Runtime, .xml files in
            OpenVINO, and everything else in PyTorch, as it does where a device, precision or compilation is asked for
            that only PyTorch has.
        model: zoo name of the network in a foreign file whose file name does not tell.
        class_names: of a foreign file that was trained on other classes than the zoo's.
        device: auto, cpu, cuda, cuda:1, mps; auto takes the best there is.
        precision: float32, bf16 or fp16, of the network's arithmetic. Below float32 scores differ in the third digit.
        compile: let `torch.compile` translate the network at the first prediction.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown name, runtime or device, or arguments that do not go together.
        MissingExtraError: the runtime is not installed; the message says which extra brings it.

    """
    from protomask.runtimes.exported import EXPORTED_SUFFIXES
    from protomask.runtimes.load import load_exported
    from protomask.runtimes.shipped import SHIPPED, shipped_file

    if runtime not in ("auto", "torch", "onnx", "openvino"):
        raise ConfigError(f"runtime: expected auto, torch, onnx or openvino, got {runtime!r}")
    name = str(DEFAULT_MODEL if source is None else source)
    needs_torch = {
        "model": model is not None and model != name,
        "class_names": class_names is not None,
        "compile": compile,
        "device": device not in ("auto", "cpu"),
        "precision": precision != "float32" and runtime != "openvino",
    }
    if name.endswith(EXPORTED_SUFFIXES):
        if runtime == "torch":
            raise ConfigError(f"runtime: expected auto, onnx or openvino for the exported file {name}, got torch")
        wrong = [key for key in ("model", "class_names", "compile", "device") if needs_torch[key]]
        if wrong:
            raise ConfigError(f"{', '.join(wrong)}: expected none with the exported file {name}, which has settled it")
        return load_exported(name, runtime=runtime, precision=precision)
    if name in SHIPPED and (runtime in ("onnx", "openvino") or (runtime == "auto" and not any(needs_torch.values()))):
        with shipped_file(name) as path:
            return load_exported(path, runtime=runtime, source=name, precision=precision)
    if runtime in ("onnx", "openvino"):
        raise ConfigError(f"runtime: expected torch for {name}, got {runtime}; export the model to run it there")
    return _load_torch(name, model=model, class_names=class_names, device=device, precision=precision, compile=compile)


def _load_torch(
    source: str,
    *,
    model: str | None,
    class_names: Sequence[str] | None,
    device: str,
    precision: Precision,
    compile: bool,
) -> TorchPredictor:
    with needing_torch(f"{source}: running it"):
        from protomask.checkpoints.io import load_network
        from protomask.torch_runtime.predictor import TorchPredictor, ready

    network = load_network(source, model=model, class_names=class_names)
    return ready(TorchPredictor(network, source, precision=precision, compile=compile), device)


def build(
    model: str = DEFAULT_MODEL,
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
        num_classes: number of classes where they have no names yet.
        class_names: names of the classes.
        pretrained_backbone: start from published ImageNet weights of the backbone (downloads them).
        device: as in `load`.
        overrides: fields of the model's config to change, for example ``image_size=400``.

    Raises:
        ConfigError: unknown name or field, wrong value, or names and number that disagree.
        MissingExtraError: PyTorch is not installed.

    """
    with needing_torch("building a network"):
        from protomask.models.build import build_network
        from protomask.torch_runtime.predictor import TorchPredictor, ready

    network = build_network(
        model,
        class_names=class_names,
        num_classes=num_classes,
        pretrained_backbone=pretrained_backbone,
        **overrides,
    )
    return ready(TorchPredictor(network), device)


class needing_torch:
    """Turns the import errors of its block into one that says which extra is missing.

    Args:
        what: needs the network half, for the message.

    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("protomask"):
            raise MissingExtraError(
                f"{self.what} needs PyTorch and what belongs to it ({error.name} is not installed): "
                "pip install 'protomask[torch]'"
            ) from error
