"""What a run refuses, announces or warns of before it upscales an image: sizes, memory, time and disk."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from srlib.errors import SrlibError
from srlib.imaging.image_file import ImageFile, check_size
from srlib.inference.output_size import Target, is_smaller, size_of
from srlib.inference.upscale import RgbModel
from srlib.memory import check_memory

LARGE_IMAGE = 2**26
"""LR pixels (67 million) of an image that is upscaled only on request: by ×4 it gives more than a gigapixel."""

Extra = Literal["consistent", "map", "uncertainty"]
"""What is done with a result besides encoding it, which takes memory of its own."""

_TRIAL_SIDE = 128
"""Side in LR pixels of the image on which the speed is measured."""

# Bytes of a file per byte of its pixels, for photographs: to warn beforehand of a disk that is too small.
_TYPICAL = {"png": 0.6, "tiff": 0.7, "jpeg": 0.25, "webp": 0.2}


class Samples(NamedTuple):
    """What the memory for an image depends on besides its size.

    Attributes:
        deep: Whether it has 16 bits per sample.
        alpha: Whether it has transparency.
        gray: Whether it is gray.
    """

    deep: bool = False
    alpha: bool = False
    gray: bool = False

    @classmethod
    def of(cls, image: ImageFile) -> "Samples":
        """Return what a decoded image consists of."""
        return cls(image.rgb.dtype == np.uint16, image.alpha is not None, image.gray)


class _Bytes(NamedTuple):
    """Bytes of memory per pixel: to resize the network's result, to encode a result to each format, to make it
    consistent with its LR image, and to draw its maps.
    """

    resized: float
    png: float
    jpeg: float
    webp: float
    consistent: float
    map: float
    uncertainty: float


# Measured at the peak of whole runs: images of 1000² pixels with fine detail, by an ×4 network to ×2, and to ×4 in each
# format, less what does not grow with the image. The network's own memory adapts to what is free. TIFF is as PNG.
# Scores take less than encoding.
_NEEDED = {
    Samples(): _Bytes(7.5, 6.5, 7.5, 14.5, 12.5, 17.5, 9.5),
    Samples(alpha=True): _Bytes(10, 12, 36, 38, 15, 19.5, 10),
    Samples(gray=True): _Bytes(8, 7.5, 8, 14.5, 8.5, 18, 9.5),
    Samples(alpha=True, gray=True): _Bytes(10, 12, 37, 38, 12.5, 19.5, 10),
    Samples(deep=True): _Bytes(15.5, 17, 32, 32, 20, 22.5, 13),
    Samples(deep=True, alpha=True): _Bytes(16.5, 31, 46, 43, 31, 26, 21),
    Samples(deep=True, gray=True): _Bytes(13.5, 13.5, 32, 32, 13.5, 25, 18.5),
    Samples(deep=True, alpha=True, gray=True): _Bytes(16.5, 21, 46, 43, 21, 26, 21),
}


class Stopwatch:
    """Estimates how long a model takes, by a trial on a small image that runs at the first question."""

    def __init__(self, model: RgbModel) -> None:
        self._model = model
        self._seconds_per_pixel: float | None = None

    def seconds_for(self, pixels: int) -> float:
        """Return the estimated number of seconds for so many LR pixels."""
        if self._seconds_per_pixel is None:
            trial = np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8)
            self._model(trial)  # the first call prepares the network for this size
            start = time.perf_counter()
            self._model(trial)
            self._seconds_per_pixel = (time.perf_counter() - start) / _TRIAL_SIDE**2
        return pixels * self._seconds_per_pixel

    def time_for(self, pixels: int) -> str:
        """Return the estimated time for so many LR pixels, such as `3 min` or `1.5 hours`."""
        minutes = self.seconds_for(pixels) / 60
        return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, round(minutes))} min"


def check_image(
    name: str,
    height: int,
    width: int,
    target: Target,
    *,
    format: str | None,
    stopwatch: Stopwatch,
    model_scale: int | None,
    allow_large: bool,
    extras: Collection[Extra] = (),
    samples: Samples | None = None,
) -> None:
    """Refuse an image whose result is too large for its format, the free memory or a run without `allow_large`.

    Args:
        name: The image's name in messages.
        height: Height of the LR image.
        width: Width of the LR image.
        target: Factor or (height, width) of the result.
        format: A key of `FORMATS`; None where it is not known yet.
        stopwatch: Estimates the time.
        model_scale: The model's factor; None where it is not known yet.
        allow_large: Whether to upscale images of more than `LARGE_IMAGE` pixels.
        extras: What is done with a result besides encoding it, if it is larger than the LR image.
        samples: What the image consists of; None where it is not decoded yet, which counts as 8-bit RGB.

    Raises:
        SrlibError: The image is refused.
    """
    new_height, new_width = size_of(height, width, target)
    if format is not None:
        check_size(new_height, new_width, format, name)
    result = f"{name}: {width}×{height} to {new_width}×{new_height} pixels"
    pixels = new_height * new_width
    shrinks = is_smaller(height, width, target)
    factor = 1 if shrinks else model_scale
    from_pixels = pixels if factor is None else height * width * factor**2
    needed = _needed(pixels, from_pixels, format, samples or Samples(), () if shrinks else extras)
    check_memory(result, needed)
    if height * width > LARGE_IMAGE and not allow_large:
        raise SrlibError(f"{result} takes about {stopwatch.time_for(height * width)}; use --allow-large to upscale it")


def _needed(pixels: int, from_pixels: int, format: str | None, samples: Samples, extras: Collection[Extra]) -> float:
    """Return about how many bytes of memory a result takes that is made from so many pixels of a network."""
    table = _NEEDED[samples]
    encoded = {"jpeg": table.jpeg, "webp": table.webp}.get(format or "", table.png)
    beside = {"consistent": table.consistent, "map": table.map, "uncertainty": table.uncertainty}
    each = max([encoded, *(beside[extra] for extra in extras)])
    resized = 0 if pixels == from_pixels else max(pixels, from_pixels) * table.resized
    return max(pixels * each, resized)


def file_bytes(height: int, width: int, target: Target, format: str | None) -> float:
    """Return about how many bytes the file of a result takes, for a photograph of 8 bits."""
    new_height, new_width = size_of(height, width, target)
    return 3 * new_height * new_width * _TYPICAL[format or "png"]


def prepare_folder(target: Path, expected_bytes: float) -> None:
    """Make the folder of a result, and warn of a disk that looks too small.

    Args:
        target: The file to write.
        expected_bytes: About how much all results take.

    Raises:
        SrlibError: The folder cannot be written to.
        OSError: The folder cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise SrlibError(f"{target.parent}: is not writable; choose another folder")
    with contextlib.suppress(OSError):  # a file system that does not report its free space
        free = shutil.disk_usage(target.parent).free
        if expected_bytes > free:
            print(
                f"warning: {target.parent}: about {expected_bytes / 1e9:.1f} GB will be written, {free / 1e9:.1f} GB "
                "are free; what fits is written",
                file=sys.stderr,
            )
