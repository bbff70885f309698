"""Tests of the large-kernel network: size, start, receptive field and equivariance."""

from itertools import product

import keras
import numpy as np
import pytest
from keras import ops

from srlib.models.networks.large_kernel import LargeKernel
from srlib.training.equivariance import is_equivariant, make_equivariant


@pytest.mark.parametrize(
    ("scale", "options", "parameters"),
    [(4, {}, 1_429_744), (2, {"every": 8, "size": 17, "large_filters": 8}, 1_266_540)],
)
def test_parameter_counts(scale: int, options: dict, parameters: int) -> None:
    assert LargeKernel(**options).build(scale).count_params() == parameters


def test_receptive_field() -> None:
    keras.utils.set_random_seed(1)
    model = LargeKernel(blocks=1, filters=8, every=1, size=7, large_filters=8).build(2)
    lr = np.random.default_rng(0).random((1, 31, 31, 3), np.float32)
    changed = lr.copy()
    changed[0, 15, 15] += 1
    difference = np.abs(ops.convert_to_numpy(model(changed) - model(lr))).max(axis=(0, 3))
    rows = np.flatnonzero(difference.max(axis=1)) // 2
    # 3×3: head, two of the block, body, upsample; 7×7: one.
    assert (rows.min(), rows.max()) == (15 - 8, 15 + 8)


def test_tied_kernels_make_it_equivariant() -> None:
    keras.utils.set_random_seed(2)
    model = LargeKernel(blocks=2, filters=16, every=1, size=7, large_filters=8).build(4)
    lr = np.random.default_rng(0).random((1, 9, 12, 3), np.float32)

    def transformed(images: np.ndarray) -> list[np.ndarray]:
        return [np.rot90(i, k, axes=(1, 2)) for i, k in product((images, images[:, :, ::-1]), range(4))]

    def error() -> float:
        outputs = [ops.convert_to_numpy(model(np.ascontiguousarray(image))) for image in transformed(lr)]
        expected = transformed(ops.convert_to_numpy(model(lr)))
        return max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected, strict=True))

    assert error() > 1e-3
    make_equivariant(model)
    assert is_equivariant(model)
    assert error() < 1e-6


def test_equivariance_needs_groups_of_eight_channels() -> None:
    assert LargeKernel().equivariant_width == 64
    assert LargeKernel(large_filters=12).equivariant_width is None
