"""LR consistency: against dense linear algebra and against the resizing itself."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.imaging.consistency import _Axis, lr_consistency, make_consistent, undetermined_detail
from srlib.imaging.resize import downscale, resize

SIZES = st.tuples(st.integers(1, 40), st.integers(0, 200))


def noise(*shape, low=0, high=256, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape, dtype)


@given(SIZES)
@settings(deadline=None, max_examples=60)
def test_axis_is_the_matrix_of_the_resizing(size):
    lr, more = size
    axis = _Axis(lr + more, lr)
    dense = axis.matrix(slice(0, lr), slice(0, axis.hr))
    np.testing.assert_allclose(dense.sum(axis=1), 1)
    hr_values, lr_values = noise(axis.hr, 3).astype(float), noise(lr, 3, seed=1).astype(float)
    np.testing.assert_allclose(axis.apply(hr_values), dense @ hr_values, atol=1e-9)
    np.testing.assert_allclose(axis.transposed(lr_values), dense.T @ lr_values, atol=1e-9)
    solution = np.linalg.solve(dense @ dense.T, lr_values)
    np.testing.assert_allclose(axis.solve(lr_values), solution, atol=1e-7)
    rounded = np.floor(axis.apply(hr_values[:, :1]) + 0.5).clip(0, 255)
    resized = resize(hr_values[:, None, :1].astype(np.uint8), (lr, 1))[:, 0]
    assert np.abs(rounded - resized).max() <= 1, "equal but for sums that lie on a half"


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_any_size_becomes_consistent(height, width, more_rows, more_columns, seed):
    """The LR image comes from an HR image, so that consistent ones exist; the start has nothing to do with it."""
    size = height + more_rows, width + more_columns
    lr = resize(noise(*size, 3, low=40, high=216, seed=seed), (height, width))
    sr = make_consistent(lr, noise(*size, 3, low=90, high=160, seed=seed + 1))
    assert sr.shape == (*size, 3)
    assert lr_consistency(lr, sr).largest_error <= 1


@pytest.mark.parametrize("scale", [2, 3, 4, Fraction(5, 2), 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_and_channels(scale, dtype):
    top = np.iinfo(dtype).max
    hr = noise(60, 84, 1, low=top // 4, high=top // 2, dtype=dtype)
    lr = resize(hr, 1 / Fraction(scale))
    sr = make_consistent(lr, np.full(hr.shape, top // 3, dtype))
    assert sr.dtype == dtype
    assert lr_consistency(lr, sr).largest_error <= 1


def test_what_is_consistent_stays():
    hr = noise(48, 64, 3, low=60, high=190)
    change = make_consistent(downscale(hr, 4), hr).astype(int) - hr
    assert np.abs(change).max() <= 1, "no more than rounding asks for"


def test_change_is_the_smallest_one():
    """A change of D-transpose's range is orthogonal to all images that downscale to zero."""
    hr = noise(32, 32, 1, low=100, high=150)
    lr = downscale(hr, 4)
    start = np.full(hr.shape, 125, np.uint8)
    change = make_consistent(lr, start).astype(float) - 125
    axis = _Axis(32, 8)
    dense = axis.matrix(slice(0, 8), slice(0, 32))
    null = np.eye(32) - np.linalg.pinv(dense) @ dense
    in_null_space = null @ change[..., 0]
    assert np.sqrt(np.mean(in_null_space**2)) < 0.35, "rounding to whole levels: 0.29 levels"
    assert np.sqrt(np.mean(change**2)) > 2


def test_saturated_images_stay_in_range():
    hr = np.where(noise(64, 64, 3) > 127, 255, 0).astype(np.uint8)
    hr = np.kron(hr[:16, :16], np.ones((4, 4, 1), np.uint8))
    lr = downscale(hr, 4)
    start = resize(lr, 4)
    sr = make_consistent(lr, start)
    assert lr_consistency(lr, sr).psnr > lr_consistency(lr, start).psnr


def test_detail_that_disappears_is_undetermined():
    smooth = np.full((64, 64, 3), 128, np.uint8)
    assert undetermined_detail((16, 16), smooth).max() == 0
    checkerboard = smooth.copy()
    checkerboard[16:32, 16:32] += (20 * (np.indices((16, 16)).sum(0) % 2) - 10).astype(np.uint8)[..., None]
    detail = undetermined_detail((16, 16), checkerboard)
    assert 9 < detail[20:28, 20:28].mean() < 11
    assert detail[48:].max() < 1
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 64, 3))
    assert undetermined_detail((16, 16), ramp.copy())[8:-8].max() < 1, "bicubic detail is determined"
    deep = checkerboard.astype(np.uint16) * 257
    np.testing.assert_allclose(undetermined_detail((16, 16), deep), detail, atol=0.5)
    assert undetermined_detail((16, 16), checkerboard[..., :1]).shape == (64, 64)


def test_a_map_of_detail_takes_little_memory():
    sr = noise(3000, 160, 3)
    tracemalloc.start()
    undetermined_detail((750, 40), sr)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / (3000 * 160) < 20, "bytes per pixel; 44 with luma of the whole image"


def test_psnr_is_over_all_channels():
    lr = np.full((8, 8, 3), 100, np.uint8)
    sr = np.full((32, 32, 3), 100, np.uint8)
    assert lr_consistency(lr, sr).psnr == np.inf
    sr[..., 0] = 110
    assert lr_consistency(lr, sr).psnr == pytest.approx(20 * np.log10(255 / (10 / np.sqrt(3))))


@pytest.mark.parametrize(
    ("lr", "sr"),
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((7, 32, 3), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((32, 32, 1), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((32, 32, 3), np.uint16)),
        (np.zeros((8, 8), np.uint8), np.zeros((32, 32), np.uint8)),
        (np.zeros((8, 8, 3)), np.zeros((32, 32, 3))),
        (None, np.zeros((32, 32, 3), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), [[[0]]]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(lr, sr):
    for function in (lr_consistency, make_consistent):
        with pytest.raises(SrlibError, match="LR consistency: expected two uint8 or uint16 images"):
            function(lr, sr)
