import pytest

from srlib.params import LearningRate
from srlib.training.schedules import learning_rate


def test_constant() -> None:
    assert {learning_rate(LearningRate(peak=1e-4), step, 10) for step in range(10)} == {1e-4}


def test_the_edsr_halving() -> None:
    spec = LearningRate(schedule="steps", peak=1e-4, milestones=[200_000])
    assert learning_rate(spec, 199_999, 300_000) == 1e-4
    assert learning_rate(spec, 200_000, 300_000) == 5e-5


def test_the_two_phases_of_the_srgan() -> None:
    spec = LearningRate(schedule="steps", peak=1e-4, milestones=[100_000], factor=0.1)
    assert learning_rate(spec, 99_999, 200_000) == 1e-4
    assert learning_rate(spec, 100_000, 200_000) == pytest.approx(1e-5)


def test_cosine_with_warm_up() -> None:
    spec = LearningRate(schedule="cosine", peak=1e-3, warmup=10, final=1e-5)
    rates = [learning_rate(spec, step, 111) for step in range(111)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[60] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
