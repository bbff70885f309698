import cv2
import numpy as np
import pytest
import skimage.data

from srlib.imaging.resize import downscale, resize
from srlib.training.diagnostics import checkerboard, color_shift


def photographs(scale: int, side: int = 96) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """HR images and the bicubic upscaling of their LR."""
    images = [skimage.data.coffee(), skimage.data.astronaut()]
    corners = [(y, x) for y in range(20, 300, side) for x in range(20, 300, side)]
    hr = [np.ascontiguousarray(p[y : y + side, x : x + side]) for p in images for y, x in corners]
    return hr, [resize(downscale(image, scale), (side, side)) for image in hr]


def with_checkerboard(images: list[np.ndarray], period: int, amplitude: float) -> list[np.ndarray]:
    y, x = np.indices(images[0].shape[:2])
    wave = amplitude * np.sqrt(2) * np.cos(2 * np.pi * x / period + 0.7) * np.sqrt(2) * np.cos(2 * np.pi * y / period)
    return [np.clip(p + wave[..., None], 0, 255).round().astype(np.uint8) for p in images]


def test_a_tint_is_measured_by_channel() -> None:
    hr = [np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 50, np.uint8)]
    sr = [image + np.array([3, 0, 7], np.uint8) for image in hr]
    sr[1] = sr[1] - np.array([0, 2, 0], np.uint8)
    assert color_shift(hr, sr) == pytest.approx((3, -1, 7))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_blurred_image_has_no_checkerboard(scale: int) -> None:
    hr, sr = photographs(scale)
    assert checkerboard(hr, hr, scale) == 0
    assert checkerboard(hr, [cv2.GaussianBlur(p, (0, 0), 1.5) for p in hr], scale) < 0.1
    assert checkerboard(hr, sr, scale) < 0.1


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("amplitude", [3.0, 8.0])
def test_a_checkerboard_of_period_scale_is_measured_in_levels(scale: int, amplitude: float) -> None:
    """Luma in the studio range has 219 of 255 levels."""
    hr, sr = photographs(scale)
    assert checkerboard(hr, with_checkerboard(sr, scale, amplitude), scale) == pytest.approx(
        amplitude * 219 / 255, rel=0.1
    )
    assert checkerboard(hr, with_checkerboard(sr, 7, amplitude), scale) < 0.3, "another period is no checkerboard"


def test_a_checkerboard_that_follows_the_content() -> None:
    """Its sign changes from place to place, so that the mean over positions would miss it."""
    hr, sr = photographs(4)
    sign = np.sign(np.sin(np.arange(96) / 96 * 2 * np.pi))[:, None, None]
    mixed = [
        np.where(sign > 0, a, b)
        for a, b in zip(with_checkerboard(sr, 4, 6.0), with_checkerboard(sr, 4, -6.0), strict=True)
    ]
    assert checkerboard(hr, mixed, 4) > 2


def test_a_checkerboard_of_single_pixels_counts_at_twice() -> None:
    hr, sr = photographs(2)
    board = 4 * (np.indices((96, 96)).sum(axis=0) % 2)[..., None]
    assert checkerboard(hr, [np.clip(p + board, 0, 255).astype(np.uint8) for p in sr], 2) > 1.5
