"""The sheet of held-out patches that MLflow shows while a network trains."""

import numpy as np

from srlib.imaging.resize import downscale, resize
from srlib.report.samples import sheet
from srlib.training.types import Sample


def test_a_sheet_shows_each_patch_in_four_versions() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    lr = np.stack([downscale(patch, 4) for patch in hr])
    sr = np.stack([resize(patch, 4) for patch in lr])
    drawing = sheet(Sample(lr, hr, sr), 80)
    assert drawing.dtype == np.uint8

    def columns(image: np.ndarray) -> list[int]:
        """Return the left edges where the first row of patches shows an image."""
        return [x for x in range(drawing.shape[1] - 223) if np.array_equal(drawing[66:290, x : x + 224], image)]

    left = columns(resize(lr[0], 4, kernel="nearest"))
    assert len(left) == 1
    assert columns(sr[0]) == [left[0] + 238, left[0] + 2 * 238], "bicubic, and SR, which is the same here"
    assert columns(hr[0]) == [left[0] + 3 * 238]
    assert np.array_equal(sheet(Sample(lr, hr, sr), 80), drawing)
