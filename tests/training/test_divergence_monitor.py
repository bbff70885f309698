import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.training.divergence import HIGH_FACTOR, PATIENCE, DivergenceMonitor


def steps_until_stopped(values, monitor: DivergenceMonitor | None = None) -> int | None:
    monitor = monitor or DivergenceMonitor()
    return next((n for n, v in enumerate(values, start=1) if monitor.check({"loss": v}, "loss")), None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_at_once(value: float) -> None:
    assert DivergenceMonitor().check({"loss": 0.1, "adversarial": value}, "loss") == f"adversarial became {value}"


@pytest.mark.parametrize("good", [1, 5, 500])
def test_a_loss_that_stays_high_stops(good: int) -> None:
    values = [0.1] * good + [HIGH_FACTOR * 0.1 * 1.01] * (PATIENCE + 5)
    assert steps_until_stopped(values) == good + PATIENCE


def test_a_loss_that_keeps_growing_stops() -> None:
    assert steps_until_stopped(0.02 * 1.05 ** np.arange(1000)) is not None


@given(st.lists(st.floats(0.01, 0.19), min_size=1, max_size=300))
def test_a_loss_within_the_factor_never_stops(values: list[float]) -> None:
    assert steps_until_stopped(values) is None


@given(st.integers(0, 2**32), st.integers(1, PATIENCE - 1))
def test_short_spikes_never_stop(seed: int, length: int) -> None:
    """The fluctuation of a GAN: a loss that varies by a factor of e from step to step, with spikes of any height."""
    random = np.random.default_rng(seed)
    values = 0.05 * np.exp(random.normal(0, 0.5, 400))
    for start in (3, 150, 390):
        values[start : start + length] *= 10.0 ** random.uniform(0, 9)
    assert steps_until_stopped(values) is None


def test_a_restored_monitor_stops_at_the_same_step() -> None:
    values = [0.1] * 7 + [5.0] * 4
    monitor = DivergenceMonitor()
    assert steps_until_stopped(values, monitor) is None
    restored = DivergenceMonitor(**dataclasses.asdict(monitor))
    rest = [5.0] * 10
    assert steps_until_stopped(rest, restored) == steps_until_stopped(rest, monitor) == PATIENCE - 4
