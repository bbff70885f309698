"""Which held-out patches are shown: detailed, of several images, none overlapping."""

import csv
from pathlib import Path

import numpy as np
import pytest

from srlib.data.patches import INDEX_COLUMNS
from srlib.imaging.resize import downscale
from srlib.training.samples import detailed_patches


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Eight patches of 8 LR pixels: six of one image, half overlapping, two of another; detail grows with the row."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (8, 16, 16, 3))
    hr = np.stack([(128 + (noise[row] - 128) * (row + 1) / 10).astype(np.uint8) for row in range(8)])
    np.save(tmp_path / "validation_hr.npy", hr)
    np.save(tmp_path / "validation_lr.npy", np.stack([downscale(patch, 2) for patch in hr]))
    for kind in ("hr", "lr"):
        (tmp_path / f"train_{kind}.npy").write_bytes((tmp_path / f"validation_{kind}.npy").read_bytes())
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(INDEX_COLUMNS)
        for row in range(8):
            image, x = ("b.png", 8 * (row - 6)) if row > 5 else ("a.png", 4 * row)
            writer.writerow(["validation", row, image, 1.0, 0, x])
    return tmp_path


def test_patches_are_detailed_and_of_several_images(patches: Path) -> None:
    assert detailed_patches(patches, range(8)) == [7, 5, 6, 3], "row 4 overlaps row 5"
    assert detailed_patches(patches, range(8), count=1) == [7]
    assert detailed_patches(patches, [0, 1, 2]) == [2, 0], "positions among the rows to choose from"


def test_without_an_index_only_detail_counts(patches: Path) -> None:
    (patches / "index.csv").unlink()
    assert detailed_patches(patches, range(8)) == [7, 6, 5, 4]
