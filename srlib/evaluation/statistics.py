"""From scores of single pictures to a row of a table: means, bootstrap intervals, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 5
"""Pictures below which no interval is given: resampling fewer says nothing about other pictures."""
_SEED = 20170


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures and its interval; none where there are fewer than `FEWEST` pictures."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean(values: Sequence[float]) -> float:
    """The plain mean over pictures, as the protocol wants it: never the PSNR of a pooled error."""
    return float(np.mean(np.asarray(values, np.float64)))


def estimate(values: Sequence[float]) -> Estimate:
    """The mean and its percentile bootstrap interval of 95 % over pictures (Efron 1979), the same at every call.

    With the five pictures of Set5 it is rough, and rather too narrow than too wide.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < FEWEST:
        return Estimate(mean(values))
    drawn = np.random.default_rng(_SEED).integers(0, len(sample), (RESAMPLES, len(sample)))
    # An order statistic rather than an interpolated one: a PSNR may be infinite.
    low, high = np.quantile(sample[drawn].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Estimate(mean(values), float(low), float(high))


def difference(ours: Sequence[float], others: Sequence[float]) -> Estimate:
    """The mean of `ours` minus `others`, picture by picture, with its interval.

    Pairing takes out what makes one picture harder than another, which is far more than what sets two methods apart.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(others, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"expected scores of the same pictures, got {len(a)} and {len(b)}")
    with np.errstate(invalid="ignore"):
        return estimate(np.where(a == b, 0.0, a - b).tolist())
