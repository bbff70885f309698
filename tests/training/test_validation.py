"""Held-out patches are upscaled few at a time."""

import numpy as np
import pytest

from srlib.training import validation


@pytest.mark.parametrize(("patch", "batches"), [(48, [8, 3]), (64, [8, 3]), (96, [3, 3, 3, 2]), (192, [1] * 11)])
def test_large_patches_are_upscaled_few_at_a_time(patch, batches, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def network(lr):
        sizes.append(len(lr))
        return lr.repeat(2, 1).repeat(2, 2) / 255

    monkeypatch.setattr(validation, "super_resolve", lambda network, lr: network(lr))
    lr = np.arange(11, dtype=np.uint8)[:, None, None, None] * np.ones((patch, patch, 3), np.uint8)
    sr = validation.upscale_patches(network, lr)
    assert sizes == batches
    assert np.array_equal(np.stack(sr), lr.repeat(2, 1).repeat(2, 2))
