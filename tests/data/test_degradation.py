import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.data.batches import Batches
from srlib.data.degradation import (
    degrade_image,
    degrade_patch,
    keyed_generator,
    read_degradation,
)
from srlib.data.patches import prepare_patches
from srlib.errors import SrlibError
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png
from srlib.params import Prepare
from srlib.params.degradation import Degradation

ONE_OF_EACH = {"blur": {}, "noise": {}, "compression": {}}


def section(*passes, clean=0.0):
    return Degradation.model_validate({"clean": clean, "passes": list(passes)})


def photograph(height=128, width=192):
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut()[80 : 80 + height, 120 : 120 + width])


@pytest.fixture
def images(tmp_path):
    for number in range(4):
        write_png(tmp_path / "in" / f"{number}.png", photograph()[:, 10 * number :][:, :150])
    return tmp_path / "in"


def prepared(images, out, **changes):
    options = {"images": "images", "patch": 24, "stride": 8, "validation": 0.3} | changes
    return prepare_patches(images, out, Prepare.model_validate(options), scale=4, seed=5)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(40, 70), st.integers(40, 70), st.integers(1, 2), st.integers(0, 2**31))
def test_any_draw_has_the_lr_size(scale, height, width, passes, seed):
    lr = degrade_image(photograph(height, width), scale, section(*[ONE_OF_EACH] * passes), keyed_generator(str(seed)))
    assert lr.shape == (height // scale, width // scale, 3) and lr.dtype == np.uint8


def test_clean_patches_are_plain_bicubic():
    hr = photograph()
    np.testing.assert_array_equal(
        degrade_image(hr, 4, section(ONE_OF_EACH, clean=1.0), keyed_generator("a")), downscale(hr, 4, edges="mirror")
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_degraded_images_stay_aligned(scale):
    """The shift that fits best is none, over draws with strong resizing and blur."""
    hr = photograph()
    params = section({"blur": {"sigma": [0.5, 1.5]}, "resize": {"factor": [0.5, 1.5]}}, {})
    mean = np.mean([degrade_image(hr, scale, params, keyed_generator(str(seed))) for seed in range(12)], axis=0)
    lr = downscale(hr, scale).astype(float)
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    errors = {s: np.abs(np.roll(mean, s, (0, 1)) - lr)[2:-2, 2:-2].mean() for s in shifts}
    assert min(errors, key=errors.get) == (0, 0)


def test_a_pass_happens_with_its_probability():
    """A quarter of the images receives the first pass's noise."""
    params, flat = section({"probability": 0.25, "noise": {"sigma": [30, 30]}}, {}), np.full((64, 64, 3), 128, np.uint8)
    noisy = [degrade_image(flat, 4, params, keyed_generator(str(seed))).std() > 0 for seed in range(80)]
    assert 10 <= sum(noisy) <= 30


def test_the_last_pass_cannot_be_left_out():
    with pytest.raises(ValueError, match="the last pass makes the LR image and always happens"):
        section({"probability": 0.5})


def test_noise_has_the_requested_deviation():
    flat = np.full((400, 400, 3), 128, np.uint8)
    params = section({"noise": {"sigma": [10, 10], "poisson": 0, "gray": 0}})
    assert degrade_image(flat, 4, params, keyed_generator("n")).std() == pytest.approx(10, rel=0.03)


def test_patch_equals_its_image_without_noise():
    """Away from JPEG's grid and from noise, a patch is the part of the degraded image."""
    hr, params = photograph(), section({"blur": {"sigma": [0.8, 0.8], "anisotropic": 0, "generalized": 0}})
    whole = degrade_image(hr, 4, params, keyed_generator("x"))
    patch = degrade_patch(hr, 9, 12, 12, 4, params, keyed_generator("x"))
    np.testing.assert_allclose(patch.astype(int), whole[9:21, 12:24], atol=1)


def test_prepared_folder_is_the_same_for_any_workers(images, tmp_path):
    changes = {"degradation": {"passes": [ONE_OF_EACH, ONE_OF_EACH]}}
    contents = []
    for workers in (1, 3):
        params = Prepare.model_validate({"images": "images", "patch": 24, "stride": 8, "validation": 0.3} | changes)
        prepare_patches(images, tmp_path / f"{workers}", params, scale=4, seed=5, workers=workers)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / f"{workers}").iterdir()})
    assert contents[0] == contents[1] and "degradation.json" in contents[0]


def test_hr_and_index_are_those_of_clean_patches(images, tmp_path):
    prepared(images, tmp_path / "clean")
    prepared(images, tmp_path / "degraded", degradation={"passes": [ONE_OF_EACH]})
    for name in ("train_hr.npy", "validation_hr.npy", "index.csv"):
        assert (tmp_path / "clean" / name).read_bytes() == (tmp_path / "degraded" / name).read_bytes()
    assert (tmp_path / "clean/train_lr.npy").read_bytes() != (tmp_path / "degraded/train_lr.npy").read_bytes()
    with (tmp_path / "degraded/index.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 10


def test_each_step_degrades_anew_and_repeats_exactly(images, tmp_path):
    prepared(images, tmp_path / "out", degradation={"clean": 0.0, "passes": [ONE_OF_EACH]})
    batches, again = (Batches(tmp_path / "out", lr_patch=16, batch=6, seed=3) for _ in range(2))
    for step in (0, 7):
        for one, other in zip(batches(step), again(step), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(batches(0)[0], batches(1)[0])
    shares = [Batches(tmp_path / "out", lr_patch=16, batch=6, seed=3, rank=rank, world=3)(4)[0] for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(shares), batches(4)[0])


def test_validation_patches_are_as_stored(images, tmp_path):
    prepared(images, tmp_path / "out", degradation={"passes": [ONE_OF_EACH]})
    batches = Batches(tmp_path / "out", lr_patch=24, batch=2, seed=0, split="validation", augment=False)
    stored = np.load(tmp_path / "out/validation_lr.npy")
    assert all((stored == lr).all(axis=(1, 2, 3)).any() for lr in batches(0)[0])


def test_damaged_section_is_one_line(tmp_path):
    (tmp_path / "degradation.json").write_text('{"passes": []}')
    with pytest.raises(SrlibError, match=r"degradation\.json: not a section `prepare\.degradation`"):
        read_degradation(tmp_path)
