"""The size of a result: a factor, or a size in pixels that each image is brought to."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real

from srlib.errors import SrlibError

LARGEST_FACTOR = 16
LARGEST_SIDE = 2**20
"""Most pixels per side that can be asked for; formats and memory set lower limits."""

Target = Fraction | tuple[int, int]
"""What `srlib.resize` takes: a factor, or (height, width)."""


@dataclass(frozen=True)
class OutputSize:
    """How large each result becomes. Made by `output_size`; all None stands for the model's own factor.

    Attributes:
        scale: Factor from 1 to 16.
        width: Pixels per row. The height follows from the image's proportions unless it is given too.
        height: Pixels per column.
        fit: (width, height) of the box that the result fills as far as its proportions allow.
        megapixels: Millions of pixels of the result.
    """

    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None
    fit: tuple[int, int] | None = None
    megapixels: float | None = None

    def target(self, height: int, width: int, model_scale: int) -> Target:
        """Return what an image of this size is brought to.

        Args:
            height: Height of the LR image.
            width: Width of the LR image.
            model_scale: The model's factor, used where nothing else was asked for.

        Returns:
            A factor, or (height, width) from 1×1.

        Raises:
            SrlibError: The result would be more than 16 times as high or wide as the image.
        """
        if self.width and self.height:
            size = self.height, self.width
        elif factor := self._factor(height, width):
            size = _rounded(height, factor), _rounded(width, factor)
        else:
            return Fraction(model_scale) if self.scale is None else self.scale
        # The side that sets the factor is exact by construction; rounding decides the other.
        if size[0] > LARGEST_FACTOR * height or size[1] > LARGEST_FACTOR * width:
            raise SrlibError(
                f"{width}×{height} to {size[1]}×{size[0]} pixels is more than ×{LARGEST_FACTOR} along a side; "
                "ask for a smaller size"
            )
        return size

    def _factor(self, height: int, width: int) -> Fraction | None:
        """Return the factor that keeps the proportions, None where no size in pixels was asked for."""
        if self.fit:
            return min(Fraction(self.fit[0], width), Fraction(self.fit[1], height))
        if self.width:
            return Fraction(self.width, width)
        if self.height:
            return Fraction(self.height, height)
        if self.megapixels:
            return Fraction(math.sqrt(self.megapixels * 1e6 / (height * width)))
        return None


MODEL_SCALE = OutputSize()
"""The model's own factor."""


def output_size(
    *,
    scale: str | float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: str | tuple[int, int] | None = None,
    megapixels: float | None = None,
) -> OutputSize:
    """Check the options that say how large each result becomes.

    Args:
        scale: Factor from 1 to 16, as a number or a text such as `4`, `1.5` or `8/3`.
        width: Pixels per row; with `height` too, exactly this size whatever the proportions.
        height: Pixels per column.
        fit: (width, height), or a text such as `3840x2160`: the largest size inside it with the image's proportions.
        megapixels: Millions of pixels.

    Returns:
        The options, checked.

    Raises:
        SrlibError: An option is outside its range, or two exclude each other.

    Example:
        >>> output_size(fit="1920x1080").target(300, 400, 4)
        (1080, 1440)
    """
    options = {"scale": scale, "width or height": width or height, "fit": fit, "megapixels": megapixels}
    names = [name for name, value in options.items() if value is not None]
    if len(names) > 1:
        raise SrlibError(f"size: expected one of scale, width or height, fit and megapixels, got {' and '.join(names)}")
    for name, side in (("width", width), ("height", height)):
        if side is not None and not _is_side(side):
            raise SrlibError(f"{name}: expected a number of pixels from 1 to {LARGEST_SIDE:,}, got {side!r}")
    if megapixels is not None and not (isinstance(megapixels, Real) and 0 < float(megapixels) <= LARGEST_SIDE):
        raise SrlibError(f"megapixels: expected a number above 0 such as 8.3, got {megapixels!r}")
    return OutputSize(
        scale=None if scale is None else to_factor(scale),
        width=None if width is None else int(width),  # NumPy's integers of 8 bits would overflow
        height=None if height is None else int(height),
        fit=None if fit is None else _to_box(fit),
        megapixels=None if megapixels is None else float(megapixels),
    )


def to_factor(scale: str | float | Fraction) -> Fraction:
    """Return the exact factor that a number or a text such as `4`, `1.5` or `8/3` stands for.

    Raises:
        SrlibError: Not a number from 1 to 16 with a denominator up to 100.
    """
    text = str(scale).strip().lower().removeprefix("x").removeprefix("×").removesuffix("x")
    try:
        factor = Fraction(text)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if isinstance(scale, Real) and not isinstance(scale, Rational):
        factor = factor.limit_denominator(100)
    if not 1 <= factor <= LARGEST_FACTOR or factor.denominator > 100:
        raise SrlibError(f"scale: expected a factor from 1 to {LARGEST_FACTOR} such as 4, 1.5 or 8/3, got {scale!r}")
    return factor


def size_of(height: int, width: int, target: Target) -> tuple[int, int]:
    """Return the (height, width) of an upscaled image; for a factor MATLAB's ceil(factor · size)."""
    return target if isinstance(target, tuple) else (math.ceil(height * target), math.ceil(width * target))


def factor_of(height: int, width: int, target: Target) -> Fraction:
    """Return the larger of the two factors by which the sides of an image grow."""
    return max(Fraction(target[0], height), Fraction(target[1], width)) if isinstance(target, tuple) else target


def is_smaller(height: int, width: int, target: Target) -> bool:
    """Return whether neither side of the result is longer than the image's, so that a network has nothing to add.

    A factor never counts as smaller: `--scale 1` asks for the network's result at the image's own size.
    """
    return isinstance(target, tuple) and target[0] <= height and target[1] <= width


def _is_side(side: object) -> bool:
    return isinstance(side, Integral) and 1 <= int(side) <= LARGEST_SIDE


def _to_box(fit: str | tuple[int, int]) -> tuple[int, int]:
    """Return (width, height)."""
    match = re.fullmatch(r"\s*([0-9]{1,7})\s*[x×X,]\s*([0-9]{1,7})\s*", fit) if isinstance(fit, str) else None
    box = (int(match[1]), int(match[2])) if match else fit
    if not (isinstance(box, tuple) and len(box) == 2 and all(map(_is_side, box))):
        raise SrlibError(f"fit: expected width and height in pixels such as 3840x2160, got {fit!r}")
    return int(box[0]), int(box[1])


def _rounded(side: int, factor: Fraction) -> int:
    """Return a side times a factor, rounded half up, at least one pixel."""
    return max(1, math.floor(side * factor + Fraction(1, 2)))
