"""Estimates against images that were degraded with known settings."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from srlib.errors import SrlibError
from srlib.imaging.degradation import blur, from_uint8, gaussian_kernel, gaussian_noise, to_uint8
from srlib.imaging.estimation import estimate_traces, jpeg_settings
from srlib.imaging.input_range import SHARP
from srlib.imaging.resize import downscale


@pytest.fixture(scope="module")
def sharp():
    """Return photographs whose noise, blur and JPEG traces are gone: a third as large."""
    return [downscale(image, 3)[:320, :320] for image in (data.astronaut(), data.coffee(), data.cat())]


def degraded(image, *, sigma=0.0, noise=0.0, gray=False, seed=0):
    values = from_uint8(image)
    if sigma:
        values = blur(values, gaussian_kernel(sigma))
    if noise:
        values = gaussian_noise(values, noise, np.random.default_rng(seed), gray=gray)
    return to_uint8(values)


def jpeg(image, quality, subsampling=2):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def median(images, name, **settings):
    return float(np.median([getattr(estimate_traces(degraded(image, **settings)), name) for image in images]))


@pytest.mark.parametrize("noise", [5, 10, 20])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
@pytest.mark.parametrize("gray", [False, True])
def test_noise_within_15_percent(sharp, noise, sigma, gray):
    assert median(sharp, "noise", noise=noise, sigma=sigma, gray=gray) == pytest.approx(noise, rel=0.15)
    assert (median(sharp, "gray_noise", noise=noise, sigma=sigma, gray=gray) > 0.5) == gray


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("noise", [0, 5])
def test_blur_within_20_percent(sharp, sigma, noise):
    """The blur that was added, and the one that every sharp image has."""
    total = np.hypot(sigma, SHARP)
    assert median(sharp, "blur", sigma=sigma, noise=noise) == pytest.approx(total, rel=0.2)


@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.2, 1.6])
@pytest.mark.parametrize("quality", [75, 85, 95])
def test_jpeg_steps_are_not_taken_for_detail(sharp, sigma, quality):
    """Rounding to the steps has power at high frequencies, where blur leaves none."""
    contents = [jpeg(degraded(image, sigma=sigma), quality) for image in sharp]
    blurs = [estimate_traces(np.asarray(Image.open(io.BytesIO(content))), content).blur for content in contents]
    known = [value for value in blurs if value is not None]
    assert len(known) >= 2
    assert np.median(known) == pytest.approx(np.hypot(sigma, SHARP), rel=0.2, abs=0 if sigma else 0.2)


def test_a_spectrum_that_is_not_of_a_photograph_has_no_blur():
    """A smooth surface has a steep spectrum; so has a photograph of which compression left a few frequencies."""
    y, x = np.mgrid[:256, :256] / 256
    smooth = (128 + 60 * np.sin(3 * x + y) + 40 * np.cos(5 * y * x))[..., None].repeat(3, axis=2)
    assert estimate_traces(smooth.astype(np.uint8)).blur is None


def test_a_sharp_image_is_sharp_and_clean(sharp):
    assert median(sharp, "blur") < 0.5
    assert median(sharp, "noise") < 3


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 98])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_quality_of_a_jpeg(sharp, quality, subsampling):
    content = jpeg(sharp[0], quality, subsampling)
    assert jpeg_settings(content) == (quality, subsampling == 0)
    traces = estimate_traces(np.asarray(Image.open(io.BytesIO(content))), content)
    assert (traces.jpeg_quality, traces.full_chroma) == (quality, subsampling == 0)


def test_noise_above_what_can_be_seen_hides_blur(sharp):
    assert estimate_traces(degraded(sharp[0], sigma=3.0, noise=30)).blur is None


def test_flat_and_clipped_images_have_an_estimate():
    for value in (0, 128, 255):
        traces = estimate_traces(np.full((128, 160, 3), value, np.uint8))
        assert traces.noise == 0 and traces.blur is None
    half = np.zeros((256, 256, 3), np.uint8)
    half[:, 128:] = np.clip(np.random.default_rng(0).normal(128, 10, (256, 128, 3)), 0, 255)
    assert estimate_traces(half).noise == pytest.approx(10, rel=0.15), "black areas show no noise"


def test_sixteen_bits_are_in_the_same_levels(sharp):
    noisy = degraded(sharp[0], noise=8)
    assert estimate_traces(noisy.astype(np.uint16) * 257).noise == pytest.approx(estimate_traces(noisy).noise, rel=1e-6)


@pytest.mark.parametrize("shape", [(95, 200, 3), (200, 200), (200, 200, 1)])
def test_small_or_gray_arrays_are_refused(shape):
    with pytest.raises(SrlibError, match="expected RGB of at least 96 pixels per side"):
        estimate_traces(np.zeros(shape, np.uint8))


def test_what_is_not_a_jpeg_is_refused():
    with pytest.raises(SrlibError, match="not a JPEG file"):
        jpeg_settings(b"\xff\xd8 no")
