"""The course of a run: its length in steps, its learning rates, and when it is validated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protomask.data.training.loader import NO_VARIETY, Share, Variety, batches_per_epoch
from protomask.engine.config import TrainConfig
from protomask.engine.optim import Schedule, schedule_for_run
from protomask.engine.pace import num_validations, seconds_until
from protomask.engine.stretch import Stretch
from protomask.errors import ConfigError

_UNMEASURED = 1_000_000
"""Length in steps of a stretch whose speed is not known yet: for the first few learning rates."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The course of one run.

    Attributes:
        share: the part of every step that this process takes.
        batch_size: number of images in a batch: that of the settings, or fewer in a small data set.
        per_epoch: number of steps in a pass over the training images.
        stretch: the part of the run that is planned.
        max_iterations: number of steps in the whole run, a large number where it is not known yet.
        schedule: learning rate of every step.
        variety: what differs from step to step.
        validate_every: number of passes from one validation to the next.

    """

    share: Share
    batch_size: int
    per_epoch: int
    stretch: Stretch
    max_iterations: int
    schedule: Schedule
    variety: Variety
    validate_every: int

    @classmethod
    def of(cls, config: TrainConfig, num_images: int, share: Share, stretch: Stretch | None = None) -> Plan:
        """Plan a run over this number of training images.

        Args:
            config: settings of the run.
            num_images: number of training images.
            share: the part of every step that this process takes.
            stretch: the part of the run to plan; the first one by default.

        Raises:
            ConfigError: there are too few images for a step.

        """
        if num_images == 0:
            raise ConfigError(f"data: expected at least one training image, got none in {config.data}")
        batch_size = min(config.batch_size, num_images // share.batches_per_step)
        if batch_size == 0:
            raise ConfigError(
                f"data: expected at least one image for each of {share.batches_per_step} batches per step "
                f"({share.processes} processes, accumulate {share.accumulate}), got {num_images}"
            )
        images_per_step = batch_size * share.batches_per_step
        per_epoch = batches_per_epoch(num_images, images_per_step)
        stretch = stretch or Stretch.first(config, per_epoch)
        length = _UNMEASURED if stretch.end is None else stretch.end - stretch.start
        schedule = schedule_for_run(
            length,
            base_lr=stretch.learning_rate,
            batch_size=images_per_step,
            step_fractions=config.lr_steps,
            warmup_iterations=config.warmup_iterations,
            warmup_init=config.warmup_init,
            kind=config.schedule,
        )
        return cls(
            share=share,
            batch_size=batch_size,
            per_epoch=per_epoch,
            stretch=stretch,
            max_iterations=stretch.start + length,
            schedule=replace(schedule, start=stretch.start),
            variety=_variety(config, stretch.start, length),
            validate_every=config.validate_every,
        )

    @property
    def images_per_step(self) -> int:
        """Number of images that all processes take for a step."""
        return self.batch_size * self.share.batches_per_step

    @property
    def known_end(self) -> int | None:
        """Number of steps in the whole run, None where it is not known yet."""
        return self.stretch.end

    def validates_at(self, iteration: int) -> bool:
        """Whether the network is validated at this iteration: at the end of the run and after every few passes."""
        if self.known_end is None:
            return False
        epoch, position = divmod(iteration, self.per_epoch)
        return iteration >= self.max_iterations or (position == 0 and epoch > 0 and epoch % self.validate_every == 0)

    def left_in_epoch(self, iteration: int) -> int:
        """Number of steps left in the pass, or in the run if it ends first."""
        return min((iteration // self.per_epoch + 1) * self.per_epoch, self.max_iterations) - iteration

    def validations_left(self, iteration: int) -> int:
        """Number of validations after an iteration."""
        return num_validations(iteration, self.max_iterations, self.per_epoch * self.validate_every)

    def seconds_left(self, iteration: int, *, step: float, validation: float) -> float | None:
        """Time from an iteration to the end, None where that is not known yet."""
        if self.known_end is None:
            return None
        period = self.per_epoch * self.validate_every
        return seconds_until(self.max_iterations, iteration, period, step=step, validation=validation)


def _variety(config: TrainConfig, start: int, length: int) -> Variety:
    if config.overfit is not None:
        return NO_VARIETY
    plain_from = start + round((1 - config.augmentation.plain_end) * length)
    mixed = config.augmentation
    mix_from = mixed.mix_from if mixed.mosaic or mixed.copy_paste else 0
    return Variety(mixed.multi_scale, plain_from, mix_from)
