import cv2
import numpy as np
import pytest

from srlib.data.contact_sheet import contact_sheet, displacement
from srlib.data.patches import prepare_patches
from srlib.errors import SrlibError
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale
from srlib.imaging.write import write_png
from srlib.params import Prepare


def photo(height, width, seed=0):
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 3) * 4 - 384, 0, 255).astype(np.uint8)


@pytest.fixture
def patches(tmp_path):
    for number in range(4):
        write_png(tmp_path / "in" / f"صورة {number}.png", photo(80, 112, seed=number))
    params = Prepare(images="images", patch=16, stride=12, validation=0.3)
    prepare_patches(tmp_path / "in", tmp_path / "patches", params, scale=2, seed=0)
    return tmp_path / "patches"


def test_aligned_pairs_are_not_reported_as_displaced(patches, tmp_path):
    sheet = contact_sheet(patches, tmp_path / "sheet.png", count=10)
    assert (sheet.pairs, sheet.displaced) == (10, 0)
    drawn = read_image(tmp_path / "sheet.png")
    hr = np.load(patches / "train_hr.npy")[0]
    # The first cell: LR, HR and difference tiles of 32 pixels below a caption of 20, 8 apart.
    np.testing.assert_array_equal(drawn[28:60, 48:80], hr)
    np.testing.assert_array_equal(drawn[28:60, 8:40], np.load(patches / "train_lr.npy")[0].repeat(2, 0).repeat(2, 1))
    contact_sheet(patches, tmp_path / "again.png", count=10)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_displaced_files_are_called_so(patches, tmp_path):
    for split in ("train", "validation"):
        np.save(patches / f"{split}_hr.npy", np.roll(np.load(patches / f"{split}_hr.npy"), 1, axis=2))
    sheet = contact_sheet(patches, tmp_path / "sheet.png", count=8)
    assert sheet.displaced == sheet.pairs == 8


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -1), (2, -2), (-1, 1)])
def test_displacement(shift):
    hr = photo(64, 64)
    lr = downscale(hr, 4)
    assert displacement(lr, np.roll(hr, shift, axis=(0, 1))) == shift
    assert displacement(np.full((8, 8, 3), 7, np.uint8), np.full((32, 32, 3), 7, np.uint8)) == (0, 0)


def test_more_pairs_than_there_are(patches, tmp_path):
    count = sum(len(np.load(patches / f"{split}_lr.npy")) for split in ("train", "validation"))
    assert contact_sheet(patches, tmp_path / "sheet.png", count=10**4).pairs == count


def test_a_sheet_replaces_no_image(patches, tmp_path):
    photograph = tmp_path / "in/صورة 0.png"
    before = photograph.read_bytes()
    with pytest.raises(SrlibError, match=r"0\.png: exists; use --force to overwrite"):
        contact_sheet(patches, photograph)
    with pytest.raises(SrlibError, match=r"sheet\.jpg: expected a name that ends in \.png"):
        contact_sheet(patches, tmp_path / "sheet.jpg")
    assert photograph.read_bytes() == before
    contact_sheet(patches, photograph, force=True)
    assert photograph.read_bytes() != before


def test_folders_that_do_not_serve(patches, tmp_path):
    with pytest.raises(SrlibError, match="count: expected at least 1, got 0"):
        contact_sheet(patches, tmp_path / "sheet.png", count=0)
    index = (patches / "index.csv").read_text()
    (patches / "index.csv").write_text(index[: index.rindex("\nvalidation") + 1])
    with pytest.raises(SrlibError, match=r"index\.csv: \d+ validation records for \d+ patches"):
        contact_sheet(patches, tmp_path / "sheet.png")
    (patches / "index.csv").unlink()
    with pytest.raises(SrlibError, match=r"index\.csv: no such file"):
        contact_sheet(patches, tmp_path / "sheet.png")
    with pytest.raises(SrlibError, match=r"train_lr\.npy: no such file"):
        contact_sheet(tmp_path / "in", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
