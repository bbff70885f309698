"""The protocol against figures that others published or computed, and each likely mistake against what it costs."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srlib.errors import SrlibError
from srlib.evaluation.statistics import mean
from srlib.imaging import color as color
from srlib.imaging import metrics
from srlib.imaging.metrics import color_error, luma, psnr_rgb, psnr_y, ssim_y, to_uint8
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale, resize

BICUBIC = {"Set5": (28.430, 0.8111), "Set14": (26.091, 0.7048), "BSD100": (25.962, 0.6681)}
"""PSNR-Y and SSIM-Y of bicubic ×4, from an independent implementation."""

Images = list[np.ndarray]
images = arrays.arrays(
    np.uint8, st.tuples(st.integers(20, 40), st.integers(20, 40), st.just(3)), elements=st.integers(0, 255)
)


def originals(shared: Path, name: str) -> Images:
    files = sorted((shared / "mirror/SelfExSR/data" / name / "image_SRF_4").glob("*_HR.png"))
    return [read_image(file) for file in files]


@pytest.fixture(scope="module")
def set5(shared: Path) -> Images:
    return originals(shared, "Set5")


def scored(
    hrs: Images,
    *,
    shrink: Callable[[np.ndarray], np.ndarray] = lambda hr: downscale(hr, 4),
    upscale: Callable[[np.ndarray], np.ndarray] = lambda lr: resize(lr, 4),
) -> tuple[float, float]:
    pairs = [(hr, upscale(shrink(hr))) for hr in hrs]
    return mean([psnr_y(*pair, scale=4) for pair in pairs]), mean([ssim_y(*pair, scale=4) for pair in pairs])


@pytest.mark.parametrize("name", BICUBIC)
def test_bicubic_scores_what_it_must(shared: Path, name: str) -> None:
    psnr, ssim = scored(originals(shared, name))
    assert psnr == pytest.approx(BICUBIC[name][0], abs=0.002)
    assert ssim == pytest.approx(BICUBIC[name][1], abs=0.0002)


@pytest.mark.parametrize("name", BICUBIC)
def test_equal_to_scikit_image(shared: Path, name: str) -> None:
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for hr in originals(shared, name):
        sr = resize(downscale(hr, 4), 4)
        x, y = (rgb2ycbcr(image)[4:-4, 4:-4, 0] for image in (hr, sr))
        assert psnr_y(hr, sr, scale=4) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-6)
        assert ssim_y(hr, sr, scale=4) == pytest.approx(structural_similarity(x, y, **options), abs=1e-8)
        rgb = peak_signal_noise_ratio(hr[10:-10, 10:-10], sr[10:-10, 10:-10], data_range=255)
        assert psnr_rgb(hr, sr, shave=10) == pytest.approx(rgb, abs=1e-9)


class TestTraps:
    """Each mistake gives the figure known for it, on bicubic ×4 of Set5; the protocol's figure is another one."""

    def test_degradation_without_antialiasing(self, set5: Images) -> None:
        psnr, ssim = scored(
            set5, shrink=lambda hr: cv2.resize(hr, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_CUBIC)
        )
        assert (psnr, ssim) == (pytest.approx(27.80, abs=0.01), pytest.approx(0.8161, abs=0.0005))

    def test_tensorflow_bicubic_without_antialiasing(self, set5: Images) -> None:
        # Keys' kernel at the sampling points, not stretched: what tf.image.resize does without antialias.
        psnr, ssim = scored(set5, shrink=lambda hr: resize(hr, Fraction(1, 4), antialias=False))
        assert (psnr, ssim) == (pytest.approx(28.00, abs=0.01), pytest.approx(0.8190, abs=0.0005))

    def test_rgb_instead_of_luma(self, set5: Images) -> None:
        pairs = [(hr, resize(downscale(hr, 4), 4)) for hr in set5]
        assert mean([psnr_rgb(*pair, shave=4) for pair in pairs]) == pytest.approx(26.69, abs=0.01)

    def test_full_range_luma(self, set5: Images, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metrics, "luma", lambda image: color.luma(image, "luma"))
        psnr, ssim = scored(set5)
        assert (psnr, ssim) == (pytest.approx(27.11, abs=0.01), pytest.approx(0.792, abs=0.001))

    def test_pooled_error(self, set5: Images) -> None:
        errors = [np.mean((luma(hr) - luma(resize(downscale(hr, 4), 4)))[4:-4, 4:-4] ** 2) for hr in set5]
        pooled = 10 * np.log10(255**2 / np.mean(errors))
        assert pooled == pytest.approx(26.68, abs=0.01)
        assert scored(set5)[0] - pooled > 1.7

    def test_ssim_with_another_window(self, set5: Images) -> None:
        pairs = [[luma(image)[4:-4, 4:-4] for image in (hr, resize(downscale(hr, 4), 4))] for hr in set5]
        assert mean([structural_similarity(*p, data_range=255) for p in pairs]) == pytest.approx(0.8231, abs=0.0003)

    def test_truncation_instead_of_rounding(self, set5: Images) -> None:
        def upscaled(hr: np.ndarray) -> np.ndarray:
            lr = downscale(hr, 4).astype(np.float64) / 255
            return np.stack([_bicubic(lr[..., c]) for c in range(3)], axis=-1)

        floats = [(hr, upscaled(hr)) for hr in set5]
        rounded = mean([psnr_y(hr, to_uint8(sr), scale=4) for hr, sr in floats])
        cut = mean([psnr_y(hr, np.clip(sr * 255, 0, 255).astype(np.uint8), scale=4) for hr, sr in floats])
        assert rounded - cut == pytest.approx(0.010, abs=0.006)


def _bicubic(plane: np.ndarray) -> np.ndarray:
    """×4 of a float plane by Keys' kernel with clamped edges, not rounded: through a matrix for each axis."""

    def matrix(size: int) -> np.ndarray:
        center = (np.arange(4 * size) + 0.5) / 4 - 0.5
        rows = np.zeros((4 * size, size))
        for tap in range(-1, 3):
            index = np.floor(center).astype(int) + tap
            x = np.abs(center - index)
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            np.add.at(rows, (np.arange(4 * size), index.clip(0, size - 1)), np.where(x <= 1, near, far))
        return rows

    return matrix(plane.shape[0]) @ plane @ matrix(plane.shape[1]).T


def test_luma_of_known_colors() -> None:
    colors = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    expected = [[16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]]
    np.testing.assert_allclose(luma(colors), expected, atol=1e-12)


def test_a_known_error() -> None:
    hr = np.full((40, 40, 3), 100, np.uint8)
    assert psnr_rgb(hr, hr + 5, shave=3) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr_y(hr, hr + 5, scale=4) == pytest.approx(20 * np.log10(255 / (5 * 219 / 255)))
    assert color_error(hr, hr + np.array([3, 0, 4], np.uint8), shave=4) == pytest.approx(5)


def test_color_error_ignores_lost_detail() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blurred = np.broadcast_to(noise.mean(axis=(0, 1)).round().astype(np.uint8), noise.shape)
    assert psnr_y(noise, blurred, scale=0) < 16
    assert color_error(noise, blurred, shave=0) < 1


@given(images)
def test_equal_images(image: np.ndarray) -> None:
    assert psnr_y(image, image, scale=2) == psnr_rgb(image, image, shave=2) == float("inf")
    assert ssim_y(image, image, scale=2) == pytest.approx(1)
    assert color_error(image, image, shave=2) == 0


@given(images, st.integers(0, 2**32 - 1))
def test_bounds_and_symmetry(image: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    assert psnr_y(image, other, scale=2) == psnr_y(other, image, scale=2)
    ssim = ssim_y(image, other, scale=2)
    assert ssim == pytest.approx(ssim_y(other, image, scale=2))
    assert -1 <= ssim <= 1


@given(images)
def test_the_border_does_not_count(image: np.ndarray) -> None:
    other = image.copy()
    other[:4], other[-4:], other[:, :4], other[:, -4:] = 0, 255, 0, 255
    assert psnr_y(image, other, scale=4) == float("inf")
    assert ssim_y(image, other, scale=4) == pytest.approx(1)


@given(st.lists(st.floats(-2, 3), min_size=1, max_size=50))
def test_to_uint8_is_the_nearest_level(values: list[float]) -> None:
    levels = to_uint8(np.array(values))
    exact = np.clip(values, 0, 1) * 255
    assert levels.dtype == np.uint8
    assert np.abs(levels - exact).max() <= 0.5 + 1e-12


def test_halves_round_up_and_floats_are_kept_apart() -> None:
    assert to_uint8(np.array([0.5 / 255, 1.5 / 255, 2.5 / 255])).tolist() == [1, 2, 3]
    assert to_uint8(np.array([1.0], np.float32)).tolist() == [255]
    with pytest.raises(SrlibError, match="expected floats"):
        to_uint8(np.array([200]))
    with pytest.raises(SrlibError, match="not numbers"):
        to_uint8(np.array([np.nan]))


@pytest.mark.parametrize(
    ("sr", "message"),
    [
        (np.zeros((30, 31, 3), np.uint8), "of the same size"),
        (np.zeros((30, 30, 3), np.float32), "expected uint8 RGB"),
        (np.zeros((30, 30), np.uint8), "expected uint8 RGB"),
        (np.zeros((30, 30, 4), np.uint8), "expected uint8 RGB"),
        ([[0]], "got list"),
    ],
)
def test_what_cannot_be_compared_is_named(sr: np.ndarray, message: str) -> None:
    hr = np.zeros((30, 30, 3), np.uint8)
    for score in (
        lambda: psnr_y(hr, sr, scale=2),
        lambda: ssim_y(hr, sr, scale=2),
        lambda: psnr_rgb(hr, sr, shave=2),
        lambda: color_error(hr, sr, shave=2),
    ):
        with pytest.raises(SrlibError, match=message):
            score()


def test_a_scale_of_numpy() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (300, 40, 3), np.uint8)
    sr = hr[::-1]
    assert psnr_y(hr, sr, scale=np.uint8(4)) == psnr_y(hr, sr, scale=4)
    assert ssim_y(hr, sr, scale=np.int64(4)) == ssim_y(hr, sr, scale=4)


def test_too_small_a_image_is_named() -> None:
    small = np.zeros((18, 60, 3), np.uint8)
    with pytest.raises(SrlibError, match="at least 11×11 pixels after cropping 4 on each side, got 60×18"):
        ssim_y(small, small, scale=4)
    with pytest.raises(SrlibError, match="at least 1×1"):
        psnr_rgb(small, small, shave=9)
    with pytest.raises(SrlibError, match=r"expected a whole number of pixels to crop on each side, got 1\.5"):
        psnr_rgb(small, small, shave=1.5)
    with pytest.raises(SrlibError, match="got 60×18"):
        metrics.check_size(18, 60, scale=4)
