"""Tells a training that diverges from one that only wobbles."""

import math
import statistics
from dataclasses import dataclass, field

Row = dict[str, float]

FACTOR = 20.0
"""A loss above this many times the lowest that its running median has been counts as high."""

PATIENCE = 10
"""So many high steps in a row are an explosion. A hard batch or the swing of a GAN is over sooner."""

CALM = 3.0
"""Up to this many times the same a loss speaks for the weights that it was computed with."""

WINDOW = 100
"""Steps that the median runs over; high steps do not enter it."""


@dataclass
class Watch:
    """Follows one loss from step to step. What it knows goes into the resume state, so that a resumed run stops alike.

    From the second step on: the loss of untrained weights is a fair measure of what is too much.

    Attributes:
        values: The latest losses that were not high.
        lowest: The lowest median of `values` since there were `PATIENCE` of them. A slow explosion takes the median
            with it, but not this.
        high: Number of high steps on end.
        calm: Whether the latest loss was an ordinary one.
    """

    values: list[float] = field(default_factory=list)
    lowest: float = math.inf
    high: int = 0
    calm: bool = True

    def problem(self, logs: Row, watched: str) -> str | None:
        """What is wrong with the losses of one step, in a few words; None if nothing is.

        Args:
            logs: The losses of this step, not averaged over steps.
            watched: The name of the one that must not explode; each of them must be finite.
        """
        for name, value in logs.items():
            if not math.isfinite(value):
                return f"{name} became {value}"
        value = logs[watched]
        usual = self.lowest if len(self.values) >= PATIENCE else statistics.median(self.values or [math.inf])
        self.calm = value <= CALM * usual
        if value > FACTOR * usual:
            self.high += 1
            if self.high >= PATIENCE:
                return f"{watched} exploded: {value:.3g}, {PATIENCE} steps on end above {FACTOR:.0f} times {usual:.3g}"
        else:
            self.high = 0
            self.values = [*self.values, value][-WINDOW:]
            if len(self.values) >= PATIENCE:
                self.lowest = min(self.lowest, statistics.median(self.values))
        return None
