"""Known displacements and colors, found again."""

import cv2
import numpy as np
import pytest
import skimage.data

from srlib.errors import SrlibError
from srlib.imaging.metrics import psnr_y
from srlib.imaging.registration import apply_color, color_transform, covered, register, resample, tile_shift
from srlib.imaging.resize import downscale, resize

GAIN, OFFSET = np.array([0.9, 1.05, 0.97]), np.array([8, -4, 3])


def scene() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:400, :480])


def displaced(image: np.ndarray, degrees: float, factor: float, shift: tuple[float, float]) -> tuple:
    """The same scene by another camera: its image, and the map from the scene's pixel centers to its own."""
    angle = np.deg2rad(degrees)
    rotation = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_scene = np.array([[*rotation[0], shift[0]], [*rotation[1], shift[1]], [1e-6, -2e-6, 1]])
    size = image.shape[1], image.shape[0]
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    other = cv2.warpPerspective(image, to_scene, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    truth = np.linalg.inv(to_scene)
    return other, truth / truth[2, 2]


def with_noise(image: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("degrees", "factor", "shift"),
    [(0, 1, (0.6, -1.3)), (0.7, 1.013, (5.3, -3.7)), (-3, 0.97, (-20, 11)), (12, 1, (40, -60))],
)
def test_a_displacement_is_found_to_a_tenth_of_an_lr_pixel(degrees, factor, shift) -> None:
    full = scene()
    hr, truth = displaced(full, degrees, factor, shift)
    hr = np.clip(hr * GAIN + OFFSET, 0, 255).astype(np.uint8)
    registration = register(with_noise(downscale(full, 4), 4), hr, 4)
    places = np.array([[[100, 100], [380, 100], [100, 300], [380, 300]]], np.float64)
    errors = cv2.perspectiveTransform(places, registration.warp) - cv2.perspectiveTransform(places, truth)
    assert np.abs(errors).max() < 0.4
    assert registration.ratio == pytest.approx(4 / factor, rel=0.01)


def test_the_resampled_image_is_that_of_the_scene() -> None:
    full = scene()
    hr, _ = displaced(full, 0.7, 1.013, (5.3, -3.7))
    hr = np.clip(hr * GAIN + OFFSET, 0, 255).astype(np.uint8)
    lr = with_noise(downscale(full, 4), 3)
    warp = register(lr, hr, 4).warp
    fitted = resample(hr, warp, full.shape[:2])
    inner = np.s_[40:-40, 40:-40]
    small = resize(fitted, lr.shape[:2])[10:-10, 10:-10]
    image = apply_color(fitted, color_transform(small, lr[10:-10, 10:-10].astype(np.uint16) * 257))
    assert psnr_y(full[inner], image[inner], scale=4) > 38
    assert covered(hr, warp, full.shape[:2])[inner].all() and not covered(hr, warp, full.shape[:2]).all()


def test_an_image_on_its_own_grid_stays_as_it_is() -> None:
    full = scene()
    assert np.array_equal(resample(full, np.eye(3), full.shape[:2]), full.astype(np.uint16) * 257)


def test_an_hr_image_that_shows_more_of_the_scene() -> None:
    full = scene()
    registration = register(downscale(full[80:320, 120:440], 4), full, 4)
    assert np.abs(registration.warp[:2, 2] - (120, 80)).max() < 0.5


def test_two_scenes_are_refused() -> None:
    with pytest.raises(SrlibError, match="nothing in common"):
        register(downscale(scene(), 4), skimage.data.coffee(), 4)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.25), (-1.25, 0.75)])
def test_a_tile_is_shifted_by_parts_of_a_pixel(shift: tuple[float, float]) -> None:
    full = scene()
    moved = resample(full, np.array([[1, 0, 4 * shift[0]], [0, 1, 4 * shift[1]], [0, 0, 1.0]]), full.shape[:2])
    tile = np.s_[20:80, 20:80]
    ours = resize(moved, (100, 120))[tile]
    assert tile_shift(ours, downscale(full, 4)[tile]) == pytest.approx(shift, abs=0.1)


def test_a_flat_tile_has_no_shift() -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    assert tile_shift(with_noise(flat, 2), flat).tolist() == [0, 0]


def test_moved_objects_do_not_change_the_colors() -> None:
    source = scene()
    target = np.clip(source * GAIN + OFFSET, 0, 255)
    target[50:120, 60:130] = (255, 0, 0)
    matrix = color_transform(source, np.rint(target).astype(np.uint8))
    assert matrix[:3] == pytest.approx(np.diag(GAIN), abs=0.02) and matrix[3] == pytest.approx(OFFSET, abs=1.5)
