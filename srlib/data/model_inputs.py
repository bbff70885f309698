"""What a network trained on a patch folder is for: the degradation of its LR patches.

`srlib.data.degradation` draws degradations at random; here are the ranges that they lie in.
"""

import math

import numpy as np

from srlib.arrays import Pixels
from srlib.imaging.input_range import CLEAN, SHARP, InputRange
from srlib.imaging.resize import downscale
from srlib.params import Prepare
from srlib.params.degradation import Noise

LARGEST_DIFFERENCE = 2.0
"""Mean difference in levels up to which LR counts as downscaled HR; noise of 3 levels makes 2.4."""


def input_range(params: Prepare, scale: int) -> InputRange:
    """Return the degradation of the LR patches that a section `prepare` makes: what a network trained on them is for.

    Noise and compression are those of the last pass that has them, since resizing removes much of the earlier ones.

    Args:
        params: The section.
        scale: Ratio of HR to LR size.

    Example:
        >>> input_range(Prepare(images="photos", noise=5, jpeg=80), scale=4)
        InputRange(noise=(5.0, 5.0), blur=(0.0, 1.0), jpeg_quality=(80, 80))
    """
    section = params.degradation
    if section is None:
        noise = (params.noise, params.noise) if params.noise else CLEAN.noise
        return InputRange(noise, CLEAN.blur, (params.jpeg, params.jpeg) if params.jpeg else CLEAN.jpeg_quality)
    # Each with the share of the patches that have it: unless that is 1, some have none.
    degraded = 1 - section.clean
    noises = [(one.noise, degraded * one.probability * one.noise.probability) for one in section.passes if one.noise]
    codecs = [(c, degraded * one.probability * c.probability) for one in section.passes if (c := one.compression)]
    blurs = [one.blur.sigma[1] / scale for one in section.passes if one.blur]
    low, high = _noise_levels(noises[-1][0]) if noises else CLEAN.noise
    quality = codecs[-1][0].quality if codecs else CLEAN.jpeg_quality
    return InputRange(
        noise=(low if noises and noises[-1][1] == 1 else 0.0, high),
        blur=(0.0, round(max(math.hypot(SHARP, max(blurs, default=0.0)), CLEAN.blur[1]), 2)),
        jpeg_quality=(quality[0], quality[1] if codecs and codecs[-1][1] == 1 else 100),
    )


def _noise_levels(noise: Noise) -> tuple[float, float]:
    """Return the lowest and highest standard deviation in levels of 255; of shot noise, at half brightness."""
    shot = [math.sqrt(scale * 127.5) for scale in noise.scale]
    kinds = [pair for pair, share in ((noise.sigma, 1 - noise.poisson), (shot, noise.poisson)) if share]
    return round(min(pair[0] for pair in kinds), 2), round(max(pair[1] for pair in kinds), 2)


def is_downscaled(lr: Pixels, hr: Pixels) -> bool:
    """Return whether LR patches are HR ones, downscaled, and not images of a camera or degraded ones.

    Args:
        lr: LR patches, uint8 [N, p, p, 3], at least 8 pixels high and wide.
        hr: Their HR patches, uint8 [N, scale·p, scale·p, 3].
    """
    inner = slice(2, -2)  # the pixels that downscaling computes from the patch alone
    made = np.stack([downscale(patch, hr.shape[1] // lr.shape[1]) for patch in hr])
    return bool(np.abs(made.astype(np.int16) - lr)[:, inner, inner].mean() <= LARGEST_DIFFERENCE)
