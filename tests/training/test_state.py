import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.training import state
from srlib.training.state import SAVING_SECONDS, SAVING_SHARE, Saving


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def saved_at(step: float, taken: float, steps: int) -> tuple[list[float], float]:
    """When a training of `steps` steps began to save, and how long all of it lasted, on a clock of its own."""
    clock, times = Clock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "time", SimpleNamespace(monotonic=clock.monotonic))
        saving = Saving()
        for number in range(1, steps + 1):
            clock.now += step
            if number == steps or saving.due():
                times.append(clock.now - 1000)
                with saving.timed():
                    clock.now += taken
    return times, clock.now - 1000


@given(st.floats(0.01, 10), st.floats(0.001, 1.2), st.integers(1, 2000))
def test_saving_takes_at_most_its_share_of_any_but_the_shortest_run(step: float, taken: float, steps: int) -> None:
    times, whole = saved_at(step, taken, steps)
    assert times[0] == pytest.approx(step), "the first step's state is saved"
    assert len(times) <= 2 or len(times) * taken <= SAVING_SHARE * whole * (1 + 1e-9)
    ages = [after - before for before, after in itertools.pairwise(times)]
    assert max(ages, default=0) <= max(4 * taken / SAVING_SHARE, SAVING_SECONDS) + step + taken + 1e-6


def test_a_state_does_not_age_on_a_disk_that_is_too_slow_for_the_share() -> None:
    times, _ = saved_at(step=1.0, taken=60.0, steps=5000)
    ages = [after - before for before, after in itertools.pairwise(times)]
    assert len(ages) > 6
    assert max(ages) <= SAVING_SECONDS + 60.0 + 1.0 + 1e-6
