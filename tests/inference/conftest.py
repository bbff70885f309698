"""A stand-in for a model, and image files."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.imaging.resize import resize


class Bicubic:
    """A model that upscales by MATLAB bicubic."""

    scale = 4
    name = "bicubic"
    precision = "float32"
    receptive_field = 2
    fingerprint = "bicubic"

    def __call__(self, rgb: np.ndarray, *, on_pixels: Callable[[int], object] | None = None) -> np.ndarray:
        if on_pixels:
            on_pixels(rgb.shape[0] * rgb.shape[1])
        return resize(rgb, self.scale)


@pytest.fixture
def bicubic() -> Bicubic:
    return Bicubic()


def photo(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    """Return a smooth uint8 RGB image with an edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = 128 + 60 * np.sin(x / 9 + rng.random(3)[:, None, None] * 6) + 50 * np.cos(y / 7)
    image[:, : height // 2] += 17
    return np.rint(image.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()
