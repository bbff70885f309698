"""The learning rate as a pure function of the step, so that a resumed training cannot restart it."""

import math

from srlib.params import LearningRate


def learning_rate(schedule: LearningRate, step: int, steps: int) -> float:
    """Return the learning rate of one step.

    It rises linearly to `peak` during warm-up. Then it stays there (`constant`), is multiplied by `factor` at every
    milestone (`steps`), or falls to `final` at the last step along half a cosine (`cosine`).

    Args:
        schedule: The section `learning_rate` of the recipe.
        step: The step, counted from 0.
        steps: The number of steps of the whole training.

    Example:
        >>> schedule = LearningRate(schedule="cosine", peak=1e-3, warmup=2)
        >>> [round(learning_rate(schedule, step, 6), 6) for step in range(6)]
        [0.0005, 0.001, 0.001, 0.00075, 0.00025, 0.0]
    """
    if step < schedule.warmup:
        return schedule.peak * (step + 1) / schedule.warmup
    if schedule.schedule == "steps":
        return schedule.peak * schedule.factor ** sum(step >= milestone for milestone in schedule.milestones)
    if schedule.schedule == "cosine":
        progress = (step - schedule.warmup) / max(1, steps - 1 - schedule.warmup)
        half_cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return schedule.final + (schedule.peak - schedule.final) * half_cosine
    return schedule.peak
