"""The course of a run in progress: its plan, the time it takes, and a length that is fitted to the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from protomask.engine.config import TrainConfig
from protomask.engine.pace import Clock, Pace, clock_time, end_on_time, epochs_between_validations
from protomask.engine.plan import Plan
from protomask.engine.processes import mean_of_processes
from protomask.engine.stretch import Addition, Stretch

if TYPE_CHECKING:
    from accelerate import Accelerator

_FIRST_CHECK = 5
"""Steps after which the speed is measured for the first time, and smallest number between two checks."""
_TOLERANCE = 0.02
"""Share of the steps left by which a plan may be off."""


class Course:
    """Keeps the plan of a run, and changes it where the length of the run is a time.

    The length is fixed after five steps, and looked at again each time the number of steps has doubled, and, in the
    second half, each time half of those left are done. Later plans count only if they differ by more than 2%.

    Args:
        config: settings of the run.
        plan: the course that the settings alone ask for.
        num_images: number of training images.
        validation_images: number of images of a validation.
        accelerator: knows the other processes, which must all plan the same.
        clock: started with the run.
        message: receives a line about each new plan.

    """

    def __init__(
        self,
        config: TrainConfig,
        plan: Plan,
        *,
        num_images: int,
        validation_images: int,
        accelerator: Accelerator,
        clock: Clock,
        message: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.clock = clock
        self.pace = Pace(plan.images_per_step, validation_images)
        self._config, self._num_images = config, num_images
        self._accelerator, self._message = accelerator, message
        self._first = 0
        self._next_check = _FIRST_CHECK

    @property
    def stretch(self) -> Stretch:
        """The part of the run that is planned."""
        return self.plan.stretch

    def restore(self, stretch: Stretch, *, iteration: int, seconds: float, pace: dict[str, Any]) -> None:
        """Continue as planned before.

        Args:
            stretch: the part of the run that was planned.
            iteration: number of steps done.
            seconds: time that the run has taken.
            pace: `Pace.to_plain` of before.

        """
        self.clock.before = seconds
        self.pace.restore(pace)
        self._first, self._next_check = iteration, iteration + _FIRST_CHECK
        self._replan(stretch)
        if stretch.minutes is not None and stretch.end is not None:
            self._space_validations()

    def prolong(self, addition: Addition, *, iteration: int, ended: bool) -> bool:
        """Add a stretch to a run at its end; returns whether there is a new one.

        Raises:
            ConfigError: the run is not at its end.

        """
        stretch = self.stretch.prolonged(
            addition, iteration=iteration, seconds=self.clock.before, per_epoch=self.plan.per_epoch, ended=ended
        )
        if stretch is self.stretch:
            return False
        self._replan(stretch)
        until = "" if stretch.end is None else f" to {stretch.end}"
        self._message(
            f"prolonged by {addition} from iteration {iteration}{until}; the schedule starts over, "
            f"with a learning rate of {addition.learning_rate:g}"
        )
        return True

    def steps_ahead(self, iteration: int) -> int:
        """Number of steps to the end of the pass or to the next look at the clock."""
        left = self.plan.left_in_epoch(iteration)
        return left if self.stretch.minutes is None else min(left, max(self._next_check - iteration, 1))

    def validated(self, iteration: int, seconds: float) -> None:
        """A validation is done, which says how long they take."""
        self.pace.validated(seconds)
        self._next_check = min(self._next_check, iteration)

    def follow_clock(self, iteration: int) -> bool:
        """Look at the clock if that is due; returns whether the end of the run has moved."""
        step = self.pace.step_seconds
        if self.stretch.minutes is None or iteration < self._next_check:
            return False
        if step is None:
            self._next_check = iteration + _FIRST_CHECK
            return False
        step, validation, left = mean_of_processes(
            self._accelerator, step, self.pace.validation_seconds, self.stretch.seconds_left(self.clock.elapsed())
        )
        before = self.plan.known_end
        self._space_validations(step, validation)
        period = self.plan.per_epoch * self.plan.validate_every
        end = end_on_time(left, iteration, period, step=step, validation=validation)
        is_new = before is None or abs(end - before) > max(1, _TOLERANCE * (before - iteration))
        if is_new:
            self._replan(replace(self.stretch, end=end))
            self._space_validations(step, validation)
            self._message(self._describe(iteration, step, validation))
        ahead = min(iteration - self._first, (self.plan.max_iterations - iteration) // 2)
        self._next_check = iteration + max(_FIRST_CHECK, ahead)
        return is_new

    def times(self, iteration: int, *, validated: bool = False) -> dict[str, float | None]:
        """Seconds that the run has taken, and those it still takes; None where that is not known yet.

        Args:
            iteration: number of steps done.
            validated: whether a validation at this iteration is done.

        """
        left, step, validation = None, self.pace.step_seconds, self.pace.validation_seconds
        if step is not None:
            left = self.plan.seconds_left(iteration, step=step, validation=validation)
        if left is not None and not validated and self.plan.validates_at(iteration):
            left += validation
        return {"elapsed_seconds": self.clock.elapsed(), "remaining_seconds": left}

    def _replan(self, stretch: Stretch) -> None:
        self.plan = Plan.of(self._config, self._num_images, self.plan.share, stretch)

    def _space_validations(self, step: float | None = None, validation: float | None = None) -> None:
        """Leave out validations where they would take too much of the time."""
        step = self.pace.step_seconds if step is None else step
        validation = self.pace.validation_seconds if validation is None else validation
        if step is not None:
            epochs = epochs_between_validations(self._config.validate_every, step * self.plan.per_epoch, validation)
            self.plan = replace(self.plan, validate_every=epochs)

    def _describe(self, iteration: int, step: float, validation: float) -> str:
        plan, minutes, left = self.plan, self.stretch.minutes or 0.0, self.plan.validations_left(iteration)
        left += iteration >= plan.max_iterations  # the last one is still to come
        every = (
            "" if plan.validate_every == self._config.validate_every else f", one every {plan.validate_every} epochs"
        )
        until = f", to iteration {plan.max_iterations}" if self.stretch.start else ""
        return (
            f"plan for {minutes:g} min: {plan.max_iterations - self.stretch.start} steps{until} "
            f"({plan.max_iterations / plan.per_epoch:.1f} epochs) at {plan.images_per_step / step:.1f} images/s, "
            f"{left} more validation{'s' * (left != 1)} of about {clock_time(validation)}{every}"
        )
