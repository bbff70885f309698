from fractions import Fraction

import numpy as np
import pytest

from srlib.imaging.image_file import ImageFile
from srlib.imaging.resize import resize
from srlib.imaging.transparency import fill_transparent
from srlib.inference.output_size import size_of
from srlib.inference.upscale import pixels_to_process, upscale_image


def disc(size, dtype=np.uint8, oversampling=8):
    """A disc's exact coverage, 0 to the type's top."""
    fine = size * oversampling
    y, x = (np.mgrid[:fine, :fine] + 0.5) / oversampling - size / 2
    inside = np.hypot(x, y) < 0.35 * size
    cover = inside.reshape(size, oversampling, size, oversampling).mean((1, 3))
    return np.rint(cover * np.iinfo(dtype).max).astype(dtype)


def over(image, background):
    top = np.iinfo(image.rgb.dtype).max
    weight = image.alpha[..., None] / top
    return image.rgb / top * weight + background * (1 - weight)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("hidden", [0, 1])
@pytest.mark.parametrize("background", [0, 1])
def test_a_disc_on_transparent_ground_has_no_fringe(bicubic, dtype, hidden, background):
    """Whatever color lies under the transparent pixels: over the same ground as the ideal disc, of its own color."""
    top = np.iinfo(dtype).max
    color = np.array([0.8, 0.4, 0.1])
    alpha = resize(disc(256, dtype)[..., None], Fraction(1, 4))[..., 0]
    rgb = np.where(alpha[..., None] > 0, np.rint(color * top), hidden * top).astype(dtype)
    got = upscale_image(ImageFile(rgb, alpha), bicubic, Fraction(4))
    alone = np.rint(color * top) / top
    ideal = alone * got.alpha[..., None] / top + background * (1 - got.alpha[..., None] / top)
    assert np.abs(over(got, background) - ideal).max() < 1.5 / top, "the edge has the disc's own color"
    # What upscaling without filling does: the hidden color shines through.
    careless = ImageFile(resize(rgb, 4), got.alpha)
    assert np.abs(over(careless, background) - ideal).max() > 0.1
    exact = disc(256, dtype) / top
    assert np.sqrt(np.mean((got.alpha / top - exact) ** 2)) < 0.06
    flat = (exact == 0) & (np.hypot(*(np.mgrid[:256, :256] - 127.5)) > 0.35 * 256 + 12)
    assert (got.alpha[flat] == 0).all()


def test_only_transparent_pixels_are_filled_from_neighbors():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (37, 53, 3), np.uint8)
    alpha = np.zeros((37, 53), np.uint8)
    alpha[10:20, 5:25], alpha[30, 40] = 255, 3
    rgb[10:20, 5:25], rgb[30, 40] = (200, 10, 60), (0, 90, 250)
    filled = fill_transparent(rgb, alpha)
    np.testing.assert_array_equal(filled[alpha > 0], rgb[alpha > 0])
    assert (filled >= np.minimum((200, 10, 60), (0, 90, 250))).all()
    assert (filled <= np.maximum((200, 10, 60), (0, 90, 250))).all()
    assert np.abs(filled[9, 5:25] - np.array([200, 10, 60])).max() < 8, "the nearest counts most"
    np.testing.assert_array_equal(fill_transparent(rgb, alpha * 0), rgb)
    np.testing.assert_array_equal(fill_transparent(rgb, alpha * 0 + 1), rgb)


@pytest.mark.parametrize("factor", [Fraction(1), Fraction(3, 2), Fraction(3), Fraction(4), Fraction(8), Fraction(16)])
@pytest.mark.parametrize("size", [(1, 1), (7, 13)])
def test_other_factors_are_bicubic_from_the_networks_result(bicubic, factor, size):
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    done = []
    image = ImageFile(rgb, rgb[..., 0])
    got = upscale_image(image, bicubic, factor, on_pixels=done.append)
    assert got.rgb.shape[:2] == got.alpha.shape == size_of(*size, factor)
    np.testing.assert_array_equal(got.rgb, resize(bicubic(fill_transparent(rgb, rgb[..., 0])), factor / 4))
    assert sum(done) == pixels_to_process(image)


def test_gray_stays_gray_and_sixteen_bits_stay_fine(bicubic):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    rgb = np.broadcast_to(ramp[None, :, None], (8, 64, 3)).copy()
    got = upscale_image(ImageFile(rgb, gray=True), bicubic, Fraction(4)).rgb
    assert got.dtype == np.uint16 and (got == got[..., :1]).all()
    assert len(np.unique(got)) > 250, "more steps than 8 bits have"
    assert (np.diff(got[0, 8:-8, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("value", [0, 255])
def test_an_even_alpha_stays_even(bicubic, value):
    alpha = np.full((9, 9), value, np.uint8)
    got = upscale_image(
        ImageFile(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8), alpha), bicubic, Fraction(4)
    )
    assert (got.alpha == value).all()


def test_a_size_in_pixels_is_one_bicubic_step_after_the_network(bicubic):
    rgb = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    got = upscale_image(ImageFile(rgb, rgb[..., 0]), bicubic, (35, 90))
    assert got.rgb.shape[:2] == got.alpha.shape == (35, 90)
    opaque = upscale_image(ImageFile(rgb), bicubic, (35, 90))
    np.testing.assert_array_equal(opaque.rgb, resize(bicubic(rgb), (35, 90)))


def test_an_image_that_is_large_enough_does_not_pass_the_network():
    def no_network(rgb, *, on_pixels=None):
        raise AssertionError

    no_network.scale = 4
    rgb = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    done = []
    image = ImageFile(rgb, rgb[..., 0])
    got = upscale_image(image, no_network, (6, 10), on_pixels=done.append)
    np.testing.assert_array_equal(got.rgb, resize(fill_transparent(rgb, rgb[..., 0]), (6, 10)))
    assert got.alpha.shape == (6, 10)
    assert sum(done) == pixels_to_process(image)
    np.testing.assert_array_equal(upscale_image(ImageFile(rgb), no_network, (12, 20)).rgb, rgb)
