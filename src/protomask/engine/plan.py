"""The course of a run: its length in steps, its learning rates, and when it is validated."""

from __future__ import annotations

from dataclasses import dataclass

from protomask.data.training.loader import NO_VARIETY, Share, Variety, batches_per_epoch
from protomask.engine.config import TrainConfig
from protomask.engine.optim import Schedule, schedule_for_run
from protomask.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The course of one run.

    Attributes:
        share: the part of every step that this process takes.
        batch_size: number of images in a batch: that of the settings, or fewer in a small data set.
        per_epoch: number of steps in a pass over the training images.
        max_iterations: number of steps in the whole run.
        schedule: learning rate of every step.
        variety: what differs from step to step.
        validate_every: number of passes from one validation to the next.

    """

    share: Share
    batch_size: int
    per_epoch: int
    max_iterations: int
    schedule: Schedule
    variety: Variety
    validate_every: int

    @classmethod
    def of(cls, config: TrainConfig, num_images: int, share: Share) -> Plan:
        """Plan a run over this number of training images.

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
        max_iterations = config.iterations or config.epochs * per_epoch
        return cls(
            share=share,
            batch_size=batch_size,
            per_epoch=per_epoch,
            max_iterations=max_iterations,
            schedule=schedule_for_run(
                max_iterations,
                base_lr=config.learning_rate,
                batch_size=images_per_step,
                step_fractions=config.lr_steps,
                warmup_iterations=config.warmup_iterations,
                warmup_init=config.warmup_init,
                kind=config.schedule,
            ),
            variety=_variety(config, max_iterations),
            validate_every=config.validate_every,
        )

    def validates_at(self, iteration: int) -> bool:
        """Whether the network is validated at this iteration: at the end of the run and after every few passes."""
        epoch, position = divmod(iteration, self.per_epoch)
        return iteration >= self.max_iterations or (position == 0 and epoch > 0 and epoch % self.validate_every == 0)

    def left_in_epoch(self, iteration: int) -> int:
        """Number of steps left in the pass, or in the run if it ends first."""
        return min((iteration // self.per_epoch + 1) * self.per_epoch, self.max_iterations) - iteration


def _variety(config: TrainConfig, max_iterations: int) -> Variety:
    if config.overfit is not None:
        return NO_VARIETY
    plain_from = round((1 - config.augmentation.plain_end) * max_iterations)
    return Variety(config.augmentation.multi_scale, plain_from)
