import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import rgb2ycbcr

from srlib.errors import SrlibError
from srlib.imaging.color import luma, network_input, rgb_from_output
from srlib.imaging.metrics import to_uint8
from srlib.imaging.resize import resize

LUMA = ["luma-studio", "luma"]
IMAGES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: arrays(np.uint8, (*size, 3)))


@given(image=IMAGES)
def test_studio_luma_is_that_of_scikit_image(image: np.ndarray) -> None:
    np.testing.assert_allclose(luma(image), rgb2ycbcr(image)[..., 0], atol=1e-10)


@given(image=IMAGES)
def test_full_range_luma_is_that_of_opencv(image: np.ndarray) -> None:
    theirs = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb)[..., 0].reshape(image.shape[:2])
    np.testing.assert_allclose(luma(image, "luma"), theirs, atol=1e-4)


def test_black_and_white_are_where_the_standard_has_them() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(luma(ends), [[16, 235]])
    np.testing.assert_allclose(network_input(ends, "luma-studio"), [[[16 / 255], [235 / 255]]], rtol=1e-7)
    np.testing.assert_allclose(network_input(ends, "luma"), [[[0], [1]]], atol=1e-7)
    np.testing.assert_array_equal(network_input(ends, "rgb"), [[[0, 0, 0], [1, 1, 1]]])


@pytest.mark.parametrize("channels", ["rgb", *LUMA])
@settings(deadline=None)
@given(lr=IMAGES, scale=st.integers(2, 4))
def test_bicubic_instead_of_a_network_gives_bicubic(channels: str, lr: np.ndarray, scale: int) -> None:
    bicubic = resize(lr, scale)
    np.testing.assert_array_equal(to_uint8(rgb_from_output(network_input(bicubic, channels), lr, channels)), bicubic)


@settings(deadline=None)
@given(lr=IMAGES, scale=st.integers(2, 4), seed=st.integers(0, 99))
def test_luma_is_the_networks_and_chroma_is_bicubics(lr: np.ndarray, scale: int, seed: int) -> None:
    sr = np.random.default_rng(seed).random((lr.shape[0] * scale, lr.shape[1] * scale, 1))
    actual = rgb2ycbcr(rgb_from_output(sr, lr, "luma-studio"))
    np.testing.assert_allclose(actual[..., 0], 255 * sr[..., 0], atol=1e-9)
    # scikit-image's matrix has six digits for chroma: luma alike in R, G and B moves its chroma by 1e-3 of a level.
    np.testing.assert_allclose(actual[..., 1:], rgb2ycbcr(resize(lr, scale))[..., 1:], atol=1e-2)


def test_a_batch_is_its_images() -> None:
    random = np.random.default_rng(0)
    lr, sr = random.integers(0, 256, (3, 4, 5, 3), np.uint8), random.random((3, 8, 10, 1))
    for channels in LUMA:
        together = rgb_from_output(sr, lr, channels)
        for index in range(3):
            np.testing.assert_array_equal(together[index], rgb_from_output(sr[index], lr[index], channels))


def test_unknown_channels_are_named() -> None:
    with pytest.raises(SrlibError, match="expected one of rgb, luma, luma-studio, got 'yuv'"):
        network_input(np.zeros((1, 1, 3), np.uint8), "yuv")
