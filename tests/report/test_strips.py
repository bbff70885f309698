"""Strips: where the zoomed square lies, what each column shows, the same bytes every time."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from srlib.evaluation.benchmark import Method, Result, evaluate, interpolation
from srlib.evaluation.regions import busiest_region
from srlib.evaluation.sets import find_sets
from srlib.imaging.resize import downscale, resize
from srlib.imaging.write import write_png
from srlib.report.strips import strip


@pytest.fixture
def result(tmp_path: Path) -> Result:
    write_png(tmp_path / "Own/größe ×2.png", skimage.data.chelsea()[:120, :160])
    edsr = Method("EDSR", lambda lr, scale: resize(resize(lr, 2), 2))
    return next(evaluate(find_sets(tmp_path, 4), [interpolation("bicubic"), edsr], 4))


def test_the_square_lies_where_detail_is_lost() -> None:
    hr = np.full((96, 128, 3), 128, np.uint8)
    hr[40:56, 88:104] = np.indices((16, 16)).sum(axis=0)[..., None] % 2 * 255
    region = busiest_region(hr, downscale(hr, 4), 32)
    assert region.top <= 40 and region.top + 32 >= 56
    assert region.left <= 88 and region.left + 32 >= 104


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 20), st.integers(5, 20), st.integers(16, 90), st.integers(0, 2**32 - 1))
def test_the_square_is_the_best_of_all(height: int, width: int, side: int, seed: int) -> None:
    from srlib.imaging.metrics import luma

    hr = np.random.default_rng(seed).integers(0, 256, (4 * height, 4 * width, 3), dtype=np.uint8)
    lr = downscale(hr, 4)
    region = busiest_region(hr, lr, side)
    assert region.side == min(side, 4 * height, 4 * width)
    assert 0 <= region.top <= 4 * height - region.side and 0 <= region.left <= 4 * width - region.side
    lost = np.rint(16 * np.abs(luma(hr) - luma(resize(lr, hr.shape[:2]))))
    windows = np.lib.stride_tricks.sliding_window_view(lost, (region.side, region.side)).sum(axis=(2, 3))
    assert windows[region.top, region.left] == windows.max()


def test_the_zoomed_squares_are_the_images_own_pixels(result: Result) -> None:
    drawing = strip(result, ["bicubic", "EDSR"], scale=4, side=48)
    region = busiest_region(result.hr, result.lr, 48)
    nearest = resize(result.lr, result.hr.shape[:2], kernel="nearest")
    for image in (nearest, result.sr["bicubic"], result.sr["EDSR"], result.hr):
        # Six times scaled up, without its framed border.
        inside = region.cut(image)[1:-1, 1:-1].repeat(6, axis=0).repeat(6, axis=1)
        rows = np.flatnonzero((drawing[..., 0] == inside[0, 0, 0]).any(axis=1))
        columns = range(32 + 6, drawing.shape[1] - inside.shape[1])
        assert any(
            np.array_equal(drawing[row : row + inside.shape[0], column : column + inside.shape[1]], inside)
            for row in rows
            for column in columns
            if (drawing[row, column] == inside[0, 0]).all()
        )


def test_the_same_bytes_every_time(result: Result, tmp_path: Path) -> None:
    for name in "ab":
        write_png(tmp_path / f"{name}.png", strip(result, ["bicubic", "EDSR"], scale=4, side=48))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("crop", [16, 48, 96, 512])
def test_any_crop_and_number_of_columns(result: Result, crop: int) -> None:
    narrow = strip(result, ["bicubic"], scale=4, side=crop)
    wide = strip(result, ["bicubic", "EDSR"], scale=4, side=crop)
    assert narrow.shape[0] == wide.shape[0] and narrow.shape[1] < wide.shape[1]
    assert wide.dtype == np.uint8 and wide.max() > 200


def test_only_the_best_score_is_marked(result: Result) -> None:
    mark = np.array([0xE2, 0x55, 0x2C])
    drawing = strip(result, ["bicubic", "EDSR"], scale=4, side=48)
    labels = (drawing[-66:] == mark).all(axis=2)
    best = max(result.scores, key=lambda score: score.values["psnr_y"]).method
    column = 32 + (288 + 18) * (1 + ["bicubic", "EDSR"].index(best))
    assert labels[:, column : column + 288].any()
    labels[:, column : column + 288] = False
    assert not labels.any()
