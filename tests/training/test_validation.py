"""Held-out patches are upscaled few at a time."""

import numpy as np
import pytest

from srlib.imaging.metrics import FLAWLESS, psnr_y
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


def test_a_patch_without_any_error_keeps_means_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "super_resolve", lambda network, lr: lr.repeat(2, 1).repeat(2, 2) / 255)
    lr = np.full((2, 16, 16, 3), 255, np.uint8)
    lr[1, 4:12] = 40
    hr = lr.repeat(2, 1).repeat(2, 2)
    hr[1, ::2] -= 16
    scores = validation.validation_scores(None, (lr, hr))
    second = psnr_y(hr[1], lr[1].repeat(2, 0).repeat(2, 1), scale=2)
    assert scores["psnr_y"] == pytest.approx((FLAWLESS + second) / 2)
    assert FLAWLESS / 2 < validation.bicubic_psnr_y((lr, hr)) < FLAWLESS
