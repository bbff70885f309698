import csv
import hashlib
import io
import sys

import cv2
import numpy as np
import pytest

from srlib.data import patches as module
from srlib.data.batches import Batches
from srlib.data.patches import degrade, prepare_patches
from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale, resize
from srlib.imaging.write import write_png
from srlib.params import Prepare

NAMES = ("train_lr.npy", "train_hr.npy", "validation_lr.npy", "validation_hr.npy", "index.csv")


def photo(height, width, seed=0):
    """Smooth, and with another color everywhere: two places never look alike."""
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5) * 2 - 128, 0, 255).astype(np.uint8)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for number, name in enumerate(["a.png", "b c.png", "sub/صورة.png", "d,e.png", "f.png"]):
        write_png(folder / name, photo(70 + 9 * number, 101, seed=number))
    return folder


def params(**changes):
    return Prepare(**{"images": "images", "patch": 8, "stride": 6, "validation": 0.3} | changes)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def rows(folder):
    return list(csv.DictReader(io.StringIO((folder / "index.csv").read_text())))


def test_index_locates_every_patch(images, tmp_path):
    out = tmp_path / "out"
    summary = prepare_patches(images, out, params(), scale=4, seed=0)
    assert sorted(digests(out)) == sorted(NAMES)
    index, counts = rows(out), {"train": 0, "validation": 0}
    for row in index:
        split, y, x = row["split"], int(row["y"]), int(row["x"])
        assert int(row["row"]) == counts[split]
        counts[split] += 1
        hr = read_image(images / row["image"])
        lr = downscale(hr, 4, edges="mirror")  # of the whole image, cut afterwards
        lr_patch, hr_patch = (
            np.load(out / f"{split}_{kind}.npy", mmap_mode="r")[int(row["row"])] for kind in ("lr", "hr")
        )
        np.testing.assert_array_equal(lr_patch, lr[y : y + 8, x : x + 8])
        np.testing.assert_array_equal(hr_patch, hr[4 * y : 4 * y + 32, 4 * x : 4 * x + 32])
    assert counts == {"train": summary.train, "validation": summary.validation}
    for split, count in counts.items():
        assert np.load(out / f"{split}_lr.npy").shape == (count, 8, 8, 3)
        assert np.load(out / f"{split}_hr.npy").shape == (count, 32, 32, 3)
    assert summary.images == 5 and summary.flat == 0 and summary.left_out == ()
    assert summary.bytes == sum(path.stat().st_size for path in out.iterdir())


def test_downscaled_copies_serve_training_only(images, tmp_path):
    out = tmp_path / "out"
    prepare_patches(images, out, params(sizes=[1.0, 0.7, 0.5]), scale=2, seed=0)
    sizes = {split: {row["size"] for row in rows(out) if row["split"] == split} for split in ("train", "validation")}
    assert sizes == {"train": {"1.0", "0.7", "0.5"}, "validation": {"1.0"}}
    corners = {}
    for row in rows(out):
        hr = read_image(images / row["image"])
        lr_height, lr_width = (int(side // 2 * float(row["size"]) + 1e-9) for side in hr.shape[:2])
        hr = hr[: hr.shape[0] // 2 * 2, : hr.shape[1] // 2 * 2]
        copy = hr if row["size"] == "1.0" else resize(hr, (2 * lr_height, 2 * lr_width))
        lr = downscale(copy, 2, edges="mirror")
        assert lr.shape == (lr_height, lr_width, 3)
        number, y, x = (int(row[key]) for key in ("row", "y", "x"))
        for kind, whole, factor in (("lr", lr, 1), ("hr", copy, 2)):
            patch = np.load(out / f"{row['split']}_{kind}.npy", mmap_mode="r")[number]
            top, left, side = factor * y, factor * x, factor * 8
            np.testing.assert_array_equal(patch, whole[top : top + side, left : left + side])
        corners.setdefault((row["image"], row["size"], lr_height, lr_width), []).append((y, x))
    for (_, _, height, width), places in corners.items():
        assert places == [(y, x) for y in range(0, height - 7, 6) for x in range(0, width - 7, 6)]


def test_image_too_small_at_largest_size_is_named(images, tmp_path):
    with pytest.raises(SrlibError, match=r"a\.png: smaller than a patch at 0\.5 of its size"):
        prepare_patches(images, tmp_path / "out", params(sizes=[0.4, 0.5]), scale=5, seed=0)
    assert not (tmp_path / "out").exists()


def test_flat_patches_of_copies_are_dropped(tmp_path):
    for number in range(3):
        image = photo(96, 96, seed=number)
        image[:, :48] = 90
        write_png(tmp_path / f"in/{number}.png", image)
    summary = prepare_patches(
        tmp_path / "in", tmp_path / "out", params(sizes=[1.0, 0.5], stride=8, flat=5.0), scale=2, seed=0
    )
    assert summary.flat == 3 * (6 * 3 + 3 * 1)
    assert {row["x"] for row in rows(tmp_path / "out") if row["size"] == "0.5"} == {"8", "16"}


def test_the_grid_and_the_split_by_image(images, tmp_path):
    out = tmp_path / "out"
    prepare_patches(images, out, params(), scale=4, seed=0)
    for name in ("a.png", "sub/صورة.png"):
        corners = [(int(row["y"]), int(row["x"])) for row in rows(out) if row["image"] == name]
        height, width = (side // 4 for side in read_image(images / name).shape[:2])
        assert corners == [(y, x) for y in range(0, height - 7, 6) for x in range(0, width - 7, 6)]
    sides = {split: {row["image"] for row in rows(out) if row["split"] == split} for split in ("train", "validation")}
    assert not sides["train"] & sides["validation"] and len(sides["validation"]) == 2 and len(sides["train"]) == 3


@pytest.mark.parametrize("changes", [{}, {"noise": 5.0, "jpeg": 60}])
def test_bytes_are_independent_of_workers(images, tmp_path, monkeypatch, changes):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old.npy").touch()
    monkeypatch.setattr(module, "_MANY", 1)
    for workers, processes in ((1, False), (2, False), (5, False), (2, True)):
        out = tmp_path / f"{workers}{'p' * processes}"
        prepare_patches(images, out, params(**changes), scale=2, seed=7, workers=workers, processes=processes)
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "5") == digests(tmp_path / "2p")
    prepare_patches(images, tmp_path / "other", params(**changes), scale=2, seed=8)
    assert digests(tmp_path / "other")["index.csv"] != digests(tmp_path / "1")["index.csv"]


def test_small_writes_give_the_same_files(images, tmp_path, monkeypatch):
    prepare_patches(images, tmp_path / "large", params(), scale=4, seed=0)
    monkeypatch.setattr(module, "_CHUNK", 1)
    prepare_patches(images, tmp_path / "small", params(), scale=4, seed=0)
    assert digests(tmp_path / "small") == digests(tmp_path / "large")


def test_given_lr_images_are_used_unchanged(tmp_path):
    for number in range(3):
        hr = photo(67, 82, seed=number)
        write_png(tmp_path / f"in/HR/000{number}.png", hr)
        write_png(tmp_path / f"in/LR/000{number}x2.png", 255 - downscale(hr, 2))
    prepare_patches(tmp_path / "in", tmp_path / "out", params(lr="given"), scale=2, seed=0)
    for row in rows(tmp_path / "out"):
        patch = np.load(tmp_path / "out" / f"{row['split']}_lr.npy", mmap_mode="r")[int(row["row"])]
        lr = read_image(tmp_path / "in/LR" / row["image"].replace(".png", "x2.png"))
        y, x = int(row["y"]), int(row["x"])
        np.testing.assert_array_equal(patch, lr[y : y + 8, x : x + 8])


def test_many_patches_continue_in_further_files(images, tmp_path, monkeypatch):
    prepare_patches(images, tmp_path / "one", params(stride=2), scale=4, seed=0)
    monkeypatch.setattr(module, "_PART", 20_000)
    prepare_patches(images, tmp_path / "many", params(stride=2), scale=4, seed=0, workers=3)
    for kind, size in (("lr", 3 * 8 * 8), ("hr", 3 * 32 * 32)):
        whole = np.load(tmp_path / "one" / f"train_{kind}.npy")
        each = 20_000 // size
        names = [f"train_{kind}{f'.{part}' * (part > 0)}.npy" for part in range(-(-len(whole) // each))]
        parts = [np.load(tmp_path / "many" / name) for name in names]
        assert len(parts) > 1 and all(len(part) == each for part in parts[:-1])
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    options = {"lr_patch": 5, "batch": 9, "seed": 3}
    one, many = (Batches(tmp_path / name, **options) for name in ("one", "many"))
    assert len(one) == len(many) == len(whole)
    for step in range(0, 2 * len(whole) // 9):
        for a, b in zip(one(step), many(step), strict=True):
            np.testing.assert_array_equal(a, b)
    same = digests(tmp_path / "one")
    assert {name: same[name] for name in NAMES[2:]} == {name: digests(tmp_path / "many")[name] for name in NAMES[2:]}
    (tmp_path / "many" / "train_hr.2.npy").unlink()
    with pytest.raises(SrlibError, match="do not match"):
        Batches(tmp_path / "many", **options)
    (tmp_path / "many" / "train_hr.1.npy").rename(tmp_path / "many" / "train_hr.2.npy")
    np.save(tmp_path / "many" / "train_hr.1.npy", whole[:1])
    with pytest.raises(SrlibError, match=r"train_hr\.2\.npy: does not match train_hr\.npy"):
        Batches(tmp_path / "many", **options)


def test_patches_that_bicubic_restores_are_dropped(tmp_path):
    for number in range(3):
        image = photo(64, 96, seed=number)
        image[:, 48:] = np.linspace(20, 220, 48, dtype=np.uint8)[None, :, None]  # a gradient
        write_png(tmp_path / "in" / f"{number}.png", image)
    flat = prepare_patches(tmp_path / "in", tmp_path / "flat", params(stride=8, flat=4.0), scale=2, seed=0)
    detail = prepare_patches(tmp_path / "in", tmp_path / "detail", params(stride=8, detail=1.0), scale=2, seed=0)
    assert flat.flat == 0
    assert detail.flat == 3 * 4 * 2  # the patches beside the edge have it within them
    assert {int(row["x"]) for row in rows(tmp_path / "detail")} == {0, 8, 16, 24}


def test_patches_that_are_all_dropped(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"in/{number}.png", np.random.default_rng(number).integers(90, 99, (32, 32, 3), np.uint8))
    message = r"got 0 \(prepare.images\); prepare.flat 20 and prepare.detail 0 drop all patches of 3 of 3 images: lower"
    with pytest.raises(SrlibError, match=message):
        prepare_patches(tmp_path / "in", tmp_path / "out", params(stride=8, flat=20.0), scale=2, seed=0)
    assert not (tmp_path / "out").exists()


def test_flat_patches_are_dropped(tmp_path):
    for number in range(3):
        image = photo(64, 96, seed=number)
        image[:, 48:] = 90
        write_png(tmp_path / "in" / f"{number}.png", image)
    write_png(tmp_path / "in" / "sky.png", np.full((64, 64, 3), 200, np.uint8))
    summary = prepare_patches(tmp_path / "in", tmp_path / "out", params(stride=8, flat=4.0), scale=2, seed=0)
    assert (summary.images, summary.train + summary.validation, summary.flat) == (3, 3 * 4 * 3, 3 * 4 * 3)
    assert {int(row["x"]) for row in rows(tmp_path / "out")} == {0, 8, 16}
    assert summary.left_out == ()


def test_degradation(tmp_path):
    hr = photo(256, 256)
    clean = degrade(hr, 4, params(), "1/a")
    np.testing.assert_array_equal(clean, downscale(hr, 4, edges="mirror"))
    np.testing.assert_array_equal(degrade(hr, 4, params(edges="clamp"), "1/a"), downscale(hr, 4, edges="clamp"))
    gray = np.full((512, 512, 3), 128, np.uint8)
    noisy = degrade(gray, 2, params(noise=10.0), "1/a") - 128.0
    assert noisy.std() == pytest.approx(10, rel=0.01) and abs(noisy.mean()) < 0.1
    np.testing.assert_array_equal(degrade(gray, 2, params(noise=10.0), "1/a") - 128.0, noisy)
    assert (degrade(gray, 2, params(noise=10.0), "1/b") != noisy + 128).any()
    # Quality decides how much is lost; colors keep their order.
    errors = [np.abs(degrade(hr, 4, params(jpeg=q), "") - clean.astype(float)).mean() for q in (100, 75, 20)]
    assert 0 < errors[0] < errors[1] < errors[2]
    red = np.full((64, 64, 3), (250, 20, 40), np.uint8)
    assert np.abs(degrade(red, 4, params(jpeg=95), "") - red[:16, :16].astype(int)).max() < 6


def test_each_image_has_noise_of_its_own(tmp_path):
    for number in range(2):
        image = np.full((64, 64, 3), 128, np.uint8)
        image[0, 0] = number
        write_png(tmp_path / "in" / f"{number}.png", image)
    prepare_patches(tmp_path / "in", tmp_path / "out", params(patch=16, stride=16, noise=10.0), scale=4, seed=0)
    one, other = (np.load(tmp_path / "out" / f"{split}_lr.npy")[:, 8:] for split in ("train", "validation"))
    assert (one != other).mean() > 0.9


def spoil(folder):
    write_png(folder / "small.png", photo(20, 200))
    (folder / "text.jpg").write_text("no image")
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:2000])


def test_unusable_images_are_listed_before_any_work(images, tmp_path):
    spoil(images)
    with pytest.raises(SrlibError) as caught:
        prepare_patches(images, tmp_path / "out", params(), scale=4, seed=0)
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("3 of 8 images cannot be used;") and "prepare.unusable to `skip`" in head
    expected = [
        "half.png: truncated or damaged",
        "small.png: 200×20 pixels; a patch needs 32×32",
        "text.jpg: not a",
    ]
    assert len(lines) == 3 and all(text in line for text, line in zip(expected, lines, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_unusable_images_are_skipped_on_request(images, tmp_path):
    prepare_patches(images, tmp_path / "without", params(), scale=4, seed=0)
    spoil(images)
    summary = prepare_patches(images, tmp_path / "out", params(unusable="skip"), scale=4, seed=0)
    assert len(summary.left_out) == 3 and digests(tmp_path / "out") == digests(tmp_path / "without")
    for path in images.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(SrlibError, match="none of the images can be used"):
        prepare_patches(images, tmp_path / "none", params(unusable="skip"), scale=4, seed=0)


@pytest.mark.parametrize("unusable", ["stop", "skip"])
def test_what_shows_only_while_cutting(images, tmp_path, monkeypatch, unusable):
    """A PNG can be whole by its checksums and yet hold nonsense."""
    prepare_patches(images, tmp_path / "whole", params(), scale=4, seed=0)
    write_png(images / "nonsense.png", photo(80, 80))

    def read(path, real=read_image):
        if path.name == "nonsense.png":
            raise SrlibError(f"{path}: truncated or damaged")
        return real(path)

    monkeypatch.setattr(module, "read_image", read)
    if unusable == "stop":
        with pytest.raises(SrlibError, match=r"1 of 6 images cannot be used; (.|\n)*nonsense\.png: truncated"):
            prepare_patches(images, tmp_path / "out", params(), scale=4, seed=0)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "whole"]
    else:
        summary = prepare_patches(images, tmp_path / "out", params(unusable="skip"), scale=4, seed=0)
        assert len(summary.left_out) == 1 and digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_full_disk_is_noticed_before_work(images, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: module.shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(SrlibError, match=r"the patches need 0\.\d+ GB, only 0\.00 GB are free"):
        prepare_patches(images, tmp_path / "out", params(), scale=4, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("processes", [False, True])
def test_write_failure_leaves_no_partial_output(images, tmp_path, monkeypatch, processes):
    import resource

    monkeypatch.setattr(module, "_MANY", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(SrlibError, match=r"train_\w\w\.npy: cannot be written \(File too large\)"):
            prepare_patches(images, tmp_path / "out", params(), scale=4, seed=0, processes=processes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_real_photographs(shared, tmp_path):
    summary = prepare_patches(
        shared / "train/t91", tmp_path / "out", params(patch=32, stride=32, unusable="skip"), scale=4, seed=1
    )
    assert summary.images + len(summary.left_out) == 91 and summary.left_out
    lr, hr = (np.load(tmp_path / "out" / f"train_{kind}.npy").astype(float) for kind in ("lr", "hr"))
    blocks = hr.reshape(-1, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(blocks - lr).mean() < 6 < np.abs(blocks[:, 1:] - lr[:, :-1]).mean()
