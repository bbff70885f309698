"""The degradation of the images that a model was trained for: noise, blur and JPEG compression.

A model keeps this in its `config.json` under `inputs`. A model without that key was trained on clean images.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from srlib.errors import SrlibError

SHARP = 0.34
"""Blur in pixels that a sharp photograph shows in an estimate, from the sampling of its pixels."""

_LIMITS = {"noise": (0.0, 255.0), "blur": (0.0, 100.0), "jpeg_quality": (1.0, 100.0)}


@dataclass(frozen=True)
class InputRange:
    """Lowest and highest degradation of a model's LR images; the defaults are what counts as clean.

    Attributes:
        noise: Standard deviation per channel in levels of 255.
        blur: Standard deviation of a Gaussian blur in LR pixels, including the one that a sharp image shows.
        jpeg_quality: Quality of JPEG files from 1 to 100; 100 stands for images without compression.

    Raises:
        SrlibError: Not two ascending numbers within their limits.

    Example:
        >>> InputRange(noise=(0.0, 12.0)).excess(noise=15.0, jpeg_quality=60)
        {'noise': 3.0, 'jpeg_quality': 34.0}
    """

    noise: tuple[float, float] = (0.0, 3.0)
    blur: tuple[float, float] = (0.0, 1.0)
    jpeg_quality: tuple[float, float] = (94, 100)

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _LIMITS.items():
            if not _is_range(getattr(self, name), lowest, highest):
                raise SrlibError(f"inputs.{name}: expected two numbers from {lowest:g} to {highest:g}, the lower first")
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def from_json(cls, content: object) -> "InputRange":
        """Return the range that a `config.json` holds under `inputs`.

        Raises:
            SrlibError: Something else is there.
        """
        if not isinstance(content, Mapping) or set(content) != set(_LIMITS):
            raise SrlibError(f"inputs: expected an object with the keys {', '.join(_LIMITS)}")
        return cls(**content)

    def as_json(self) -> dict[str, list[float]]:
        """Return what a `config.json` holds under `inputs`."""
        return {name: list(pair) for name, pair in asdict(self).items()}

    def excess(
        self, *, noise: float | None = None, blur: float | None = None, jpeg_quality: int | None = None
    ) -> dict[str, float]:
        """Return how far an image lies outside of the range, for each property that does.

        Args:
            noise: Estimate for the image; None where it is not known.
            blur: The same.
            jpeg_quality: The same; None for an image that is no JPEG file.

        Returns:
            Name of the property → distance from the nearer end of the range, above 0.
        """
        values = {"noise": noise, "blur": blur, "jpeg_quality": jpeg_quality}
        distances = {
            name: max(getattr(self, name)[0] - value, value - getattr(self, name)[1])
            for name, value in values.items()
            if value is not None
        }
        return {name: float(distance) for name, distance in distances.items() if distance > 0}


def _is_range(pair: object, lowest: float, highest: float) -> bool:
    return (
        isinstance(pair, tuple | list)
        and len(pair) == 2
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in pair)
        and all(math.isfinite(value) for value in pair)
        and lowest <= pair[0] <= pair[1] <= highest
    )


CLEAN = InputRange()
"""What counts as clean: below this quality or above this noise, a network trained for such images is clearly better.

Measured with psnr-x4 and photo-x4: docs/experiments/2026-11-29-photographs-second-phase.md.
"""
