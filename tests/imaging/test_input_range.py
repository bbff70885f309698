"""The degradation that a model was trained for, as its config keeps it."""

import pytest

from srlib.errors import SrlibError
from srlib.imaging.input_range import CLEAN, InputRange


def test_a_config_holds_the_range():
    inputs = InputRange((0.0, 12.0), (0.0, 0.7), (30, 100))
    assert InputRange.from_json(inputs.as_json()) == inputs


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"noise": [0, 1]},
        {**CLEAN.as_json(), "other": [0, 1]},
        {**CLEAN.as_json(), "noise": [3, 1]},
        {**CLEAN.as_json(), "noise": [0]},
        {**CLEAN.as_json(), "blur": [0, float("nan")]},
        {**CLEAN.as_json(), "jpeg_quality": [0, 100]},
        {**CLEAN.as_json(), "jpeg_quality": [True, 100]},
        {**CLEAN.as_json(), "jpeg_quality": "30"},
    ],
)
def test_anything_else_is_refused(content):
    with pytest.raises(SrlibError, match=r"^inputs"):
        InputRange.from_json(content)


def test_excess_is_the_distance_to_the_nearer_end():
    inputs = InputRange((2.0, 12.0), (0.0, 1.0), (30, 90))
    assert inputs.excess(noise=1.5, blur=1.25, jpeg_quality=95) == {"noise": 0.5, "blur": 0.25, "jpeg_quality": 5.0}
    assert inputs.excess(noise=5.0, blur=0.5, jpeg_quality=60) == {}
    assert inputs.excess() == {}
