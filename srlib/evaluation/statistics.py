"""Statistics over the images of a set: means, bootstrap intervals and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 5
"""Fewest images for an interval: resampling fewer says nothing about other images."""
_SEED = 20170


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its interval, which is None for fewer than `FEWEST` images."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean(values: Sequence[float]) -> float:
    """Return the plain mean over images, as the protocol requires: never the PSNR of a pooled error.

    Example:
        >>> mean([30.0, 31.0])
        30.5
    """
    return float(np.mean(np.asarray(values, np.float64)))


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its percentile bootstrap interval of 95 % over images (Efron 1979).

    The random numbers are the same in every call. With the five images of Set5 the interval is rough, and more often
    too narrow than too wide.

    Example:
        >>> estimate([30.0, 31.0])
        Estimate(mean=30.5, low=None, high=None)
        >>> estimate([28.0, 29.0, 30.0, 31.0, 32.0]).differs
        True
    """
    sample = np.asarray(values, np.float64)
    if len(sample) < FEWEST:
        return Estimate(mean(values))
    indices = np.random.default_rng(_SEED).integers(0, len(sample), (RESAMPLES, len(sample)))
    # An order statistic rather than an interpolated one: a PSNR may be infinite.
    low, high = np.quantile(sample[indices].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Estimate(mean(values), float(low), float(high))


def difference(ours: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the mean of `ours` minus `others`, image by image, with its interval.

    Pairing removes the differences in difficulty between images, which are far larger than those between two methods.

    Args:
        ours: One value per image.
        others: Values of the same images, in the same order.

    Raises:
        ValueError: Different numbers of values.

    Example:
        >>> difference([30.5, 25.5], [30.0, 25.0]).mean
        0.5
    """
    a, b = np.asarray(ours, np.float64), np.asarray(others, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"expected scores of the same images, got {len(a)} and {len(b)}")
    with np.errstate(invalid="ignore"):
        return estimate(np.where(a == b, 0.0, a - b).tolist())
