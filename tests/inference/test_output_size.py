from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.inference.output_size import factor_of, is_smaller, output_size, size_of, to_factor

SIDES = st.integers(1, 5000)


class TestFactor:
    @pytest.mark.parametrize("text", ["4", "x2", "1.5", "8/3", 4, 1.5, 8 / 3, Fraction(8, 3)])
    def test_numbers_and_fractions(self, text):
        assert to_factor(text) in (4, 2, Fraction(3, 2), Fraction(8, 3))

    @pytest.mark.parametrize("text", ["0", "-2", "17", "nan", "inf", "1/0", "abc", "", "1.0001", float("nan"), 0, 17])
    def test_out_of_range(self, text):
        with pytest.raises(SrlibError, match="scale: expected a factor from 1 to 16"):
            to_factor(text)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (1200, 1600)),
        ({"scale": 2.5}, (750, 1000)),
        ({"width": 3840}, (2880, 3840)),
        ({"height": 1080}, (1080, 1440)),
        ({"width": 1000, "height": 1000}, (1000, 1000)),
        ({"fit": "3840x2160"}, (2160, 2880)),
        ({"fit": (640, 2160)}, (480, 640)),
        ({"megapixels": 12}, (3000, 4000)),
    ],
)
def test_size_of_an_image_of_400_by_300(options, size):
    assert size_of(300, 400, output_size(**options).target(300, 400, 4)) == size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": np.float32(8 / 3)}, (800, 1067)),
        ({"scale": np.uint8(4)}, (1200, 1600)),
        ({"width": np.uint8(200)}, (150, 200)),
        ({"width": np.int16(1000), "height": np.uint8(250)}, (250, 1000)),
        ({"fit": (np.uint16(640), np.int64(2160))}, (480, 640)),
        ({"megapixels": np.float16(12)}, (3000, 4000)),
    ],
)
def test_numbers_of_numpy(options, size):
    result = size_of(300, 400, output_size(**options).target(300, 400, 4))
    assert result == size and {type(side) for side in result} == {int}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 2, "width": 9}, "size: expected one of .*, got scale and width or height"),
        ({"fit": "9x9", "megapixels": 1}, "got fit and megapixels"),
        ({"width": 0}, "width: expected a number of pixels from 1 to 1,048,576, got 0"),
        ({"height": -1}, "height: expected a number of pixels"),
        ({"height": 2**21}, "height: expected a number of pixels"),
        ({"fit": "big"}, "fit: expected width and height in pixels such as 3840x2160, got 'big'"),
        ({"fit": "0x9"}, "fit: expected"),
        ({"fit": (1, 2, 3)}, "fit: expected"),
        ({"megapixels": 0}, "megapixels: expected a number above 0 such as 8.3, got 0"),
        ({"megapixels": float("nan")}, "megapixels: expected"),
        ({"megapixels": float("inf")}, "megapixels: expected"),
        ({"megapixels": "8"}, "megapixels: expected a number above 0 such as 8.3, got '8'"),
        ({"width": 640.0}, r"width: expected a number of pixels from 1 to 1,048,576, got 640\.0"),
        ({"fit": (640.0, 480)}, "fit: expected width and height in pixels"),
    ],
)
def test_each_mistake_is_a_line(options, message):
    with pytest.raises(SrlibError, match=message):
        output_size(**options)


def test_more_than_sixteen_times_a_side_is_refused():
    with pytest.raises(SrlibError, match="20×10 to 321×161 pixels is more than ×16 along a side; ask for a smaller"):
        output_size(width=321).target(10, 20, 4)
    assert output_size(width=320).target(10, 20, 4) == (160, 320)


@given(SIDES, SIDES, SIDES, SIDES)
def test_fit_touches_a_side_of_the_box_and_keeps_the_proportions(height, width, box_width, box_height):
    size = output_size(fit=(box_width, box_height))
    factor = min(Fraction(box_width, width), Fraction(box_height, height))
    if factor > 16:
        with pytest.raises(SrlibError, match="is more than ×16"):
            size.target(height, width, 4)
        return
    new_height, new_width = size.target(height, width, 4)
    assert new_width <= box_width and new_height <= box_height
    assert new_width == box_width or new_height == box_height
    assert abs(new_width - width * factor) <= 1 and abs(new_height - height * factor) <= 1


def test_the_factor_of_a_size_is_the_larger_one():
    assert factor_of(10, 20, Fraction(5, 2)) == Fraction(5, 2)
    assert factor_of(10, 20, (30, 50)) == 3 and factor_of(10, 20, (20, 60)) == 3


def test_only_a_size_in_pixels_can_be_smaller():
    assert not is_smaller(10, 10, Fraction(1))
    assert is_smaller(10, 10, (10, 10)) and is_smaller(10, 10, (9, 10))
    assert not is_smaller(10, 10, (9, 11))
