"""The protocol on images that ship with scikit-image: these tests need neither ../shared nor a network.

Every recorded figure comes from an independent computation, without srlib: `reference_resize` below is MATLAB's
`imresize(…, 'bicubic')` as dense matrices in NumPy, luma is scikit-image's `rgb2ycbcr`, PSNR and SSIM are
scikit-image's (SSIM with Wang's Gaussian window). The figures of the likely mistakes were computed in the same way, the
degradation without antialiasing by OpenCV.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srlib.data.download import download
from srlib.evaluation.benchmark import evaluate, interpolation
from srlib.evaluation.sets import find_sets
from srlib.imaging.metrics import luma, psnr_y, ssim_y
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale, resize
from srlib.imaging.write import write_png
from srlib.params import Download

# Image → PSNR-Y in dB and SSIM-Y of bicubic ×4.
BICUBIC = {
    "astronaut": (26.8385, 0.84269),
    "chelsea": (31.4738, 0.80626),
    "coffee": (27.2915, 0.76482),
    "stereo_motorcycle": (25.3585, 0.75064),
}
MEAN_PSNR, MEAN_SSIM = 27.7406, 0.79110

# Mistake → mean PSNR-Y in dB over the four images, where the protocol gives 27.7406.
MISTAKES = {
    "degradation without antialiasing": 26.7301,
    "RGB instead of luma": 26.2353,
    "full-range luma": 26.4187,
    "PSNR of the mean error": 27.2351,
    "no border crop": 27.8011,
}
DEFAULT_SSIM = 0.80356
"""Mean of scikit-image's SSIM with its default window."""

SET5 = (28.430, 0.8111)
"""Bicubic ×4 on Set5 under the protocol, from an independent implementation."""


def original(name: str) -> np.ndarray:
    image = getattr(skimage.data, name)()
    return crop_to_multiple(np.asarray(image[0] if isinstance(image, tuple) else image), 4)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """(HR, bicubic SR) of every image."""
    return [(hr, resize(downscale(hr, 4), 4)) for hr in map(original, BICUBIC)]


def reference_matrix(old: int, new: int) -> np.ndarray:
    """Return the matrix [new, old] of one pass of `imresize`: Keys' kernel, antialiased, with clamped edges."""
    scale = new / old
    stretch = min(scale, 1.0)
    center = np.arange(1, new + 1) / scale + 0.5 * (1 - 1 / scale)
    index = np.floor(center - 2 / stretch)[:, None] + np.arange(int(np.ceil(4 / stretch)) + 2)
    x = np.abs(stretch * (center[:, None] - index))
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weight = np.where(x <= 1, near, np.where(x <= 2, far, 0))
    matrix = np.zeros((new, old))
    rows = np.arange(new)[:, None]
    np.add.at(matrix, (rows, index.clip(1, old).astype(int) - 1), weight / weight.sum(axis=1, keepdims=True))
    return matrix


def reference_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    def rounded(values: np.ndarray) -> np.ndarray:
        return np.floor(values.clip(0, 255) + 0.5 + 1e-9)

    tall = rounded(np.einsum("ij,jkc->ikc", reference_matrix(image.shape[0], height), image.astype(float)))
    return rounded(np.einsum("ij,kjc->kic", reference_matrix(image.shape[1], width), tall)).astype(np.uint8)


def reference_luma(image: np.ndarray) -> np.ndarray:
    return np.asarray(rgb2ycbcr(image))[4:-4, 4:-4, 0]


@pytest.mark.parametrize("name", BICUBIC)
def test_bicubic_scores_the_recorded_figures(name: str) -> None:
    hr = original(name)
    sr = resize(downscale(hr, 4), 4)
    assert psnr_y(hr, sr, scale=4) == pytest.approx(BICUBIC[name][0], abs=1e-4)
    assert ssim_y(hr, sr, scale=4) == pytest.approx(BICUBIC[name][1], abs=1e-5)


def test_recorded_figures_are_the_references() -> None:
    hr = original("chelsea")
    sr = reference_resize(reference_resize(hr, hr.shape[0] // 4, hr.shape[1] // 4), *hr.shape[:2])
    x, y = reference_luma(hr), reference_luma(sr)
    ssim = structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert peak_signal_noise_ratio(x, y, data_range=255) == pytest.approx(BICUBIC["chelsea"][0], abs=1e-4)
    assert ssim == pytest.approx(BICUBIC["chelsea"][1], abs=1e-5)


@pytest.mark.parametrize("name", BICUBIC)
def test_resizing_equals_the_reference(name: str) -> None:
    hr = original(name)
    lr = reference_resize(hr, hr.shape[0] // 4, hr.shape[1] // 4)
    np.testing.assert_array_equal(downscale(hr, 4), lr)
    np.testing.assert_array_equal(resize(lr, 4), reference_resize(lr, *hr.shape[:2]))


def test_the_benchmark_reports_the_mean(tmp_path: Path) -> None:
    for name in BICUBIC:
        write_png(tmp_path / "bundled/HR" / f"{name}.png", original(name))
    results = evaluate(find_sets(tmp_path, 4), [interpolation("bicubic")], 4)
    scores = [score.values for result in results for score in result.scores]
    assert len(scores) == len(BICUBIC)
    assert np.mean([values["psnr_y"] for values in scores]) == pytest.approx(MEAN_PSNR, abs=1e-4)
    assert np.mean([values["ssim_y"] for values in scores]) == pytest.approx(MEAN_SSIM, abs=1e-5)


def without_antialiasing(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    def sr(hr: np.ndarray) -> np.ndarray:
        lr = cv2.resize(hr, (hr.shape[1] // 4, hr.shape[0] // 4), interpolation=cv2.INTER_CUBIC)
        return resize(np.asarray(lr), 4)

    return mean([psnr_y(hr, sr(hr), scale=4) for hr, _ in pairs])


def rgb(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return mean([psnr(hr[4:-4, 4:-4], sr[4:-4, 4:-4]) for hr, sr in pairs])


def full_range(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    weights = np.array([0.299, 0.587, 0.114])
    return mean([psnr((hr @ weights)[4:-4, 4:-4], (sr @ weights)[4:-4, 4:-4]) for hr, sr in pairs])


def pooled(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    errors = [np.mean((luma(hr) - luma(sr))[4:-4, 4:-4] ** 2) for hr, sr in pairs]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def no_border(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return mean([psnr(luma(hr), luma(sr)) for hr, sr in pairs])


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


MEASURES: dict[str, Callable[[list[tuple[np.ndarray, np.ndarray]]], float]] = {
    "degradation without antialiasing": without_antialiasing,
    "RGB instead of luma": rgb,
    "full-range luma": full_range,
    "PSNR of the mean error": pooled,
    "no border crop": no_border,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_likely_mistake_scores_otherwise(mistake: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The mistake gives its recorded figure, so srlib would fail the tests above if it made the mistake."""
    assert MEASURES[mistake](pairs) == pytest.approx(MISTAKES[mistake], abs=1e-3)
    assert abs(MISTAKES[mistake] - MEAN_PSNR) > 0.01


def test_default_ssim_of_skimage_is_another(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    planes = [(luma(hr)[4:-4, 4:-4], luma(sr)[4:-4, 4:-4]) for hr, sr in pairs]
    assert mean([structural_similarity(x, y, data_range=255) for x, y in planes]) == pytest.approx(
        DEFAULT_SSIM, abs=1e-5
    )
    assert abs(DEFAULT_SSIM - MEAN_SSIM) > 0.005


def reachable(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


@pytest.mark.network
def test_bicubic_on_fetched_set5(tmp_path: Path) -> None:
    mirror = os.environ.get("SRLIB_MIRROR") or None
    if mirror is None and not reachable("raw.githubusercontent.com"):
        pytest.skip("needs a network or SRLIB_MIRROR")
    recipe = Download(train="none", test=["Set5"], features="none")
    download("test", tmp_path / "test", recipe, scale=4, store=tmp_path / "store", mirror=mirror)
    originals = [read_image(file) for file in sorted((tmp_path / "test/Set5/HR").glob("*.png"))]
    pairs = [(hr, resize(downscale(hr, 4), 4)) for hr in (crop_to_multiple(hr, 4) for hr in originals)]
    assert len(pairs) == 5
    assert mean([psnr_y(*pair, scale=4) for pair in pairs]) == pytest.approx(SET5[0], abs=0.002)
    assert mean([ssim_y(*pair, scale=4) for pair in pairs]) == pytest.approx(SET5[1], abs=0.0002)
