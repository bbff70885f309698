"""Held-out patches are upscaled few at a time, and decide which weights are kept."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from srlib.imaging.metrics import FLAWLESS, psnr_y
from srlib.training import callbacks, validation


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


@pytest.mark.parametrize(
    ("keep_best", "expected"), [(False, [0, 1, 2, 2, 2, 5, 5, 7]), (True, [None, 1, 1, 1, 1, 1, 1, 1])]
)
def test_good_weights_are_near_the_best(keep_best: bool, expected: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that gets worse slowly, by less than the limit each time, is measured against its best."""
    scores = iter([30.0, 31.0, 26.0, 21.0, 16.0, 25.5, 24.5, 20.0][keep_best:])
    monkeypatch.setattr(callbacks, "validation_scores", lambda network, pairs: {"psnr_y": next(scores)})
    monkeypatch.setattr(callbacks, "bicubic_psnr_y", lambda pairs: 27.0)
    monkeypatch.setattr(callbacks, "copy_weights", lambda network: [])
    session = SimpleNamespace(
        step=0,
        is_last=False,
        snapshots={},
        log=SimpleNamespace(add_validation=lambda step, values: None),
        averaged_network=contextlib.nullcontext,
        is_due=lambda every: True,
    )
    guard = SimpleNamespace(state=SimpleNamespace(high_steps=0))
    callback = callbacks.Validation((), 1, guard, keep_best=keep_best)
    callback.on_start(session, None)
    steps = [session.snapshots["best"].step if session.snapshots else None]
    for session.step in range(1, 8):
        session.is_last = session.step == 7
        callback.on_step_end(session, None, None)
        steps.append(session.snapshots["best"].step)
    assert steps == expected
