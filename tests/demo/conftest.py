"""A small image as a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Return a function that writes a smooth colored image and returns its path."""

    def write(path: Path, height: int = 24, width: int = 40, **options: object) -> Path:
        y, x = np.mgrid[:height, :width]
        values = np.stack([90 + 60 * np.sin(x / 3), 120 + 50 * np.cos(y / 4), 60 + 2 * x + y], 2)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path, **options)  # type: ignore[arg-type]
        return path

    return write
