import keras
import numpy as np
import pytest
from keras import ops

from srlib.training.averaging import ExponentialMovingAverage


def value(variable: keras.Variable) -> float:
    return float(ops.convert_to_numpy(variable))


def test_the_decay_rises_to_its_limit() -> None:
    variable = keras.Variable(0.0)
    average = ExponentialMovingAverage([variable], 0.9)
    expected = None
    for n in range(100):
        current = float(np.sin(n / 5))
        variable.assign(current)
        average.update()
        decay = min(0.9, n / (9 + n))
        expected = current if expected is None else decay * expected + (1 - decay) * current
    with average.applied():
        assert value(variable) == pytest.approx(expected, rel=1e-5)
    assert value(variable) == pytest.approx(np.sin(99 / 5))


def test_before_the_first_update_the_average_is_the_value() -> None:
    variable = keras.Variable(3.0)
    with ExponentialMovingAverage([variable], 0.9).applied():
        assert value(variable) == 3.0


def test_own_values_come_back_after_an_error() -> None:
    variable = keras.Variable(1.0)
    average = ExponentialMovingAverage([variable], 0.9)
    for current in (1.0, 2.0, 4.0):
        variable.assign(current)
        average.update()
    with pytest.raises(KeyError), average.applied():
        assert value(variable) < 4.0
        raise KeyError
    assert value(variable) == 4.0


def test_its_variables_restore_it() -> None:
    variables = [keras.Variable(1.0), keras.Variable(1.0)]
    first, second = (ExponentialMovingAverage([variable], 0.9) for variable in variables)
    for current in (1.0, 2.0, 4.0):
        variables[0].assign(current)
        first.update()
    for ours, theirs in zip(second.variables, first.variables, strict=True):
        ours.assign(theirs)
    for variable, average in zip(variables, (first, second), strict=True):
        variable.assign(5.0)
        average.update()
    with first.applied(), second.applied():
        assert value(variables[0]) == value(variables[1]) < 5.0
