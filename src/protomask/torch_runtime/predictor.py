"""`TorchPredictor`: a PyTorch network with everything around it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from protomask.checkpoints.io import save_weights
from protomask.detection.calibration import Calibration
from protomask.detection.options import Limits, PredictOptions
from protomask.errors import ConfigError
from protomask.images.decode import Pixels
from protomask.inference.predictor import Clock, Predictor
from protomask.models.config import ModelConfig
from protomask.models.families import at_image_size, family_of, read_output
from protomask.models.inside import Inside
from protomask.models.layers.folding import prepare_for_inference
from protomask.models.network import Network
from protomask.ops.geometry import preprocess_pixels
from protomask.structures.instances import Instances
from protomask.torch_runtime.snapshot import Snapshot

Precision = Literal["float32", "bf16", "fp16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchPredictor(Predictor, nn.Module):
    """A PyTorch network with everything around it: reading, geometry, NMS, masks in the original frame.

    Predictions run on a copy with its batch norms folded, made at the first one and again whenever the weights have
    changed, in whatever way; ``network`` itself stays exactly as it is, also its mode.

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
        if precision not in tuple(_DTYPES):
            raise ConfigError(f"precision: expected one of {', '.join(_DTYPES)}, got {precision!r}")
        self.network = network
        self.source = source
        self.precision = precision
        self.compile_network = compile
        # In a tuple, or its weights would count as this module's.
        self._prepared: tuple[Network, Snapshot, dict[int, Network]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}  # copies and pickles make their own

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.network.class_names

    @property
    def model_name(self) -> str:
        """Name of the model in the zoo that this one comes from."""
        return self.network.config.name

    @property
    def config(self) -> ModelConfig:
        """Config of the network."""
        return self.network.config

    @property
    def calibration(self) -> Calibration | None:
        """See `Predictor.calibration`."""
        return self.network.calibration

    def calibrated(self, calibration: Calibration | None) -> Self:
        """See `Predictor.calibrated`; both share all weights."""
        network: Any = copy(self.network)
        network.calibration = calibration
        return type(self)(network, self.source, precision=self.precision, compile=self.compile_network)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.network.parameters()).device

    def extra_repr(self) -> str:
        return f"source={self.source!r}, precision={self.precision!r}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the bare network, see `forward`.

        Raises:
            ConfigError: this is not a batch in the network's geometry, but perhaps an image.

        """
        given = args[0] if args else next(iter(kwargs.values()), None)
        batch = getattr(given, "tensors", given)  # of padded images
        if not (isinstance(batch, Tensor) and batch.is_floating_point() and batch.ndim == 4):
            return super().__call__()
        return nn.Module.__call__(self, *args, **kwargs)

    def forward(self, images: Any) -> Any:
        """The bare network on a batch of its geometry; `predict` takes images."""
        return self.network(images)

    def limits(self, options: PredictOptions) -> Limits:
        """See `Predictor.limits`."""
        config = self.config if options.image_size is None else self.config.for_input(options.image_size)
        return family_of(config).limits(config, options)

    def predict_batch(
        self, images: Sequence[Pixels], options: PredictOptions, *, timings: dict[str, float] | None = None
    ) -> list[Instances]:
        """See `Predictor.predict_batch`."""
        if not images:
            return []
        network, device = self._for_inference(options.image_size), self.device
        wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
        clock = Clock(timings, wait)
        with torch.inference_mode(), self._autocast():
            batch = network.geometry.batch([preprocess_pixels(image, network.geometry, device) for image in images])
            batch = batch.contiguous(memory_format=torch.channels_last)
            clock.stage("preprocess")
            output = network(batch)
            clock.stage("network")
            found = read_output(network, output, [(image.shape[0], image.shape[1]) for image in images], options)
            clock.stage("postprocess")
        return found

    def look_inside(self, images: Sequence[Pixels], options: PredictOptions) -> tuple[Network, Sequence[Inside]]:
        """What `predict_batch` would see on its way, for explanations.

        Args:
            images: (H, W, 3) uint8 RGB each.
            options: options of the prediction.

        Returns:
            The network that predicts, and what it had inside for each image.

        Raises:
            ConfigError: the family of the network cannot be explained.

        """
        network = self._for_inference(options.image_size)
        family = family_of(network.config)
        if family.look_inside is None:
            raise ConfigError(f"model: expected one that can be explained, got one of the family {family.name}")
        with torch.inference_mode(), self._autocast():
            batch = network.geometry.batch(
                [preprocess_pixels(image, network.geometry, self.device) for image in images]
            )
            output = network(batch.contiguous(memory_format=torch.channels_last))
            sizes = [(image.shape[0], image.shape[1]) for image in images]
            return network, family.look_inside(network, output, sizes, self.scoring(options).of_network(options))

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self.precision]
        # Weights are cast once, when the copy is made, not in every prediction.
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)

    def _for_inference(self, image_size: int | None) -> Network:
        """The copy that predicts at an input size, the network's own by default."""
        network, sizes = self._copy()
        network.calibration = self.network.calibration
        if image_size is None or image_size == network.config.image_size:
            return network
        if image_size not in sizes:
            other = at_image_size(network, image_size)
            if self.compile_network and not family_of(other.config).compiled_parts:  # which are compiled already
                _compile(other)
            sizes[image_size] = other
        sizes[image_size].calibration = network.calibration
        return sizes[image_size]

    def _copy(self) -> tuple[Network, dict[int, Network]]:
        """The copy that predicts, and itself at other input sizes; made again when the weights have changed."""
        if self._prepared is not None:
            network, snapshot, sizes = self._prepared
            if snapshot.holds():
                return network, sizes
        wrong = {tensor.dtype for tensor in self.network.parameters()} - {torch.float32}
        if wrong:
            raise ConfigError(
                "precision: expected a network whose weights are float32, got "
                f"{str(wrong.pop()).removeprefix('torch.')}; "
                'call model.float(), and for predictions in lower precision load(..., precision="fp16" or "bf16")'
            )
        network = prepare_for_inference(self.network, _DTYPES[self.precision])
        snapshot = Snapshot(self.network, network)
        if self.compile_network:
            _compile(network)
        self._prepared = (network, snapshot, {})
        return network, self._prepared[2]

    def save(self, path: str | Path, **details: Any) -> Path:
        """Write the weights to one .safetensors file; see `protomask.checkpoints.io.save_weights`."""
        return save_weights(self.network, path, **details)


def _compile(network: Network) -> None:
    parts = family_of(network.config).compiled_parts
    if parts:
        for name in parts:
            getattr(network, name).compile()
    else:
        on_gpu = next(network.parameters()).is_cuda
        network.compile(mode="reduce-overhead" if on_gpu else "default")


def resolve_device(device: str) -> torch.device:
    """A device by name; "auto" is cuda, else mps, else cpu.

    Raises:
        ConfigError: no such device on this machine.

    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
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


def ready(predictor: TorchPredictor, device: str) -> TorchPredictor:
    """The predictor on a device, in the layout of memory that is fastest there."""
    predictor.to(resolve_device(device)).to(memory_format=torch.channels_last)
    predictor.eval()
    return predictor
