import numpy as np
import pytest
import skimage.data

from srlib.data.model_inputs import input_range, is_downscaled
from srlib.imaging.input_range import CLEAN
from srlib.imaging.resize import downscale
from srlib.params import Prepare
from srlib.params.degradation import Degradation


def test_the_range_of_a_recipe():
    section = Degradation.model_validate(
        {
            "clean": 0.1,
            "passes": [
                {"noise": {"sigma": [2, 25]}, "compression": {"quality": [10, 95]}},
                {
                    "blur": {"sigma": [0.2, 6.0]},
                    "noise": {"sigma": [1, 12], "poisson": 0},
                    "compression": {"quality": [30, 95]},
                },
            ],
        }
    )
    inputs = input_range(Prepare(images="photos", degradation=section), 4)
    assert (inputs.noise, inputs.jpeg_quality) == ((0.0, 12.0), (30, 100)), "those of the last pass, and clean patches"
    assert inputs.blur == (0.0, 1.54)
    always = section.model_copy(update={"clean": 0.0})
    inputs = input_range(Prepare(images="photos", degradation=always), 4)
    assert (inputs.noise, inputs.jpeg_quality) == ((1.0, 12.0), (30, 95))
    assert input_range(Prepare(images="photos"), 4) == CLEAN


def test_a_pass_for_some_patches_leaves_others_clean():
    first = {"probability": 0.5, "noise": {"sigma": [5, 9], "poisson": 0}, "compression": {"quality": [40, 60]}}
    some, every = (
        Degradation.model_validate({"clean": 0.0, "passes": [{**first, "probability": share}, {}]})
        for share in (0.5, 1.0)
    )
    inputs = input_range(Prepare(images="photos", degradation=some), 4)
    assert (inputs.noise, inputs.jpeg_quality) == ((0.0, 9.0), (40, 100))
    inputs = input_range(Prepare(images="photos", degradation=every), 4)
    assert (inputs.noise, inputs.jpeg_quality) == ((5.0, 9.0), (40, 60))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_given_patches_are_clean_or_degraded(scale):
    """Patches of downscaled images are not the same as downscaled patches at their borders."""
    side = 10 * scale * 3
    hr = np.ascontiguousarray(skimage.data.astronaut()[80 : 80 + side, 120 : 120 + side])
    lr = downscale(hr, scale, edges="mirror")
    noise = np.random.default_rng(1).normal(0, 4, lr.shape)
    noisy = np.clip(np.rint(lr + noise), 0, 255).astype(np.uint8)
    moved = downscale(np.roll(hr, 2 * scale, axis=1), scale, edges="mirror")

    def cut(image, side):
        return np.stack([image[y : y + side, x : x + side] for y in (0, side, 2 * side) for x in (0, side, 2 * side)])

    assert is_downscaled(cut(lr, 10), cut(hr, 10 * scale))
    assert not is_downscaled(cut(noisy, 10), cut(hr, 10 * scale))
    assert not is_downscaled(cut(moved, 10), cut(hr, 10 * scale)), "another place"
