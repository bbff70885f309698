"""Reading and resizing without OpenCV and kornia-rs, as in the light installation: the same pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from srlib.formats import png
from srlib.formats.decode import opened
from srlib.imaging import resize


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_opencv_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, channels: int, dtype: type
) -> None:
    top = np.iinfo(dtype).max
    stored = np.random.default_rng(0).integers(0, top, (13, 17, channels), dtype, endpoint=True)
    path = tmp_path / f"image{suffix}"
    cv2.imwrite(str(path), stored)
    expected = stored[..., [2, 1, 0, 3][:channels]] if channels > 1 else stored
    for installed in (png.kornia, None):
        monkeypatch.setattr(png, "kornia", installed)
        with opened(path) as header:
            color, alpha = header.decode()
        stored = color if alpha is None else np.dstack([color, alpha])
        np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resizing(monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 200, (20, 31, 3), dtype)
    expected = resize.resize(image, 2.5)
    monkeypatch.setattr(resize, "cv2", None)
    np.testing.assert_array_equal(resize.resize(image, 2.5), expected)
