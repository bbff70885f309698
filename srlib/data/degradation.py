"""Draw random degradations from the ranges of the recipe and apply them to HR patches.

One pass is blur, resizing, noise and compression, each applied with its probability; the last pass resizes to the LR
size. Two passes are the second-order degradation of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833). The settings are
drawn from a counter-based generator (Philox), so that a patch's degradation depends only on that key.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.files import write_json
from srlib.imaging import degradation as operations
from srlib.imaging.resize import Edges, downscale, resize
from srlib.params.degradation import Blur, Compression, Degradation, DegradationPass, Noise, Resizing

MARGIN = 8
"""LR pixels around a patch that are degraded with it, so that the patch has no edges of its own."""

DEGRADATION = "degradation.json"
"""File in a patch folder with the section `prepare.degradation`, from which training degrades anew in every step."""


def write_degradation(folder: Path, params: Degradation) -> None:
    """Write the section to a patch folder."""
    write_json(folder / DEGRADATION, params.model_dump(mode="json"))


def read_degradation(folder: Path) -> Degradation | None:
    """Read the section of a patch folder; None if its LR patches are not degraded at random.

    Raises:
        SrlibError: The file is damaged.
    """
    path = folder / DEGRADATION
    if not path.is_file():
        return None
    try:
        return Degradation.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError, RecursionError):
        raise SrlibError(f"{path}: not a section `prepare.degradation`; run the prepare stage again") from None


def keyed_generator(key: str) -> np.random.Generator:
    """Return a random generator whose seed is a text."""
    words = np.frombuffer(hashlib.sha256(os.fsencode(key)).digest()[:16], np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


def degrade_image(
    hr: Pixels, scale: int, params: Degradation, generator: np.random.Generator, edges: Edges = "mirror"
) -> Pixels:
    """Return a degraded LR image.

    Args:
        hr: uint8 RGB [H, W, 3].
        scale: Ratio of HR to LR size.
        params: The section `prepare.degradation`.
        generator: Source of all random settings and of the noise.
        edges: Edge rule of MATLAB's bicubic for images that stay clean.

    Returns:
        uint8 RGB [H // scale, W // scale, 3].
    """
    if generator.random() < params.clean:
        return downscale(hr, scale, edges=edges)
    size = hr.shape[0] // scale, hr.shape[1] // scale
    image = operations.from_uint8(hr[: size[0] * scale, : size[1] * scale])
    for number, one in enumerate(params.passes, start=1):
        if one.probability == 1 or generator.random() < one.probability:
            image = _apply(image, one, generator, size if number == len(params.passes) else None)
    return operations.to_uint8(image)


def degrade_patch(
    hr: Pixels, top: int, left: int, side: int, scale: int, params: Degradation | None, generator: np.random.Generator
) -> Pixels:
    """Return the degraded LR patch [side, side, 3] at (top, left) in LR pixels of an HR image.

    The patch is degraded, or with `params` None downscaled alone, together with up to `MARGIN` LR pixels around it, as
    far as the image reaches.
    """
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    first_row, first_column = max(top - MARGIN, 0), max(left - MARGIN, 0)
    rows = slice(first_row * scale, min(top + side + MARGIN, height) * scale)
    columns = slice(first_column * scale, min(left + side + MARGIN, width) * scale)
    window = hr[rows, columns]
    lr = degrade_image(window, scale, params, generator) if params else downscale(window, scale)
    return lr[top - first_row :, left - first_column :][:side, :side]


def _apply(
    image: np.ndarray, one: DegradationPass, generator: np.random.Generator, size: tuple[int, int] | None
) -> np.ndarray:
    """Apply one pass: blur, resizing, noise and compression. A step that the recipe leaves out draws nothing."""
    if one.blur and generator.random() < one.blur.probability:
        image = operations.blur(image, _kernel(one.blur, generator))
    image = _resize(image, one.resize, generator, size)
    if one.noise and generator.random() < one.noise.probability:
        image = _add_noise(image, one.noise, generator)
    if one.compression and generator.random() < one.compression.probability:
        image = _compress(image, one.compression, generator)
    return image


def _kernel(params: Blur, generator: np.random.Generator) -> np.ndarray:
    sigma = _draw(generator, params.sigma)
    across, angle, shape = sigma, 0.0, 1.0
    if generator.random() < params.anisotropic:
        across, angle = _draw(generator, params.sigma), generator.uniform(0, math.pi)
    if generator.random() < params.generalized:
        shape = _draw(generator, params.shape)
    return operations.gaussian_kernel(sigma, across, angle=angle, shape=shape)


def _resize(
    image: np.ndarray, params: Resizing, generator: np.random.Generator, size: tuple[int, int] | None
) -> np.ndarray:
    """Resize by a random factor, or to `size` in the last pass."""
    method = params.methods[int(generator.integers(len(params.methods)))]
    if size is None:
        # Uniform in the logarithm: halving the size is as likely as doubling it.
        factor = math.exp(generator.uniform(math.log(params.factor[0]), math.log(params.factor[1])))
        size = max(round(image.shape[0] * factor), 1), max(round(image.shape[1] * factor), 1)
    if method == "antialiased":
        return operations.from_uint8(resize(operations.to_uint8(image), size))
    return operations.resample(image, *size, method)


def _add_noise(image: np.ndarray, params: Noise, generator: np.random.Generator) -> np.ndarray:
    gray = bool(generator.random() < params.gray)
    if generator.random() < params.poisson:
        return operations.poisson_noise(image, _draw(generator, params.scale), generator, gray=gray)
    return operations.gaussian_noise(image, _draw(generator, params.sigma), generator, gray=gray)


def _compress(image: np.ndarray, params: Compression, generator: np.random.Generator) -> np.ndarray:
    quality = int(generator.integers(params.quality[0], params.quality[1] + 1))
    if generator.random() < params.webp:
        return operations.compress(image, "webp", quality)
    subsampling: operations.Subsampling = "4:4:4" if generator.random() < params.full_chroma else "4:2:0"
    return operations.compress(image, "jpeg", quality, subsampling=subsampling)


def _draw(generator: np.random.Generator, pair: Sequence[float]) -> float:
    return generator.uniform(pair[0], pair[1])
