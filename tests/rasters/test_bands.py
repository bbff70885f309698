"""Bands as images: any numbers, with gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.rasters.bands import REACH, Group, upscale_group


class Repeat:
    """A model that repeats pixels; remembers what it was given."""

    name = "repeat"
    scale = 2

    def __call__(self, rgb, *, on_pixels=None):
        self.given = rgb
        return rgb.repeat(2, axis=0).repeat(2, axis=1)


def group(values, bands=(0,)):
    return Group(bands, float(values.min()), float(values.max()), float(values.mean()))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["uint16", "int16", "int32", "uint32", "float32", "float64"]),
    st.sampled_from([(0,), (0, 1, 2)]),
    st.integers(0, 2**31),
)
def test_numbers_come_back_within_a_level(dtype, bands, seed):
    """What a model that repeats pixels returns is the input, within half of a 65,535th of the range."""
    draw = np.random.default_rng(seed)
    values = (draw.random((len(bands), 5, 7)) * draw.choice([3, 500, 30_000]) - draw.choice([0, 1])).astype(dtype)
    if not np.issubdtype(dtype, np.floating):
        values = np.abs(values)
    result = upscale_group(values, np.ones(values.shape, bool), group(values, bands), Repeat())
    assert result.dtype == values.dtype and result.shape == (len(bands), 10, 14)
    step = float(values.max()) - float(values.min())
    np.testing.assert_allclose(result[:, ::2, ::2], values, atol=step / 65535 * 0.51 + 1e-6 * abs(step) + (step and 0))


def test_bytes_are_levels():
    values = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
    model = Repeat()
    result = upscale_group(values, np.ones(values.shape, bool), Group((0,), 0, 255, 9, is_byte=True), model)
    assert model.given.dtype == np.uint8
    np.testing.assert_array_equal(result[:, ::2, ::2], values)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_number_does_not_become_the_lowest(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.array([[[low, high, high // 2 + 1]]], dtype)
    result = upscale_group(values, np.ones(values.shape, bool), group(values), Repeat())[0, 0, ::2].tolist()
    step = (high - low) // 65535 + 2048
    assert all(abs(one - number) <= step for one, number in zip(result, values[0, 0].tolist(), strict=True))


def test_gaps_keep_their_numbers_and_do_not_reach_the_network():
    values = np.full((1, 30, 30), 5.0, np.float32)
    values[0, 10] = 6
    valid = np.ones(values.shape, bool)
    values[0, 4:7, 4:7], values[0, 20:25, 20:25] = np.nan, -9999
    valid[0, 4:7, 4:7] = valid[0, 20:25, 20:25] = False
    model = Repeat()
    result = upscale_group(values, valid, Group((0,), 5, 6, 5), model)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(values).repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(result == -9999, (values == -9999).repeat(2, 1).repeat(2, 2))
    assert model.given[22, 22, 0] == 0, "filled by its neighbors, which are the lowest number"


def test_a_gap_is_filled_from_its_reach_only():
    """A number beyond the reach changes nothing, so that windows with this border give the same."""
    values, valid = np.ones((1, 40, 40), np.float32), np.ones((1, 40, 40), bool)
    valid[0, :, :20] = False
    changed = values.copy()
    changed[0, :, 20 + REACH :] = 0.5
    fills = []
    for numbers in (values, changed):
        model = Repeat()
        upscale_group(numbers, valid, Group((0,), 0, 1, 0.25), model)
        fills.append(model.given[:, :20])
    np.testing.assert_array_equal(*fills)
    assert fills[0][0, 0, 0] == round(0.25 * 65535), "too far from any number: the mean"


@pytest.mark.parametrize("values", [np.full((1, 3, 4), 7, np.int16), np.full((1, 3, 4), np.nan, np.float32)])
def test_nothing_to_compute(values):
    """A constant band and one without valid numbers are repeated."""
    valid = np.isfinite(values)
    result = upscale_group(values, valid, Group((0,), 7, 7, 7), Repeat())
    np.testing.assert_array_equal(result, values.repeat(2, 1).repeat(2, 2))
