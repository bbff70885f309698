"""Known noise in files of Pillow's encoder: photographs, textures and the kinds of JPEG."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from srlib.imaging.estimation import estimate_traces
from srlib.imaging.jpeg_noise import LUMA, JpegNoise, jpeg_noise, lowest_noise
from srlib.imaging.resize import downscale
from srlib.imaging.spread import spread_parts


@pytest.fixture(scope="module")
def photographs():
    """Return photographs whose own noise and JPEG traces are gone: half as large."""
    return [downscale(image, 2) for image in (data.astronaut(), data.coffee(), data.cat())]


def noisy(image, sigma, channels=1, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (*image.shape[:2], channels))
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def stored(image, quality, **settings):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, **settings)
    return out.getvalue()


@pytest.mark.parametrize(("quality", "sigma"), [(90, 14), (80, 14), (60, 20)])
@pytest.mark.parametrize("subsampling", [0, 1])
def test_luma_noise_within_15_percent(photographs, quality, sigma, subsampling):
    results = [jpeg_noise(stored(noisy(one, sigma), quality, subsampling=subsampling), quality) for one in photographs]
    noises = [result.noise for result in results if result]
    assert len(noises) >= 2 and np.median(noises) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_share_that_all_channels_have_in_common(photographs, subsampling, channels):
    files = [stored(noisy(photograph, 14, channels), 92, subsampling=subsampling) for photograph in photographs]
    results = [jpeg_noise(file, 92) for file in files]
    shares = [result.gray_noise for result in results if result.gray_noise is not None]
    assert len(shares) >= 2 and all(share > 0.8 if channels == 1 else share < 0.2 for share in shares)
    sigma = 14 if subsampling == 0 or channels == 1 else 14 * LUMA
    noises = [result.noise for result in results if result.gray_noise is not None]
    assert noises == pytest.approx([sigma] * len(noises), rel=0.15)


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
@pytest.mark.parametrize("quality", [92, 85, 75, 60])
def test_texture_is_no_noise(name, quality):
    result = jpeg_noise(stored(getattr(data, name)(), quality), quality)
    assert result is None or result.noise == 0


@pytest.mark.parametrize("quality", [92, 85, 75, 60])
@pytest.mark.parametrize("sigma", [0, 1.5])
def test_clean_photographs_have_no_noise(photographs, quality, sigma):
    results = [jpeg_noise(stored(noisy(one, sigma), quality), quality) for one in photographs]
    assert not any(result and result.noise for result in results)


def test_noise_before_a_limit_is_left_out():
    flat = noisy(np.full((256, 256, 3), 128), 5)
    assert jpeg_noise(stored(flat, 85), 85).noise == pytest.approx(5, rel=0.05)
    assert lowest_noise(60) > 5 and jpeg_noise(stored(flat, 60), 60) == JpegNoise(0.0)


def test_black_and_white_do_not_count():
    image = np.zeros((256, 384, 3))
    image[:, :128], image[:, 128:256] = 255, 128
    assert jpeg_noise(stored(noisy(image, 8), 90), 90).noise == pytest.approx(8, rel=0.1)
    assert jpeg_noise(stored(np.zeros((256, 256, 3), np.uint8), 90), 90) is None


def test_shot_noise_is_between_that_of_dark_and_bright_parts():
    levels = np.repeat(np.linspace(40, 200, 12), 32)
    sigma = 8 * np.sqrt(levels / 127.5)[:, None]
    noise = np.random.default_rng(0).normal(0, 1, (384, 384)) * sigma
    image = np.clip(np.rint(levels[:, None] + noise), 0, 255).astype(np.uint8)
    assert sigma.min() * 0.9 < jpeg_noise(stored(image, 90), 90).noise < sigma.max()


def test_kinds_of_jpeg():
    image = noisy(np.full((256, 256, 3), 120), 10, channels=3)
    luma = np.asarray(Image.fromarray(image).convert("L"))
    gray = jpeg_noise(stored(luma, 85), 85)
    assert gray.noise == pytest.approx(luma.std(), rel=0.05) and gray.gray_noise == 1
    assert jpeg_noise(stored(image, 85, subsampling=1), 85).gray_noise is None, "4:2:2 is interpolated by the decoder"
    progressive = jpeg_noise(stored(image, 85, progressive=True), 85)
    assert progressive == jpeg_noise(stored(image, 85), 85)
    assert progressive.noise == pytest.approx(10 * LUMA, rel=0.05) and progressive.gray_noise < 0.2
    assert jpeg_noise(stored(image, 85, keep_rgb=True), 85) is None
    cmyk = np.asarray(Image.fromarray(image).convert("CMYK"))
    out = io.BytesIO()
    Image.fromarray(cmyk, "CMYK").save(out, "JPEG", quality=85)
    assert jpeg_noise(out.getvalue(), 85) is None


@pytest.mark.parametrize("shape", [(8, 8), (96, 96), (20, 300), (101, 203)])
def test_any_size(shape):
    result = jpeg_noise(stored(noisy(np.full((*shape, 3), 120), 9), 85), 85)
    assert (result is None) == (min(shape) < 90) or result.noise == pytest.approx(9, rel=0.15)


def test_traces_take_it_below_quality_93():
    image = noisy(np.full((256, 256, 3), 120), 8)
    below, above = (estimate_traces(image, stored(image, quality)) for quality in (88, 95))
    decoded = np.asarray(Image.open(io.BytesIO(stored(image, 80))))
    assert estimate_traces(decoded).noise < 5, "the pixels have lost it"
    assert estimate_traces(decoded, stored(image, 80)).noise == pytest.approx(8, rel=0.1)
    assert not below.hides_noise and not above.hides_noise
    assert below.luma_noise == pytest.approx(8, rel=0.1)


def test_texture_hides_whether_there_is_noise():
    grass = np.repeat(data.grass()[..., None], 3, axis=2)
    assert estimate_traces(grass, stored(grass, 85)).hides_noise


def test_parts_of_a_large_image_lie_on_blocks():
    rows = np.arange(2001)[:, None] + np.zeros((1, 1000), int)
    parts = spread_parts(rows)
    assert parts.shape == (16, 256, 256) and not (parts[:, 0, 0] % 8).any()
    assert parts[0, 0, 0] == 0 and parts[-1, -1, 0] >= 1990
