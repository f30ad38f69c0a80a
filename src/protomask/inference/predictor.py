"""From an image to instances: the object that `protomask.load` returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, overload

import torch
from torch import Tensor, nn

from protomask.checkpoints.io import load_network, save_weights
from protomask.errors import ConfigError
from protomask.inference.sources import ImageSource, read_image
from protomask.models.config import NmsMode
from protomask.models.rcnn.model import RCNNOutput
from protomask.models.yolact.heads import YolactOutput
from protomask.models.zoo import DEFAULT_MODEL, Network, build_network
from protomask.structures.geometry import PaddedImages
from protomask.structures.instances import Instances

STAGES = ("decode", "preprocess", "network", "postprocess")


class Predictor(nn.Module):
    """A network with everything around it: reading, geometry, NMS, masks in the original frame.

    Args:
        network: trained, any device.
        source: where its weights come from, for messages.

    """

    def __init__(self, network: Network, source: str = "untrained") -> None:
        super().__init__()
        self.network = network
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.network.class_names

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.network.parameters()).device

    def extra_repr(self) -> str:
        return f"source={self.source!r}"

    def forward(self, images: Tensor | PaddedImages) -> YolactOutput | RCNNOutput:
        """The bare network on a batch of its geometry; see `Yolact.forward` and `MaskRCNN.forward`."""
        output: YolactOutput | RCNNOutput = self.network(images)
        return output

    @overload
    def predict(self, source: Sequence[ImageSource], **options: Any) -> list[Instances]: ...

    @overload
    def predict(self, source: ImageSource, **options: Any) -> Instances: ...

    def predict(  # type: ignore[misc]  # the overloads leave the options to this signature
        self,
        source: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
        *,
        score_threshold: float = 0.3,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        nms: NmsMode | None = None,
        candidate_threshold: float | None = None,
        batch_size: int = 8,
    ) -> Instances | list[Instances]:
        """Find the instances of one image, or of each image of a list.

        Args:
            source: path, PIL image, (H, W, 3) uint8 RGB array or (3, H, W) uint8 RGB tensor; or a list of these.
            score_threshold: return only what scores above this; 0 returns all of ``max_detections``.
            iou_threshold: overlap above which NMS suppresses; the model's own (0.5) when not given.
            max_detections: at most so many instances per image; the model's own (100) when not given.
            nms: fast, cross_class_fast, batched, soft_linear or soft_gaussian; the model's own when not given.
            candidate_threshold: which anchors are looked at at all; the model's own (0.05) when not given.
            batch_size: images of a list that go through the network together.

        Returns:
            `Instances` in the frame of the original image, best first; a list of them for a list.

        Raises:
            DataError: an image cannot be read; the message names it.
            ConfigError: an option is out of range.

        """
        options: dict[str, Any] = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "nms": nms,
            "candidate_threshold": candidate_threshold,
        }
        if isinstance(source, list | tuple):
            if batch_size < 1:
                raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
            found: list[Instances] = []
            for start in range(0, len(source), batch_size):
                images = [read_image(item) for item in source[start : start + batch_size]]
                found += self.predict_images(images, **options)
            return found
        return self.predict_images([read_image(source)], **options)[0]

    def predict_images(
        self, images: Sequence[Tensor], *, timings: dict[str, float] | None = None, **options: Any
    ) -> list[Instances]:
        """`predict` for images that are already read, in one batch.

        Args:
            images: (3, H, W) uint8 RGB each, any sizes.
            timings: seconds of each stage are added to it when given.
            options: as in `predict`.

        """
        if not images:
            return []
        self.network.eval()
        clock = _Clock(timings, self.device)
        with torch.inference_mode():
            geometry = self.network.geometry
            batch = geometry.batch([geometry.preprocess(image).to(self.device) for image in images])
            batch = batch.contiguous(memory_format=torch.channels_last)
            clock.stage("preprocess")
            output = self.network(batch)
            clock.stage("network")
        # Not in inference mode: the results are ordinary tensors that a caller may change or train on.
        with torch.no_grad():
            found = self.network.postprocess(output, [(image.shape[1], image.shape[2]) for image in images], **options)
            clock.stage("postprocess")
        return found

    def save(self, path: str | Path, **details: Any) -> Path:
        """Write the weights to one .safetensors file; see `protomask.checkpoints.io.save_weights`."""
        return save_weights(self.network, path, **details)


class _Clock:
    """Adds the time since the last call to a stage, if anybody wants to know."""

    def __init__(self, timings: dict[str, float] | None, device: torch.device) -> None:
        self._timings = timings
        self._device = device
        self._last = perf_counter()

    def stage(self, name: str) -> None:
        if self._timings is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = perf_counter()
        self._timings[name] = self._timings.get(name, 0.0) + now - self._last
        self._last = now


def load(
    source: str | Path | None = None,
    *,
    model: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
) -> Predictor:
    """Load a trained model, ready to predict.

    Args:
        source: zoo name (its published weights are downloaded once), file of ours (.safetensors), file of the official
            code or of MMDetection (.pth), or ``hf://owner/repository/file``; the model that ships with the package when
            not given.
        model: zoo name of the network in a foreign file whose file name does not tell.
        class_names: of a foreign file that was trained on other classes than the zoo's.
        device: auto, cpu, cuda, cuda:1, mps; auto takes the best there is.

    Raises:
        CheckpointError: weights cannot be found, read, or do not fit.
        ConfigError: unknown name or device.

    """
    source = DEFAULT_MODEL if source is None else source
    return _ready(Predictor(load_network(source, model=model, class_names=class_names), str(source)), device)


def build(
    model: str = DEFAULT_MODEL,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    pretrained_backbone: bool = False,
    device: str = "auto",
    **overrides: Any,
) -> Predictor:
    """Make an untrained model; arguments as in `protomask.models.zoo.build_network`, and ``device`` as in `load`."""
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
