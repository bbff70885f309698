"""Intervals against closed forms and an independent implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from srlib.evaluation.statistics import Estimate, difference, estimate, mean

samples = st.lists(st.floats(10, 50), min_size=5, max_size=60)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(28, 3, 40)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    ours = estimate(values.tolist())
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.high, abs=0.05)


@given(samples)
def test_the_interval_holds_the_mean_and_is_the_same_every_time(values: list[float]) -> None:
    result = estimate(values)
    assert result == estimate(values)
    assert result.low is not None and result.high is not None
    assert min(values) - 1e-9 <= result.low <= result.mean + 1e-9
    assert result.mean - 1e-9 <= result.high <= max(values) + 1e-9


@given(samples, st.floats(0.01, 2))
def test_a_constant_gain_is_certain_however_much_images_differ(values: list[float], gain: float) -> None:
    result = difference([value + gain for value in values], values)
    assert result.low == pytest.approx(gain) and result.high == pytest.approx(gain)
    assert result.differs


def test_chance_is_not_sold_as_progress() -> None:
    gains = np.array([0.5, -0.45, 0.3, -0.35, 0.2, -0.1])
    base = np.linspace(20, 35, 6)
    assert not difference((base + gains).tolist(), base.tolist()).differs


def test_few_images_have_no_interval() -> None:
    assert estimate([30.0, 31.0, 32.0, 33.0]) == Estimate(31.5)
    assert not difference([2.0], [1.0]).differs


def test_infinite_scores() -> None:
    infinite = float("inf")
    assert mean([infinite, 30.0]) == infinite
    assert estimate([infinite] * 5) == Estimate(infinite, infinite, infinite)
    assert difference([infinite] * 6, [infinite] * 6).mean == 0


def test_scores_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        difference([1.0, 2.0], [1.0, 2.0, 3.0])
