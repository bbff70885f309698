import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.data.batches import Batches, prefetch, validation_pairs
from srlib.data.degradation import write_degradation
from srlib.errors import SrlibError
from srlib.imaging.resize import downscale
from srlib.params.degradation import Degradation
from srlib.params.training import REACH

COUNT, PATCH, SCALE = 11, 12, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Patches whose HR pixel (y, x) holds its patch and the LR pixel it belongs to: any misalignment shows."""
    path = tmp_path_factory.mktemp("patches")
    number, y, x = np.meshgrid(np.arange(COUNT), np.arange(PATCH), np.arange(PATCH), indexing="ij")
    lr = np.stack([number, y, x], axis=-1).astype(np.uint8)
    hr = lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    for split, part in (("train", slice(None)), ("validation", slice(3))):
        np.save(path / f"{split}_lr.npy", lr[part])
        np.save(path / f"{split}_hr.npy", hr[part])
    return path


def orientations(square):
    """The eight, from rotations and one mirroring: another way than the code's."""
    return [np.rot90(side, turns) for side in (square, square[:, ::-1]) for turns in range(4)]


def test_shapes_and_alignment(folder):
    batches = Batches(folder, lr_patch=5, batch=7, seed=3)
    assert (len(batches), batches.scale) == (COUNT, SCALE)
    for step in range(20):
        lr, hr = batches(step)
        assert lr.shape == (7, 5, 5, 3) and hr.shape == (7, 15, 15, 3) and lr.dtype == hr.dtype == np.uint8
        np.testing.assert_array_equal(lr.repeat(SCALE, 1).repeat(SCALE, 2), hr)


def test_each_pair_is_an_oriented_part_of_its_patch(folder):
    batches, seen = Batches(folder, lr_patch=5, batch=8, seed=3), set()
    source = np.load(folder / "train_lr.npy")
    for step in range(60):
        for crop in batches(step)[0]:
            number, (top, left) = crop[0, 0, 0], crop[..., 1:].min(axis=(0, 1))
            options = orientations(source[number, top : top + 5, left : left + 5])
            matching = [i for i, option in enumerate(options) if np.array_equal(option, crop)]
            assert len(matching) == 1
            seen.add((matching[0], top, left))
    for part, values in ((0, range(8)), (1, range(PATCH - 4)), (2, range(PATCH - 4))):
        assert {entry[part] for entry in seen} == set(values)


def test_balanced_sampling_follows_square_root(folder):
    """Of images with 1, 9 and 1 patches: 1 : 3 : 1, each patch of the second a ninth of that."""
    images = ["a", *["b"] * 9, "c"]
    rows = ["split,row,image,y,x", *(f"train,{row},{name},0,0" for row, name in enumerate(images))]
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    batches = Batches(folder, lr_patch=5, batch=50, seed=1, sampling="balanced")
    counts = sum(np.bincount(batches(step)[0][:, 0, 0, 0], minlength=COUNT) for step in range(180))
    expected = 9000 * np.array([3, *[1] * 9, 3]) / 15
    assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))
    shares = [
        Batches(folder, lr_patch=5, batch=50, seed=1, sampling="balanced", rank=rank, world=5) for rank in range(5)
    ]
    np.testing.assert_array_equal(np.concatenate([share(5)[0] for share in shares]), batches(5)[0])


def test_balanced_sampling_needs_a_matching_index(folder, tmp_path):
    for split in ("train_lr", "train_hr"):
        (tmp_path / f"{split}.npy").write_bytes((folder / f"{split}.npy").read_bytes())
    with pytest.raises(SrlibError, match=r"index\.csv: no such file; run the prepare stage first"):
        Batches(tmp_path, lr_patch=5, batch=3, seed=1, sampling="balanced")
    (tmp_path / "index.csv").write_text("split,row,image,y,x\ntrain,0,a,0,0\n")
    with pytest.raises(SrlibError, match=r"index\.csv: 1 train records for 11 patches; run the prepare stage again"):
        Batches(tmp_path, lr_patch=5, batch=3, seed=1, sampling="balanced")


def test_orientations_are_equally_likely(folder):
    batches = Batches(folder, lr_patch=PATCH, batch=64, seed=5)
    source = np.load(folder / "train_lr.npy")
    counts = np.zeros(8)
    for step in range(25):
        for crop in batches(step)[0]:
            options = orientations(source[crop[0, 0, 0]])
            counts[next(i for i, option in enumerate(options) if np.array_equal(option, crop))] += 1
    expected = 25 * 64 / 8
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # chi-squared, 7 degrees of freedom, p = .001


def test_each_epoch_draws_each_patch_once_in_new_order(folder):
    batches = Batches(folder, lr_patch=PATCH, batch=4, seed=0, augment=False)
    numbers = np.concatenate([batches(step)[0][:, 0, 0, 0] for step in range(COUNT)]).reshape(4, COUNT)
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in numbers)
    assert len({tuple(epoch) for epoch in numbers}) == 4


def test_no_augmentation_keeps_orientation(folder):
    lr, _ = Batches(folder, lr_patch=PATCH, batch=COUNT, seed=0, augment=False)(0)
    np.testing.assert_array_equal(lr[np.argsort(lr[:, 0, 0, 0])], np.load(folder / "train_lr.npy"))


def test_batch_depends_on_seed_and_step_only(folder):
    first, second = (Batches(folder, lr_patch=5, batch=6, seed=9) for _ in range(2))
    forwards = [first(step) for step in range(30)]
    for step in reversed(range(30)):
        np.testing.assert_array_equal(second(step)[1], forwards[step][1])
    in_memory = Batches(folder, lr_patch=5, batch=6, seed=9, in_memory=True)
    np.testing.assert_array_equal(in_memory(7)[1], forwards[7][1])
    other = Batches(folder, lr_patch=5, batch=6, seed=10)
    assert not any(np.array_equal(other(step)[0], lr) for step, (lr, _) in enumerate(forwards))
    assert len({lr.tobytes() for lr, _ in forwards}) == 30
    assert first(2**40)[0].shape == (6, 5, 5, 3)


@given(seed=st.integers(0, 2**31 - 1), step=st.integers(0, 10**7), share=st.integers(1, 5), world=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_shares_of_processes_form_the_batch(folder, seed, step, share, world):
    options = {"lr_patch": 4, "batch": share * world, "seed": seed}
    whole = Batches(folder, **options)(step)
    shares = [Batches(folder, **options, rank=rank, world=world)(step) for rank in range(world)]
    for side in range(2):
        np.testing.assert_array_equal(np.concatenate([part[side] for part in shares]), whole[side])


@pytest.fixture(scope="module", params=[2, 3, 4])
def photos(tmp_path_factory, request):
    """Noise, as `prepare` stores it: LR of a larger image, so that a patch's border depends on what lies around it."""
    scale, path = request.param, tmp_path_factory.mktemp("photos")
    images = np.random.default_rng(0).integers(0, 256, (4, 24 * scale, 24 * scale, 3), dtype=np.uint8)
    inner = slice(4 * scale, -4 * scale)
    np.save(path / "train_hr.npy", images[:, inner, inner])
    np.save(path / "train_lr.npy", np.stack([downscale(image, scale)[4:-4, 4:-4] for image in images]))
    return path, images, scale


def test_positions_at_every_hr_pixel(photos):
    """HR begins at each allowed pixel of the patch, and LR is what the whole image downscaled from there would hold."""
    folder, images, scale = photos
    batches, seen = Batches(folder, lr_patch=8, batch=16, seed=3, positions="hr_pixels", augment=False), set()
    stored = images[:, 4 * scale : -4 * scale, 4 * scale : -4 * scale]
    for step in range(20):
        for lr, hr in zip(*batches(step), strict=True):
            number, top, left = np.argwhere((stored[:, :, :, None] == hr[0, 0]).all(axis=(-1, -2)))[0]
            np.testing.assert_array_equal(stored[number, top:, left:][: 8 * scale, : 8 * scale], hr)
            whole = images[number, (4 * scale + top) % scale :, (4 * scale + left) % scale :]
            at = (4 * scale + top) // scale, (4 * scale + left) // scale
            np.testing.assert_array_equal(downscale(whole, scale)[at[0] :, at[1] :][:8, :8], lr)
            seen.add((top, left))
    assert {place[axis] for place in seen for axis in (0, 1)} == set(range(REACH * scale, (16 - 8 - REACH) * scale + 1))


def test_positions_at_hr_pixels_degrade_from_there(photos, tmp_path):
    folder = photos[0]
    for name in ("train_lr.npy", "train_hr.npy"):
        (tmp_path / name).symlink_to(folder / name)
    write_degradation(tmp_path, Degradation.model_validate({"clean": 1.0, "passes": [{}]}))
    degraded, clean = (Batches(at, lr_patch=8, batch=16, seed=3, positions="hr_pixels") for at in (tmp_path, folder))
    for one, other in zip(degraded(5), clean(5), strict=True):
        np.testing.assert_array_equal(one, other)


def test_positions_at_hr_pixels_need_a_border_and_downscaled_lr(photos, tmp_path):
    with pytest.raises(SrlibError, match=r"expected lr_patch from 1 to the stored side 16 less 4, got 13"):
        Batches(photos[0], lr_patch=13, batch=2, seed=0, positions="hr_pixels")
    (tmp_path / "train_hr.npy").symlink_to(photos[0] / "train_hr.npy")
    np.save(tmp_path / "train_lr.npy", np.load(photos[0] / "train_lr.npy") // 2)
    with pytest.raises(SrlibError, match=r"the stored LR patches are not the HR patches, downscaled, .*lr_pixels"):
        Batches(tmp_path, lr_patch=5, batch=2, seed=0, positions="hr_pixels")


def test_validation_pairs_are_the_files(folder):
    lr, hr = validation_pairs(folder)
    assert isinstance(hr, np.memmap)
    assert lr.shape == (3, PATCH, PATCH, 3) and hr.shape == (3, SCALE * PATCH, SCALE * PATCH, 3)
    assert len(Batches(folder, lr_patch=4, batch=2, seed=0, split="validation")) == 3


def test_prefetch_yields_the_same_in_order(folder):
    batches = Batches(folder, lr_patch=5, batch=6, seed=9)
    for threads in (1, 3):
        steps = list(prefetch(batches, 5, 17, threads=threads))
        assert [step for step, *_ in steps] == list(range(5, 17))
        for step, lr, hr in steps:
            np.testing.assert_array_equal(lr, batches(step)[0])
            np.testing.assert_array_equal(hr, batches(step)[1])
    assert list(prefetch(batches, 3, 3)) == []


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_prefetch_raises_at_the_failing_step():
    def batches(step):
        if step == 3:
            raise OSError("disk gone")
        return np.zeros(step), np.zeros(step)

    seen = []
    with pytest.raises(OSError, match="disk gone"):
        for step, *_ in prefetch(batches, 0, 9):
            seen.append(step)
    assert seen == [0, 1, 2] and not running()


def test_prefetch_ends_with_its_consumer():
    made = []

    def batches(step):
        made.append(step)
        return np.zeros(1), np.zeros(1)

    steps = prefetch(batches, 0, 10**9, ahead=3)
    assert next(steps)[0] == 0 and next(steps)[0] == 1
    steps.close()
    assert not running() and max(made) <= 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_patch": PATCH + 1}, "expected lr_patch from 1 to the stored side 12, got 13"),
        ({"lr_patch": 0}, "expected lr_patch"),
        ({"batch": 0}, "batch: expected"),
        ({"batch": 7, "world": 2}, "multiple of the number of processes"),
        ({"world": 2, "rank": 2}, "batch: expected"),
        ({"split": "test"}, r"test_lr\.npy: no such file; run the prepare stage"),
    ],
)
def test_wrong_options(folder, options, message):
    with pytest.raises(SrlibError, match=message):
        Batches(folder, **{"lr_patch": 5, "batch": 4, "seed": 0} | options)


@pytest.mark.parametrize(
    ("lr", "hr", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((3, 16, 16, 3), np.uint8), "do not match"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 20, 20, 3), np.uint8), "do not match"),
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 16, 16, 3), np.uint8), "do not match"),
        (np.zeros((2, 8, 8, 3)), np.zeros((2, 16, 16, 3), np.uint8), "expected uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 16, 8, 3), np.uint8), "expected uint8"),
        (np.array([{"a": 1}]), np.zeros((2, 16, 16, 3), np.uint8), "not a complete .npy file"),
    ],
)
@pytest.mark.parametrize("in_memory", [False, True])
def test_wrong_files(tmp_path, lr, hr, message, in_memory):
    np.save(tmp_path / "train_lr.npy", lr, allow_pickle=True)
    np.save(tmp_path / "train_hr.npy", hr)
    with pytest.raises(SrlibError, match=message):
        Batches(tmp_path, lr_patch=4, batch=2, seed=0, in_memory=in_memory)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("keep", [0, 5, 100, 300])
def test_a_truncated_file(folder, tmp_path, keep, in_memory):
    (tmp_path / "train_lr.npy").write_bytes((folder / "train_lr.npy").read_bytes()[:keep])
    (tmp_path / "train_hr.npy").write_bytes((folder / "train_hr.npy").read_bytes())
    with pytest.raises(SrlibError, match=r"train_lr\.npy: not a complete \.npy file"):
        Batches(tmp_path, lr_patch=4, batch=2, seed=0, in_memory=in_memory)
