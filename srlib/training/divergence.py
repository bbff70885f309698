"""Detect a training that diverges, as opposed to one whose loss only fluctuates."""

import math
import statistics
from dataclasses import dataclass, field

from srlib.training.types import LogRecord

HIGH_FACTOR = 20.0
"""A loss above this multiple of the lowest running median counts as high."""

PATIENCE = 10
"""Consecutive high losses that count as divergence. A hard batch or a GAN's fluctuation passes sooner."""

CALM_FACTOR = 3.0
"""A loss up to this multiple of the lowest running median confirms the weights it was computed with."""

WINDOW = 100
"""Steps that the running median covers, high ones left out."""


@dataclass
class DivergenceMonitor:
    """Follows the losses from step to step.

    The loss of untrained weights sets the measure for the second step, so that a training may also diverge at once.
    All attributes belong to the resume state: a resumed training stops at the same step.

    Attributes:
        recent: The latest losses that were not high.
        lowest_median: The lowest running median so far. A slow divergence raises the median, but not this.
        high_steps: Number of consecutive high losses up to now.
        is_calm: Whether the latest loss confirms its weights.
    """

    recent: list[float] = field(default_factory=list)
    lowest_median: float = math.inf
    high_steps: int = 0
    is_calm: bool = True

    def check(self, losses: LogRecord, monitored: str) -> str | None:
        """Take the losses of one step; return what is wrong with them in a few words, or None.

        Args:
            losses: The losses of this step, not averaged over steps. All of them must be finite.
            monitored: The name of the loss that must not stay high.

        Example:
            >>> monitor = DivergenceMonitor()
            >>> monitor.check({"loss": 0.5}, "loss")
            >>> monitor.check({"loss": float("nan")}, "loss")
            'loss became nan'
        """
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name} became {value}"
        value = losses[monitored]
        has_median = len(self.recent) >= PATIENCE
        usual = self.lowest_median if has_median else statistics.median(self.recent or [math.inf])
        self.is_calm = value <= CALM_FACTOR * usual
        if value > HIGH_FACTOR * usual:
            self.high_steps += 1
            if self.high_steps >= PATIENCE:
                return (
                    f"{monitored} exploded: {value:.3g}, "
                    f"{PATIENCE} consecutive steps above {HIGH_FACTOR:.0f} times {usual:.3g}"
                )
        else:
            self.high_steps = 0
            self.recent = [*self.recent, value][-WINDOW:]
            if len(self.recent) >= PATIENCE:
                self.lowest_median = min(self.lowest_median, statistics.median(self.recent))
        return None
