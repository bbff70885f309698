"""Folders of pairs that do not match pixel for pixel."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from srlib.data.alignment import align_pairs
from srlib.data.contact_sheet import displacement
from srlib.data.pairs import check_pair, find_pairs, validation_names
from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.imaging.read import image_size, read_image
from srlib.imaging.resize import downscale

from ..imaging.test_registration import GAIN, OFFSET, displaced


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two scenes, one of them with an object that has moved, and a pair of two different scenes."""
    folder = tmp_path / "pairs"
    scenes = {"sub/astronaut": skimage.data.astronaut()[:400, :480], "coffee": skimage.data.coffee()[:384, :576]}
    for name, full in scenes.items():
        hr, _ = displaced(np.ascontiguousarray(full), 0.6, 0.99, (7, -4))
        lr = downscale(full, 4)
        if name == "coffee":
            lr[20:36, 20:36] = (255, 0, 0)
        save(folder / f"HR/{name}.png", np.clip(hr * GAIN + OFFSET, 0, 255).astype(np.uint8))
        save(folder / f"LR/{name}.png", lr)
    save(folder / "HR/wrong.png", skimage.data.chelsea())
    save(folder / "LR/wrong.png", downscale(skimage.data.rocket(), 4))
    return folder


def test_what_fits_becomes_pairs_for_training(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = align_pairs(pairs, out, 4, tile=40)
    tiles, mistakes = find_pairs(out, given_lr=True, scale=4)
    assert len(tiles) == result.written >= 6 and not mistakes
    for pair in tiles:
        assert check_pair(pair, scale=4, patch=40) == (40, 40)
        assert displacement(*(read_image(file) for file in (pair.lr, pair.hr))) == (0, 0)
    assert [mistake.split(":")[0] for mistake in result.mistakes] == ["wrong.png"]
    with (out / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.written + result.rejected
    assert {row["image"] for row in rows if "moved" in row["rejected"]} == {"coffee.png"}
    assert result.rejected < 4 and not any(row["rejected"] for row in rows if row["image"] == "sub/astronaut.png")
    assert image_size(out / "sheet.png")[1] > 600


def test_lr_is_kept_as_it_is(pairs: Path, tmp_path: Path) -> None:
    align_pairs(pairs, tmp_path / "out", 4, tile=48)
    with (tmp_path / "out/pairs.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["image"] == "sub/astronaut.png")
    y, x = int(row["y"]), int(row["x"])
    lr = read_image(pairs / "LR/sub/astronaut.png")[y : y + 48, x : x + 48]
    assert np.array_equal(read_image(tmp_path / f"out/LR/sub/astronaut_{row['tile']}.png"), lr)


def test_two_runs_give_the_same_bytes(pairs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        align_pairs(pairs, tmp_path / name, 4, tile=64)
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")


def test_tiles_of_one_image_stay_on_one_side_of_the_split(pairs: Path, tmp_path: Path) -> None:
    align_pairs(pairs, tmp_path / "out", 4, tile=48)
    tiles, _ = find_pairs(tmp_path / "out", given_lr=True, scale=4)
    scenes = {name.split("_tile")[0] for name in validation_names(tiles, 0.2, 1)}
    assert len(scenes) == 1


def test_each_image_without_its_partner_is_named_once(pairs: Path, tmp_path: Path) -> None:
    content = (pairs / "LR/coffee.png").read_bytes()
    for name in ("sub/lone", "coffeex4", "twice", "twicex4", "x4"):
        (pairs / f"LR/{name}.png").write_bytes(content)
    (pairs / "LR/twice.jpg").write_bytes(content)
    for name in ("HR/alone.png", "HR/twice.webp"):
        (pairs / name).write_bytes((pairs / "HR/coffee.png").read_bytes())
    *unpaired, _ = align_pairs(pairs, tmp_path / "out", 4, tile=96).mistakes
    hr, lr = pairs / "HR", pairs / "LR"
    assert unpaired == [
        f"{hr}/alone.png: no LR image; expected {lr}/alone.* or alonex4.*",
        f"{hr}/twice.webp: several LR images match: {lr}/twice.jpg, {lr}/twice.png; keep one of them",
        f"{lr}/coffeex4.png: no HR image; expected {hr}/coffeex4.*",
        f"{lr}/sub/lone.png: no HR image; expected {hr}/sub/lone.*",
        f"{lr}/x4.png: no HR image; expected {hr}/x4.*",
    ]


def test_nothing_is_mixed_with_other_files(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(SrlibError, match="is not empty; use --force"):
        align_pairs(pairs, tmp_path / "out", 4)
    with pytest.raises(SrlibError, match="expected a folder outside"):
        align_pairs(pairs, pairs / "out", 4)


def test_hr_without_enough_pixels(pairs: Path, tmp_path: Path) -> None:
    hr = Image.fromarray(read_image(pairs / "HR/coffee.png"))
    for name in ("sub/astronaut", "wrong"):
        (pairs / f"HR/{name}.png").unlink()
        (pairs / f"LR/{name}.png").unlink()
    hr.resize((hr.width // 2, hr.height // 2)).save(pairs / "HR/coffee.png")
    with pytest.raises(SrlibError, match=r"coffee\.png: HR has [12]\.\d\d times the pixels per side of LR") as refused:
        align_pairs(pairs, tmp_path / "out", 4)
    assert "no tile of 1 pairs fits" in str(refused.value)


def test_hr_with_more_pixels_than_needed(tmp_path: Path) -> None:
    full = skimage.data.astronaut()
    save(tmp_path / "pairs/HR/a.png", full)
    save(tmp_path / "pairs/LR/a.png", downscale(full, 8))
    assert align_pairs(tmp_path / "pairs", tmp_path / "out", 4, tile=48).written == 1
    (pair,) = find_pairs(tmp_path / "out", given_lr=True, scale=4)[0]
    assert image_size(pair.hr) == (192, 192)


def test_names_of_tiles(pairs: Path, tmp_path: Path) -> None:
    """Two names that differ in their ending only, names that are too long, and names with odd characters."""
    lr, hr = read_image(pairs / "LR/sub/astronaut.png"), read_image(pairs / "HR/sub/astronaut.png")
    folder, out = tmp_path / "odd", tmp_path / "out"
    for name in ("same.png", "same.tif", f"{'y' * 245}.png", "new\nline.png", os.fsdecode(b"\xff.png")):
        save(folder / "HR" / name, hr)
        save(folder / "LR" / name, lr)
    result = align_pairs(folder, out, 4)
    assert [line.split(": ")[1].split(";")[0] for line in result.mistakes] == [
        "another image has the same name but for its ending",
        "another image has the same name but for its ending",
        "its name is too long for those of its tiles",
    ]
    names = {os.fsencode(path.name).split(b"_tile")[0] for path in (out / "HR").iterdir()}
    assert names == {b"new\nline", b"\xff"} and r"new\nline.png,tile-0-0" in (out / "pairs.csv").read_text()


def test_a_very_long_image_does_not_end_the_folder(pairs: Path, tmp_path: Path) -> None:
    save(pairs / "HR/wide.png", np.zeros((64, 33_000, 3), np.uint8))
    save(pairs / "LR/wide.png", np.zeros((16, 8_250, 3), np.uint8))
    result = align_pairs(pairs, tmp_path / "out", 4, tile=40)
    assert "wide.png: 33,000 HR pixels along one side, more than 32,766; cut both images into parts" in result.mistakes


def test_tiles_of_an_earlier_run_are_counted(pairs: Path, tmp_path: Path) -> None:
    align_pairs(pairs, tmp_path / "out", 4, tile=32)
    assert align_pairs(pairs, tmp_path / "out", 4, tile=64, force=True).others > 0
