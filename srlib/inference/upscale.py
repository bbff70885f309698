"""Upscale whole images, with gray and alpha, to any size.

A network has one factor. Another size is reached from its result by an exact MATLAB bicubic step.
"""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from srlib.arrays import Pixels
from srlib.imaging.array_image import from_array, to_array
from srlib.imaging.consistency import make_consistent
from srlib.imaging.image_file import ImageFile
from srlib.imaging.resize import resize
from srlib.imaging.transparency import fill_transparent, neighborhood
from srlib.inference.choice import AutoModel, open_any
from srlib.inference.input_traces import traces_of
from srlib.inference.output_size import Target, factor_of, is_smaller, output_size
from srlib.inference.shipped import AUTO
from srlib.inference.upscaler import Upscaler

OnPixels = Callable[[int], object]
"""Callback that receives the number of LR pixels done since its last call."""


class RgbModel(Protocol):
    """A model that upscales RGB by a fixed factor, such as `srlib.Upscaler`."""

    name: str
    scale: int

    def __call__(self, rgb: Pixels, *, on_pixels: OnPixels | None = None) -> Pixels:
        """Upscale uint8 or uint16 [h, w, 3] to the same dtype, [scale·h, scale·w, 3]."""


def upscale(
    image: Pixels,
    *,
    model: str | Path | Upscaler = AUTO,
    scale: float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: tuple[int, int] | None = None,
    megapixels: float | None = None,
    consistent: bool = False,
) -> Pixels:
    """Upscale one image array.

    The network runs once; another size than the model's own factor is reached by MATLAB bicubic resizing of its result.

    Args:
        image: uint8 or uint16, gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4]; alpha is not premultiplied.
        model: `auto` for the shipped model that fits the image; a model that `open_model` accepts by name or folder; or
            an opened model. Open it once for many images.
        scale: Factor from 1 to 16 (default: the model's own).
        width: Pixels per row; the height follows from the proportions. With `height` too: exactly this size.
        height: Pixels per column.
        fit: (width, height): the largest size inside it with the image's proportions.
        megapixels: Millions of pixels.
        consistent: Correct the result so that, downscaled again, it is `image` within about one level.

    Returns:
        The same dtype and number of channels, for a factor [ceil(scale·h), ceil(scale·w), …].

    Raises:
        SrlibError: `image` has another dtype or shape, a size is outside its range or given twice, or there is no such
            model.

    Example:
        >>> import numpy as np, srlib
        >>> gray = np.full((8, 8), 128, np.uint8)
        >>> srlib.upscale(gray, scale=2.5).shape
        (20, 20)
        >>> srlib.upscale(gray, fit=(30, 100)).shape
        (30, 30)
    """
    size = output_size(scale=scale, width=width, height=height, fit=fit, megapixels=megapixels)
    lr = from_array(image)
    height, width = map(int, lr.rgb.shape[:2])
    upscaler = open_any(model)
    target = size.target(height, width, upscaler.scale)
    if isinstance(upscaler, AutoModel):
        upscaler = upscaler.fitting(traces_of(visible_colors(lr)), factor_of(height, width, target))
    return to_array(upscale_image(lr, upscaler, target, consistent=consistent))


def pixels_to_process(image: ImageFile) -> int:
    """Return the number of LR pixels that `upscale_image` reports: those of a varying alpha channel count too."""
    height, width = map(int, image.rgb.shape[:2])
    alpha = image.alpha
    has_varying_alpha = alpha is not None and bool(alpha.min() != alpha.max())
    return height * width * (2 if has_varying_alpha else 1)


def upscale_image(
    image: ImageFile, model: RgbModel, target: Target, *, consistent: bool = False, on_pixels: OnPixels | None = None
) -> ImageFile:
    """Upscale an image with its alpha channel to any size.

    The network runs once, also for a size beyond its factor: a second pass measured no better than bicubic. It does not
    run at all where the result is no larger than the image: that is downscaled by MATLAB bicubic. Gray goes
    through the network as three equal channels and becomes their mean. Alpha goes through it too, which measured 5 dB
    better than bicubic on hard edges; where alpha is flat it stays exactly so. The colors stored under transparent
    pixels are arbitrary and would appear as a fringe: they are first filled from visible neighbors.

    Args:
        image: The LR image.
        model: Upscales RGB by `model.scale`.
        target: Factor from the LR image to the result, or (height, width) of the result.
        consistent: Change the colors as little as possible so that, downscaled again, they are those of the LR image
            (see `srlib.imaging.consistency`); not where the result is smaller along a side.
        on_pixels: Callback that receives the number of LR pixels done since its last call; see `pixels_to_process`.

    Returns:
        The upscaled image with the metadata of `image`.
    """
    alpha = image.alpha
    height, width = map(int, image.rgb.shape[:2])
    lr = visible_colors(image)
    if is_smaller(height, width, target):
        rgb = resize(lr, target)
        alpha = None if alpha is None else resize(alpha[..., None], target)[..., 0]
        if on_pixels:
            on_pixels(pixels_to_process(image))
        return dataclasses.replace(image, rgb=rgb, alpha=alpha)
    step = target if isinstance(target, tuple) else target / model.scale
    rgb = model(lr, on_pixels=on_pixels)
    if image.gray:
        rgb = _channel_mean(rgb)
    rgb = resize(rgb, step)
    if consistent and rgb.shape[0] >= height and rgb.shape[1] >= width:
        rgb = make_consistent(lr[..., : rgb.shape[2]], rgb)
    if image.gray:
        rgb = _repeated(rgb, 3)
    if alpha is not None:
        alpha = resize(_upscale_alpha(alpha, model, on_pixels)[..., None], step)[..., 0]
    return dataclasses.replace(image, rgb=rgb, alpha=alpha)


def visible_colors(image: ImageFile) -> Pixels:
    """Return the colors of an image, those under transparent pixels filled from visible neighbors."""
    return image.rgb if image.alpha is None else fill_transparent(image.rgb, image.alpha)


def _channel_mean(rgb: Pixels) -> Pixels:
    """Return the mean of three channels as [h, w, 1] of the same dtype."""
    total = rgb[..., 0].astype(np.uint32)
    for channel in (1, 2):
        total += rgb[..., channel]
    total += 1
    total //= 3
    return np.asarray(total.astype(rgb.dtype)[..., None])


def _upscale_alpha(alpha: Pixels, model: RgbModel, on_pixels: OnPixels | None) -> Pixels:
    """Upscale [h, w] to [scale·h, scale·w]; transparent or opaque wherever the 5×5 pixels around are."""
    opaque, scale = np.iinfo(alpha.dtype).max, model.scale
    if alpha.min() == alpha.max():
        return np.full((alpha.shape[0] * scale, alpha.shape[1] * scale), alpha.flat[0], alpha.dtype)
    lowest, highest = neighborhood(alpha, np.minimum), neighborhood(alpha, np.maximum)
    out = _channel_mean(model(_repeated(alpha[..., None], 3), on_pixels=on_pixels))[..., 0]
    for value, is_flat in ((0, highest == 0), (opaque, lowest == opaque)):
        out[np.repeat(np.repeat(is_flat, scale, axis=0), scale, axis=1)] = value
    return out


def _repeated(channel: Pixels, count: int) -> Pixels:
    """Repeat a channel [h, w, 1] to [h, w, count]."""
    return cast(Pixels, np.repeat(channel, count, axis=2))
