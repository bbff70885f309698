from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from srlib.imaging.resize import contributions, downscale
from srlib.params import Finetune, Pretrain, Training
from srlib.schema import Section
from srlib.training import losses
from srlib.training.gan.adversarial import ADVERSARIAL_LOSSES
from srlib.training.optimizers import OPTIMIZERS


def value(tensor) -> float:
    return float(ops.convert_to_numpy(tensor))


def test_the_names_in_a_recipe_are_those_of_the_losses() -> None:
    def names(section: type[Section], key: str) -> tuple[str, ...]:
        return get_args(section.model_fields[key].annotation)

    assert names(Pretrain, "loss") == tuple(losses.PIXEL_LOSSES)
    assert names(Finetune, "adversarial") == tuple(ADVERSARIAL_LOSSES)
    assert set(names(Finetune, "perceptual_loss")) <= set(losses.PIXEL_LOSSES)
    assert names(Training, "optimizer") == OPTIMIZERS


def test_pixel_losses_by_hand() -> None:
    hr, sr = np.zeros((1, 2, 2, 1), np.float32), np.full((1, 2, 2, 1), 0.5, np.float32)
    assert value(losses.mae(hr, sr)) == pytest.approx(0.5)
    assert value(losses.mse(hr, sr)) == pytest.approx(0.25)
    assert value(losses.charbonnier(hr, sr, epsilon=0.1)) == pytest.approx(np.sqrt(0.26))
    assert value(losses.perceptual(hr, sr, scale=4.0)) == pytest.approx(1.0)
    assert value(losses.perceptual(hr, sr, scale=4.0, loss="mae")) == pytest.approx(2.0)


def test_the_psnr_loss_weighs_images_as_their_mean_psnr() -> None:
    draw = np.random.default_rng(0)
    hr = draw.random((2, 6, 6, 3)).astype(np.float32)
    noise = draw.normal(0, 1, hr.shape).astype(np.float32)
    errors = np.array([0.05, 0.2], np.float32)  # 26 and 14 dB, far above the floor
    sr = hr + noise * errors[:, None, None, None]
    mse = np.square(hr - sr).mean(axis=(1, 2, 3))
    assert value(losses.psnr(hr, sr)) == pytest.approx(0.01 * np.log(1 + mse / 1e-4).mean(), rel=1e-5)
    mean_psnr = (-10 * np.log10(mse)).mean()
    assert value(losses.psnr(hr, sr, floor=1e-4)) / 1e-4 == pytest.approx(
        -mean_psnr * np.log(10) / 10 - np.log(1e-8), rel=1e-4
    ), "without a floor: the mean PSNR, but for a factor and a constant"
    assert value(losses.psnr(hr, hr)) == 0
    tiny = hr + 1e-4 * noise
    assert value(losses.psnr(hr, tiny)) == pytest.approx(value(losses.mse(hr, tiny)) / 0.01, rel=1e-2), "below it, MSE"


def test_the_psnr_y_loss_counts_luma_and_holds_colors() -> None:
    hr, sr = (np.random.default_rng(seed).random((2, 6, 5, 3), np.float32) for seed in (1, 2))
    error = (hr - sr).astype(np.float64)
    luma = error @ (0.299, 0.587, 0.114)
    mse = 0.9 * (luma**2).mean((1, 2)) + 0.1 * (error**2).mean((1, 2, 3))
    assert value(losses.psnr_y(hr, sr)) == pytest.approx(0.01 * np.log(1 + mse / 1e-4).mean(), rel=1e-5)
    gray = hr[..., :1], sr[..., :1]
    assert value(losses.psnr_y(*gray)) == value(losses.psnr(*gray))
    assert value(losses.psnr_y(*(np.repeat(image, 3, -1) for image in gray))) == pytest.approx(
        value(losses.psnr(*gray)), rel=1e-5
    )
    color = np.float32([0.114, 0, -0.299])  # of the same luma
    assert value(losses.psnr_y(hr, hr + color)) > 0


def test_the_checkerboard_loss_sees_only_what_repeats() -> None:
    draw = np.random.default_rng(1)
    hr = draw.random((2, 67, 64, 3)).astype(np.float32)  # 67: three rows more than whole LR pixels
    pattern = np.tile(draw.normal(0, 0.1, (4, 4, 3)), (17, 16, 1))[:67].astype(np.float32)
    assert value(losses.checkerboard(hr, hr, 4)) == 0
    assert value(losses.checkerboard(hr, hr + pattern, 4)) == pytest.approx(np.abs(pattern[:64]).mean(), rel=1e-4)
    assert value(losses.checkerboard(hr, hr + 0.1, 4)) == pytest.approx(0.1, rel=1e-4), "a cast repeats too"
    noise = draw.normal(0, 0.1, hr.shape).astype(np.float32)
    expected = 0.1 * np.sqrt(2 / np.pi) / 8  # of the mean of 64 normal values
    assert value(losses.checkerboard(hr, hr + noise, 4)) == pytest.approx(expected, rel=0.1)
    small = np.zeros((1, 9, 6, 3), np.float32)
    assert value(losses.checkerboard(small, small + 0.5, 3)) == pytest.approx(0.5), "fewer LR pixels than are averaged"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_consistency_loss_is_the_error_after_downscaling(scale: int) -> None:
    """Against MATLAB's imresize as `downscale` computes it, which rounds to whole levels, away from the borders."""
    draw = np.random.default_rng(2)
    hr, sr = (draw.integers(0, 256, (12 * scale, 12 * scale, 3), np.uint8) for _ in range(2))
    inside = np.s_[2:-2, 2:-2]
    difference = downscale(sr, scale)[inside].astype(float) - downscale(hr, scale)[inside]
    indices, weights = contributions(12 * scale, 12, Fraction(1, scale))
    taps = indices[2:-2][weights[2:-2] != 0]
    window = np.s_[None, taps.min() : taps.max() + 1, taps.min() : taps.max() + 1]
    floats = [image[window].astype(np.float32) / 255 for image in (hr, sr)]
    assert value(losses.consistency(*floats, scale)) == pytest.approx(np.abs(difference).mean() / 255, rel=0.02)


def test_the_artifact_loss_sees_scattered_errors_not_smooth_ones() -> None:
    hr = np.full((1, 32, 32, 3), 0.5, np.float32)
    scattered = hr.copy()
    scattered[0, ::4, ::4] += 0.16
    smooth = hr + 0.01  # the same mean error
    assert value(losses.mae(hr, scattered)) == pytest.approx(value(losses.mae(hr, smooth)), rel=1e-4)
    assert value(losses.artifact(hr, hr)) == 0
    assert value(losses.artifact(hr, scattered)) > 1e3 * value(losses.artifact(hr, smooth))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_periodicity_sees_patterns_that_change_their_sign(scale: int) -> None:
    """The checkerboard loss does not: over its windows they cancel."""
    side = 16 * scale
    hr = np.full((1, side, side, 3), 0.5, np.float32)
    cell = np.random.default_rng(0).choice([-0.1, 0.1], (scale, scale))
    cell -= cell.mean()
    signs = np.kron(np.where(np.arange(16) // 4 % 2, 1, -1), np.ones(scale))  # another one every four LR pixels
    pattern = (hr + (np.tile(cell, (16, 16)) * signs)[None, :, :, None]).astype(np.float32)
    assert value(losses.periodicity(hr, pattern, scale)) > 20 * value(losses.checkerboard(hr, pattern, scale))
    assert value(losses.periodicity(hr, pattern, scale)) > 0.01


def test_the_texture_loss_against_a_plain_loop() -> None:
    """Per window and pair of channels, the mean product; EnhanceNet's Gram matrices, by another way."""
    hr, sr = np.random.default_rng(0).standard_normal((2, 2, 9, 13, 3)).astype(np.float32)

    def grams(maps: np.ndarray) -> np.ndarray:
        windows = [maps[:, y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4, 8)]
        return np.stack([np.einsum("bijc,bijd->bcd", window, window) / 16 for window in windows])

    expected = np.abs(grams(hr) - grams(sr)).mean()
    assert value(losses.texture(hr, sr, stride=4)) == pytest.approx(expected, rel=1e-5)


def test_the_texture_loss_sees_how_strong_and_not_where() -> None:
    hr = np.random.default_rng(0).standard_normal((1, 16, 16, 2)).astype(np.float32)
    moved = np.roll(hr.reshape(1, 2, 8, 2, 8, 2), (3, 5), axis=(2, 4)).reshape(hr.shape)
    assert value(losses.texture(hr, moved, stride=2)) < 1e-6
    assert value(losses.mae(hr, moved)) > 0.5
    assert value(losses.texture(hr, hr / 2, stride=2)) > 0.3


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (5, 5)])
def test_the_texture_loss_of_small_maps(size: tuple[int, int]) -> None:
    hr, sr = np.random.default_rng(0).standard_normal((2, 1, *size, 2)).astype(np.float32)
    assert value(losses.texture(hr, sr, stride=8)) > 0


def test_the_periodicity_loss_is_about_the_excess() -> None:
    hr = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    smooth = np.full_like(hr, 0.5)
    y, x = np.mgrid[:32, :32] / 32
    ramp = np.repeat((0.3 * x + 0.2 * y)[None, :, :, None], 3, axis=3).astype(np.float32)
    assert value(losses.periodicity(hr, hr, 4)) == value(losses.periodicity(hr, smooth, 4)) == 0
    assert value(losses.periodicity(smooth, ramp, 4)) < 1e-4, "a ramp is no pattern"


def mesh(period: float, side: int = 64) -> np.ndarray:
    """Return a gray image with a mesh of this period in pixels."""
    y, x = np.mgrid[:side, :side] * (2 * np.pi / period)
    return np.repeat((0.5 + 0.05 * np.sin(x) * np.sin(y))[None, :, :, None], 3, axis=3).astype(np.float32)


@given(period=st.floats(3.2, 5.5))
def test_regularity_sees_a_mesh_of_any_period(period: float) -> None:
    """`periodicity` sees the period of an LR pixel alone."""
    noise = (0.5 + 0.03 * np.random.default_rng(0).standard_normal((1, 64, 64, 3))).astype(np.float32)
    assert value(losses.regularity(noise, mesh(period), 4)) > 1
    assert value(losses.regularity(mesh(period), noise, 4)) == 0, "only the excess over HR counts"


def test_regularity_of_what_has_no_detail() -> None:
    """Nothing is asked for where SR is smooth or its detail is fainter than half a level."""
    rng = np.random.default_rng(0)
    noise, faint = (0.5 + strength * rng.standard_normal((1, 64, 64, 3)) for strength in (0.03, 0.0005))
    smooth = np.full((1, 64, 64, 3), 0.5)
    for sr in (smooth, faint):
        assert value(losses.regularity(noise.astype(np.float32), sr.astype(np.float32), 4)) < 1e-3


def test_regularity_against_numpy() -> None:
    """One window of 32×32 pixels, by NumPy's Fourier transform."""
    hr, sr = (
        np.random.default_rng(0).random((2, 1, 32, 32, 1), np.float32) * np.float32([1, 0.2])[:, None, None, None, None]
    )
    sr = (sr + 10 * (mesh(4.5, 32)[..., :1] - 0.5)).astype(np.float32)
    window = np.outer(*[np.sin(np.pi * (np.arange(32) + 0.5) / 32) ** 2] * 2)
    frequency = np.fft.fftfreq(32)
    radius = np.hypot(frequency[:, None], frequency[None])
    band = (radius > 0.5 / 4) & (radius < 0.5)

    def concentration(image: np.ndarray) -> float:
        power = np.abs(np.fft.fft2(image[0, :, :, 0] * window))[band] ** 2
        return float(np.log(np.mean(power**2) / np.mean(power) ** 2))

    assert value(losses.regularity(hr, sr, 4)) == pytest.approx(concentration(sr) - concentration(hr), rel=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (9, 13), (31, 33)])
def test_regularity_of_small_images(size: tuple[int, int]) -> None:
    hr, sr = np.random.default_rng(0).random((2, 1, *size, 3)).astype(np.float32)
    assert value(losses.regularity(hr, sr, 4)) >= 0
