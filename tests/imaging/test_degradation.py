import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from srlib.errors import SrlibError
from srlib.imaging import degradation as d


def photograph(height=96, width=128):
    import skimage.data

    return d.from_uint8(skimage.data.astronaut()[100 : 100 + height, 150 : 150 + width])


@given(st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0, 3.2), st.floats(0.4, 3))
def test_kernels_are_normalized_and_centered(sigma_x, sigma_y, angle, shape):
    kernel = d.gaussian_kernel(sigma_x, sigma_y, angle=angle, shape=shape)
    assert kernel.sum() == pytest.approx(1, abs=1e-5) and len(kernel) % 2
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.5])
def test_isotropic_blur_equals_scipy(sigma):
    image = photograph()
    radius = len(d.gaussian_kernel(sigma)) // 2
    expected = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0))
    np.testing.assert_allclose(d.blur(image, d.gaussian_kernel(sigma)), expected, atol=2e-6)


def test_anisotropic_kernel_has_its_moments():
    kernel = d.gaussian_kernel(3.0, 1.0, angle=0.6).astype(float)
    radius = len(kernel) // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    covariance = [[(kernel * a * b).sum() for a in (x, y)] for b in (x, y)]
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(np.sqrt(values), [1.0, 3.0], rtol=0.06)  # cut off at three deviations
    assert np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(24, 32), (17, 45), (200, 131)])
def test_resampling_keeps_a_ramp_in_place(method, height, width):
    y, x = np.mgrid[:64, :96].astype(np.float32)
    ramp = np.stack([(y + 0.5) / 64, (x + 0.5) / 96, 0 * x], axis=2)
    small = d.resample(ramp, height, width, method)
    inner = np.s_[height // 4 : -height // 4, width // 4 : -width // 4]
    rows, columns = np.mgrid[:height, :width]
    np.testing.assert_allclose(small[inner][..., 0], ((rows + 0.5) / height)[inner], atol=0.01)
    np.testing.assert_allclose(small[inner][..., 1], ((columns + 0.5) / width)[inner], atol=0.01)


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_its_deviation(gray):
    flat = np.full((200, 200, 3), 0.5, np.float32)
    noise = (d.gaussian_noise(flat, 8, np.random.default_rng(1), gray=gray) - flat) * 255
    assert noise.std() == pytest.approx(8, rel=0.02) and abs(noise.mean()) < 0.1
    assert bool(np.ptp(noise, axis=2).max() < 1e-4) is gray


@pytest.mark.parametrize("level", [0.1, 0.4, 0.9])
def test_poisson_noise_grows_with_brightness(level):
    flat = np.full((300, 300, 3), level, np.float32)
    noise = d.poisson_noise(flat, 1.0, np.random.default_rng(2)) - flat
    photons = np.random.default_rng(3).poisson(level * 255, 90_000) / 255  # the exact distribution
    assert noise.std() == pytest.approx(photons.std(), rel=0.03)


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_jpeg_equals_pillow(quality):
    image = photograph()
    content = io.BytesIO()
    Image.fromarray(d.to_uint8(image)).save(content, "JPEG", quality=quality, subsampling=2)
    expected = np.asarray(Image.open(content))
    np.testing.assert_array_equal(d.to_uint8(d.compress(image, "jpeg", quality)), expected)


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_lower_quality_is_further_from_the_image(codec):
    image = photograph()
    errors = [float(np.abs(d.compress(image, codec, quality) - image).mean()) for quality in (20, 50, 90)]
    assert errors == sorted(errors, reverse=True) and errors[2] > 0


@given(st.integers(0, 255))
def test_levels_survive_the_conversion(level):
    assert (d.to_uint8(d.from_uint8(np.full((1, 1, 3), level, np.uint8))) == level).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: d.gaussian_kernel(0.0), "expected sigma and shape above 0, got 0.0"),
        (lambda image: d.resample(image, 4, 4, "nearest"), "expected area, bilinear, bicubic, got nearest"),
        (lambda image: d.compress(image, "avif", 50), "expected jpeg or webp, got avif"),
    ],
)
def test_wrong_settings_are_named(call, message):
    with pytest.raises(SrlibError, match=message):
        call(photograph())
