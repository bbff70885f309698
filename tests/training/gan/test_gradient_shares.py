import numpy as np
import pytest
from keras import ops

from srlib.training.gan.gradient_shares import gradient_norms, shares


def test_the_norms_are_those_of_closed_forms() -> None:
    random = np.random.default_rng(0)
    hr, sr = random.random((2, 2, 4, 5, 3)).astype(np.float32)
    count = hr.size
    norms = gradient_norms(
        lambda x: {
            "absolute": ops.mean(ops.abs(x - hr)),
            "squared": ops.mean(ops.square(x - hr)),
            "constant": ops.sum(ops.convert_to_tensor(hr)),
        },
        ops.convert_to_tensor(sr),
    )
    assert norms["absolute"] == pytest.approx(1 / np.sqrt(count), rel=1e-5)
    assert norms["squared"] == pytest.approx(2 * np.linalg.norm(sr - hr) / count, rel=1e-5)
    assert norms["constant"] == 0


def test_shares_sum_to_one() -> None:
    assert shares({"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.0, "b": 0.0}
