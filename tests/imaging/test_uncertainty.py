"""Bands of uncertainty: their coverage, on errors whose size follows the contrast."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.imaging.uncertainty import (
    EDGES,
    LEVELS,
    Bands,
    calibrate,
    contrast_classes,
    coverage_of,
    largest_errors,
    read_bands,
)


def pair(seed: int, *, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """SR flat on the left and busy on the right, and HR whose errors are five times as large there."""
    random = np.random.default_rng(seed)
    spread = np.where(np.arange(side) < side // 2, 8.0, 40.0)[None, :, None]
    sr = 128 + spread * random.standard_normal((side, side, 3))
    hr = sr + 0.5 * spread * random.standard_normal((side, side, 3))
    return tuple(np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (hr, sr))


def test_the_stated_share_of_new_images_lies_inside() -> None:
    bands = calibrate(pair(seed) for seed in range(8))
    for level in LEVELS:
        shares = [coverage_of(bands, *pair(seed), level) for seed in range(20, 28)]
        assert level - 0.02 < np.mean(shares) < level + 0.04


def test_busy_places_have_wider_bands() -> None:
    bands = calibrate(pair(seed) for seed in range(4))
    widths = bands.map(pair(9)[1])
    assert widths[:, 70:].mean() > 3 * widths[:, :26].mean()
    assert all(list(row) == sorted(row) for row in bands.half_widths.values())
    assert (bands.map(pair(9)[1], 0.8) <= widths).all()


def test_16_bits_are_8_bits_times_257() -> None:
    hr, sr = pair(1)
    wide = [image.astype(np.uint16) * 257 for image in (hr, sr)]
    assert np.array_equal(largest_errors(*wide), largest_errors(hr, sr))
    assert np.array_equal(contrast_classes(wide[1]), contrast_classes(sr))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_has_a_class_for_each_pixel(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    classes = contrast_classes(image)
    assert classes.shape == (height, width) and classes.max() <= len(EDGES)


def test_strips_leave_no_trace() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1100, 20, 3), np.uint8)
    assert np.array_equal(contrast_classes(image)[500:540], contrast_classes(image[480:560])[20:60])


def test_a_class_with_few_pixels_takes_the_wider_band() -> None:
    shades = np.arange(120) % 2  # gray stripes: the contrast of a pixel is their height
    pairs = []
    for contrast, error, rows in ((2, 1, 60), (12, 9, 3), (40, 20, 60)):
        sr = np.broadcast_to((100 + contrast * shades)[None, :, None], (rows, 120, 3)).astype(np.uint8)
        pairs.append((sr + np.uint8(error), sr))
    bands = calibrate(pairs)
    assert [bands.map(sr, 0.9)[1, 60] for _, sr in pairs] == [1, 20, 20]


def test_the_busiest_classes_share_a_band() -> None:
    """Each of them has few pixels; the band of the flat class would hold none of their originals."""
    shades = np.arange(120) % 2
    pairs = []
    for contrast, error, rows in ((2, 1, 60), (20, 15, 7), (40, 30, 7)):
        sr = np.broadcast_to((100 + contrast * shades)[None, :, None], (rows, 120, 3)).astype(np.uint8)
        pairs.append((sr + np.uint8(error), sr))
    bands = calibrate(pairs)
    assert [bands.map(sr, 0.9)[1, 60] for _, sr in pairs] == [1, 30, 30]
    assert min(coverage_of(bands, hr, sr, 0.9) for hr, sr in pairs) == 1


def test_few_pixels_in_each_class_are_enough_together() -> None:
    """2,400 pixels of many contrasts, of which no class has 1,000."""
    height = np.geomspace(1, 60, 60)[None, :, None] * (-1) ** np.arange(40)[:, None, None]
    sr = np.broadcast_to(128 + height, (40, 60, 3)).astype(np.uint8)
    assert np.bincount(contrast_classes(sr).ravel()).max() < 1000
    assert coverage_of(calibrate([(sr + np.uint8(5), sr)]), sr + np.uint8(5), sr) == 1


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(SrlibError, match="at least 1,000 pixels to calibrate on, got 0"):
        calibrate([])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bands.json").write_text('{"half_widths": {}, "images": Infinity, "pixels": 1}')
    with pytest.raises(SrlibError, match=r"bands\.json: damaged \(.*\); run `srlib uncertainty calibrate` again"):
        read_bands(tmp_path / "bands.json")


def test_another_coverage_is_refused() -> None:
    with pytest.raises(SrlibError, match=r"coverage: expected 0\.9, got 0\.99"):
        Bands({0.9: (1.0,) * (len(EDGES) + 1)}, 1, 1).map(pair(0)[1], 0.99)
