"""The learning rate as a pure function of the step, so that a resumed run cannot restart it."""

import math

from srlib.params import LearningRate


def learning_rate(spec: LearningRate, step: int, steps: int) -> float:
    """The rate for update number `step` (from 0) of `steps`.

    Warm-up rises linearly to `peak`; then the rate is constant, or `peak` times `factor` for each milestone passed, or
    a half cosine from `peak` down to `final` at the last step.
    """
    if step < spec.warmup:
        return spec.peak * (step + 1) / spec.warmup
    if spec.schedule == "steps":
        return spec.peak * spec.factor ** sum(step >= milestone for milestone in spec.milestones)
    if spec.schedule == "cosine":
        progress = (step - spec.warmup) / max(1, steps - 1 - spec.warmup)
        return spec.final + (spec.peak - spec.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return spec.peak
