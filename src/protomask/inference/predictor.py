"""From an image to instances: the object that `protomask.load` returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from protomask.checkpoints.io import save_weights
from protomask.checkpoints.sources import load_network
from protomask.errors import ConfigError
from protomask.inference.base import Clock, ImagePredictor
from protomask.inference.runtime import EXPORTED_SUFFIXES, ExportedPredictor, load_exported
from protomask.models.build import build_network
from protomask.models.config import ModelConfig
from protomask.models.families import family_of
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.network import Network
from protomask.models.zoo import DEFAULT_MODEL
from protomask.structures.geometry import PaddedImages
from protomask.structures.instances import Instances

Precision = Literal["float32", "bf16", "fp16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor(ImagePredictor, nn.Module):
    """A PyTorch network with everything around it: reading, geometry, NMS, masks in the original frame.

    Predictions run on a copy with its batch norms folded, made at the first one and again whenever the weights have
    changed; ``network`` itself stays as it is.

    Args:
        network: trained, any device.
        source: where its weights come from, for messages.
        precision: of the network's arithmetic in predictions.
        compile: let `torch.compile` translate the network at the first prediction (takes a minute, needs a C++
            compiler on a CPU), with CUDA graphs on a GPU.

    Raises:
        ConfigError: unknown precision.

    """

    def __init__(
        self, network: Network, source: str = "untrained", *, precision: Precision = "float32", compile: bool = False
    ) -> None:
        super().__init__()
        if precision not in _DTYPES:
            raise ConfigError(f"precision: expected one of {', '.join(_DTYPES)}, got {precision!r}")
        self.network = network
        self.source = source
        self.precision = precision
        self.compile_network = compile
        # In a tuple, or its weights would count as this module's.
        self._prepared: tuple[Network, list[Tensor], list[tuple[int, int]]] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.network.class_names

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        return self.network.config

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.network.parameters()).device

    def extra_repr(self) -> str:
        return f"source={self.source!r}, precision={self.precision!r}"

    def forward(self, images: Tensor | PaddedImages) -> Any:
        """The bare network on a batch of its geometry; see `Yolact.forward` and `MaskRCNN.forward`."""
        return self.network(images)

    def predict_batch(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        """See `ImagePredictor.predict_batch`."""
        if not images:
            return []
        self.network.eval()
        network = self._for_inference()
        clock = Clock(timings, self.device)
        with torch.inference_mode(), self._autocast():
            batch = network.geometry.batch([self._preprocess(image) for image in images])
            batch = batch.contiguous(memory_format=torch.channels_last)
            clock.stage("preprocess")
            output = network(batch)
            clock.stage("network")
        # Not in inference mode: the results are ordinary tensors that a caller may change or train on.
        with torch.no_grad(), self._autocast():
            found = network.postprocess(output, [(image.shape[1], image.shape[2]) for image in images], **options)
            clock.stage("postprocess")
        return found

    def _preprocess(self, image: Tensor) -> Tensor:
        geometry, device = self.network.geometry, self.device
        if device.type == "cuda" and geometry.resize_method == "float":
            # A quarter of the bytes to move, and the GPU resizes.
            image = image.pin_memory().to(device, non_blocking=True) if image.is_cpu else image.to(device)
        return geometry.preprocess(image).to(device)

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self.precision]
        # Weights are cast once, when the copy is made, not in every prediction.
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)

    def _for_inference(self) -> Network:
        """The copy that predicts, made anew if the weights are no longer those it was made from."""
        if self._prepared is not None:
            network, tensors, state = self._prepared
            if _state_of(tensors) == state:  # to find the tensors again would take ten times as long as to look at them
                return network
        tensors = [*self.network.parameters(), *self.network.buffers()]
        network = prepare_for_inference(self.network, _DTYPES[self.precision])
        if self.compile_network:
            _compile(network)
        self._prepared = (network, tensors, _state_of(tensors))
        return network

    def save(self, path: str | Path, **details: Any) -> Path:
        """Write the weights to one .safetensors file; see `protomask.checkpoints.io.save_weights`."""
        return save_weights(self.network, path, **details)


def _state_of(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """What changes when a tensor is written to or replaced by another."""
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _compile(network: Network) -> None:
    parts = family_of(network.config).compiled_parts
    for part in parts:
        getattr(network, part).compile()
    if not parts:
        on_gpu = next(network.parameters()).is_cuda
        network.compile(mode="reduce-overhead" if on_gpu else "default")


def load(
    source: str | Path | None = None,
    *,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    precision: Precision = "float32",
    compile: bool = False,
) -> Predictor | ExportedPredictor:
    """Load a trained model, ready to predict.

    Args:
        source: zoo name (its published weights are downloaded once), file of ours (.safetensors), file of the official
            code or of MMDetection (.pth), ``hf://owner/repository/file``, or file of `protomask.export` (.onnx, .xml);
            the model that ships with the package when not given.
        model: zoo name of the network in a foreign file whose file name does not tell.
        class_names: of a foreign file that was trained on other classes than the zoo's.
        device: auto, cpu, cuda, cuda:1, mps; auto takes the best there is.
        precision: float32, bf16 or fp16, of the network's arithmetic. Below float32 scores differ in the third digit.
        compile: see `Predictor`.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown name or device, or an exported file with an argument that only the others have.
        MissingExtraError: the runtime of an exported file is not installed.

    """
    source = DEFAULT_MODEL if source is None else source
    if str(source).endswith(EXPORTED_SUFFIXES):
        if model is not None or class_names is not None or compile or device not in ("auto", "cpu"):
            raise ConfigError(
                f"{source}: expected an exported file without model, class_names and compile, on the device auto or cpu"
            )
        return load_exported(source, precision=precision)
    network = load_network(source, model=model, class_names=class_names)
    return _ready(Predictor(network, str(source), precision=precision, compile=compile), device)


def build(
    model: str = DEFAULT_MODEL,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    pretrained_backbone: bool = False,
    device: str = "auto",
    **overrides: Any,
) -> Predictor:
    """Make an untrained model; arguments as in `protomask.models.build.build_network`, and ``device`` as in `load`."""
    network = build_network(
        model,
        class_names=class_names,
        num_classes=num_classes,
        pretrained_backbone=pretrained_backbone,
        **overrides,
    )
    return _ready(Predictor(network), device)


def _ready(predictor: Predictor, device: str) -> Predictor:
    predictor.to(resolve_device(device)).to(memory_format=torch.channels_last)
    predictor.eval()
    return predictor


def resolve_device(device: str) -> torch.device:
    """A device by name; "auto" is cuda, else mps, else cpu.

    Raises:
        ConfigError: no such device on this machine.

    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: expected auto, cpu, cuda, cuda:N or mps, got {device!r}") from error
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable.get(chosen.type, False):
        there = ", ".join(kind for kind, is_there in usable.items() if is_there)
        raise ConfigError(f"device: {device!r} is not available on this machine (there is: {there})")
    return chosen
