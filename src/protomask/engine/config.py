"""Settings of one training run: what `protomask train --help` shows and `config.yaml` in the run folder holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from protomask.data.training.augmentation import AugmentationConfig
from protomask.errors import ConfigError
from protomask.files import replacing

Part = Literal["mask_rescoring", "mask_iou"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run.

    Attributes:
        data: Data set: a folder with annotations/{train,val}.json and images/{train,val}/, or a YAML file naming the
            four paths.
        model: Name of the model in the zoo (`protomask models` lists them); by default that of the weights, else
            yolact_nano.
        weights: Weights to start from: a zoo name with published weights or a file. Layers that depend on the number of
            classes are made anew where it differs.
        pretrained_backbone: Start the backbone from published ImageNet weights (downloaded once) where no weights
            are given.
        backbone_weights: File with ImageNet weights to start the backbone from (.pth or .safetensors of torchvision or
            timm), for machines without internet.
        add: A part that the model gets in addition, which estimates how good each mask is: "mask_rescoring" for
            YOLACT, "mask_iou" for Mask R-CNN.
        train_only: Train this part alone and leave everything else as it is in the weights.
        output: Run folder, made by the run. An existing run is only touched with resume.
        resume: Continue the run in the output folder where it stopped.
        image_size: Side of the network input in pixels, of a Mask R-CNN the short side; the model's own by default.
        model_options: Further fields of the model's configuration to change, by name.
        epochs: Length of the run in passes over the training images.
        iterations: Length of the run in optimizer steps; takes the place of epochs.
        batch_size: Images that each process takes at once. The learning rate is multiplied by (images per step) / 8.
        accumulate: Batches of each process that make up one step, where memory is short.
        optimizer: "sgd" with momentum (published) or "adamw".
        learning_rate: Learning rate at 8 images per step, after the warm-up.
        schedule: "step" divides the rate by ten at each of lr_steps (published), "cosine" lets it fall
            smoothly to zero, "one_cycle" lets it rise and fall, without the warm-up.
        lr_steps: Where the steps come, as fractions of the run.
        warmup_iterations: Length of the linear warm-up, at most a tenth of the run.
        warmup_init: Learning rate of the first iteration.
        momentum: Momentum of SGD; of AdamW the first beta.
        weight_decay: Weight decay.
        bias_learning_rate_factor: Biases learn at so many times the rate (2 for official Mask R-CNNs).
        bias_weight_decay: Whether weight decay holds for biases too (it does not for official Mask R-CNNs).
        clip_gradient: Shorten gradients to at most this norm; not by default.
        ema_decay: Validate and keep a moving average of the weights, which remembers so much of the past in each step
            (0.999, say); not by default.
        label_smoothing: Share of the class targets that is spread over all classes, in [0, 1).
        patience: End the run when so many validations in a row have brought no better mask AP; never by default.
        max_bad_steps: Give up after so many steps in a row whose loss or gradient is not finite.
        sync_batch_norm: Let all processes share the statistics of batch norm (CUDA only).
        frozen_stages: Fix the first layers of the backbone: 1 for those of stride 2 (the stem), 2 also for those of
            stride 4 (layer1 of a ResNet), up to 5 for all.
        freeze_bn: Fix batch norm: true, false, or "auto" for the published rule, which does so for batches below 6.
        augmentation: Random changes of the training images.
        check_data: Look for trouble in the data set before the run starts: errors stop it, warnings are told. The verb
            "data check" looks at everything.
        overfit: Check that training works: learn the first so many training images, unchanged, and validate on the
            same. Their mask AP should come close to 1.
        validate_every: Epochs between two validations; the last epoch is always validated.
        max_detections: Detections per image that validation counts; COCO's rule is 100, crowded images need more.
        checkpoint_minutes: Longest time between two saved states of the run.
        log_every: Iterations per line of metrics.jsonl.
        trackers: Where the lines of metrics.jsonl and the settings go as well: any of "tensorboard", "wandb", "mlflow",
            "trackio".
        tracker_project: Project (wandb, trackio) or experiment (mlflow) that the run belongs to there.
        seed: Seed of everything random.
        num_workers: Processes that load images; 0 loads in the training process.
        device: "auto" takes a CUDA or Apple GPU if there is one, else the CPU; or "cpu", "cuda", "mps".
        mixed_precision: "no", "bf16" or "fp16".
        channels_last: Keep images and weights in channels-last order, faster on most CPUs and GPUs.

    """

    data: str
    model: str | None = None
    weights: str | None = None
    pretrained_backbone: bool = True
    backbone_weights: str | None = None
    add: Part | None = None
    train_only: Part | None = None
    output: str = "runs/train"
    resume: bool = False
    image_size: int | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 50
    iterations: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    schedule: Literal["step", "cosine", "one_cycle"] = "step"
    lr_steps: tuple[float, ...] = (0.35, 0.75, 0.875, 0.9375)
    warmup_iterations: int = 500
    warmup_init: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_learning_rate_factor: float = 1.0
    bias_weight_decay: bool = True
    clip_gradient: float | None = None
    ema_decay: float | None = None
    label_smoothing: float = 0.0
    patience: int | None = None
    max_bad_steps: int = 10
    sync_batch_norm: bool = False
    frozen_stages: int = 0
    freeze_bn: Literal["auto"] | bool = "auto"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    check_data: bool = True
    overfit: int | None = None
    validate_every: int = 1
    max_detections: int = 100
    checkpoint_minutes: float = 10.0
    log_every: int = 20
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    tracker_project: str = "protomask"
    seed: int = 0
    num_workers: int = 2
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    channels_last: bool = True

    def __post_init__(self) -> None:
        for name in ("data", "output", "tracker_project"):
            _expect(self, name, isinstance(getattr(self, name), str) and getattr(self, name) != "", "a non-empty text")
        for name in (
            "epochs", "batch_size", "accumulate", "validate_every", "max_detections", "log_every", "max_bad_steps"
        ):  # fmt: skip
            _expect(self, name, _is_integer(getattr(self, name), at_least=1), "a whole number of at least 1")
        for name in ("image_size", "iterations", "overfit", "patience"):
            value = getattr(self, name)
            _expect(self, name, value is None or _is_integer(value, at_least=1), "a whole number of at least 1 or none")
        for name in ("num_workers", "warmup_iterations", "seed"):
            _expect(self, name, _is_integer(getattr(self, name), at_least=0), "a whole number of at least 0")
        _expect(
            self, "frozen_stages", _is_integer(self.frozen_stages, at_least=0) and self.frozen_stages <= 5, "0 to 5"
        )
        for name in ("learning_rate", "warmup_init", "checkpoint_minutes", "bias_learning_rate_factor"):
            _expect(self, name, _is_number(getattr(self, name)) and getattr(self, name) > 0, "a positive number")
        for name in ("momentum", "label_smoothing"):
            value = getattr(self, name)
            _expect(self, name, _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
        decay, norm = self.ema_decay, self.clip_gradient
        _expect(self, "ema_decay", decay is None or (_is_number(decay) and 0 < decay < 1), "a number in (0, 1) or none")
        _expect(self, "clip_gradient", norm is None or (_is_number(norm) and norm > 0), "a positive number or none")
        _expect(self, "weight_decay", _is_number(self.weight_decay) and self.weight_decay >= 0, "a number >= 0")
        known = get_args(Tracker)
        distinct = set(self.trackers) <= set(known) and len(set(self.trackers)) == len(self.trackers)
        _expect(self, "trackers", distinct, f"some of {', '.join(known)}, each once")
        rising = all(_is_number(step) and 0 < step < 1 for step in self.lr_steps)
        rising = rising and list(self.lr_steps) == sorted(self.lr_steps)
        _expect(self, "lr_steps", rising, "rising fractions of the run, each between 0 and 1")
        if self.weights is not None and self.backbone_weights is not None:
            raise ConfigError("backbone_weights: expected none where weights are given, they hold a backbone")
        if self.train_only is not None and self.weights is None:
            raise ConfigError(f"train_only: expected weights to leave as they are beside {self.train_only}, got none")
        for name, choices in (
            ("add", (None, *get_args(Part))),
            ("train_only", (None, *get_args(Part))),
            ("optimizer", ("sgd", "adamw")),
            ("schedule", ("step", "cosine", "one_cycle")),
            ("freeze_bn", ("auto", True, False)),
            ("device", ("auto", "cpu", "cuda", "mps")),
            ("mixed_precision", ("no", "bf16", "fp16")),
        ):
            _expect(self, name, getattr(self, name) in choices, f"one of {', '.join(map(str, choices))}")
        if self.image_size is not None and "image_size" in self.model_options:
            raise ConfigError(
                "model_options: image_size is already set by the field of that name, expected one of the two"
            )

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether batch norm is fixed, with the published rule (batch below 6) for "auto"."""
        return self.batch_size < 6 if self.freeze_bn == "auto" else bool(self.freeze_bn)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as `config.yaml` holds them."""
        values: dict[str, Any] = _plain(asdict(self))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; missing fields take their defaults.

        Raises:
            ConfigError: a field is unknown or has a value that cannot work.

        """
        known = _known_fields(cls, values, "settings of a training run")
        if isinstance(known.get("augmentation"), Mapping):
            augmentation = _known_fields(AugmentationConfig, known["augmentation"], "augmentation")
            known["augmentation"] = AugmentationConfig(**augmentation)
        if "data" not in known:
            raise ConfigError("data: expected the path of a data set, got nothing")
        return cls(**known)

    def save(self, path: str | Path) -> None:
        """Write the settings as YAML, whole or not at all.

        Raises:
            ConfigError: the file cannot be written.

        """
        import yaml

        with replacing(Path(path), error=ConfigError) as file:
            file.write(yaml.safe_dump(self.to_dict(), sort_keys=False).encode())

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """Read settings written by `save`.

        Raises:
            ConfigError: the file cannot be read, is not YAML, or has a wrong setting.

        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: expected a YAML file with the settings of a run: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected settings as 'name: value' lines, got {type(values).__name__}")
        return cls.from_dict(values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object, *, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _expect(config: TrainConfig, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {expected}, got {getattr(config, name)!r}")


def _known_fields(kind: type[Any], values: Mapping[str, Any], what: str) -> dict[str, Any]:
    known = {entry.name: entry for entry in fields(kind) if entry.init}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{what}: unknown {', '.join(unknown)}; expected some of {', '.join(sorted(known))}")
    return {
        name: tuple(value) if isinstance(value, list) and isinstance(known[name].default, tuple) else value
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
