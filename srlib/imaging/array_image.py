"""Images as single arrays, with alpha as a fourth channel, and how they are written to files."""

from numbers import Integral
from pathlib import Path
from typing import cast

import numpy as np

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.imaging.image_file import QUALITY, ImageFile, write_image_file

_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


def as_pixels(image: object) -> Pixels:
    """Check that an object is an array of 8- or 16-bit samples, and return it in this machine's byte order.

    Args:
        image: uint8 or uint16 in any byte order, any shape with at least one element.

    Returns:
        The same samples; the same array where no conversion is needed.

    Raises:
        SrlibError: Anything else.
    """
    if not isinstance(image, np.ndarray) or image.dtype.newbyteorder("=") not in _DTYPES or image.size == 0:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SrlibError(f"expected an image, uint8 or uint16 [height, width, 3], got {got}")
    return cast(Pixels, image.astype(image.dtype.newbyteorder("="), copy=False))


def from_array(image: Pixels) -> ImageFile:
    """Split an array into color and alpha.

    Args:
        image: uint8 or uint16, gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4].

    Returns:
        The image without metadata.

    Raises:
        SrlibError: Another dtype or shape, or no pixels.
    """
    image = as_pixels(image)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
        raise SrlibError(f"expected an image, gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4], got {image.shape}")
    if image.ndim == 2:
        return ImageFile(np.repeat(image[..., None], 3, axis=2), gray=True)
    return ImageFile(np.ascontiguousarray(image[..., :3]), image[..., 3] if image.shape[2] == 4 else None)


def to_array(image: ImageFile) -> Pixels:
    """Join color and alpha: gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4].

    Args:
        image: The image; gray with alpha becomes RGBA.

    Returns:
        The array, of the image's dtype.
    """
    if image.alpha is not None:
        return cast(Pixels, np.concatenate([image.rgb, image.alpha[..., None]], axis=2))
    return cast(Pixels, np.ascontiguousarray(image.rgb[..., 0]) if image.gray else image.rgb)


def write_image(path: str | Path, image: Pixels, *, quality: int = QUALITY) -> None:
    """Write an image, whole or not at all; the ending of the name gives the format.

    Args:
        path: File that ends in .png, .jpg, .tif or .webp; an existing one is replaced.
        image: uint8 or uint16, gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4]; alpha is not premultiplied. JPEG and WebP
            hold 8 bits, and JPEG has no alpha: such an image is composited onto white.
        quality: JPEG and WebP quality, 1 to 100; 100 is lossless in WebP.

    Raises:
        SrlibError: Another kind of array, an unknown ending, a quality outside its range, or an image too large for the
            format.

    Example:
        >>> import numpy as np, srlib, tempfile
        >>> path = f"{tempfile.mkdtemp()}/a.png"
        >>> srlib.write_image(path, np.full((4, 6, 3), 200, np.uint8))
        >>> srlib.read_image(path).shape
        (4, 6, 3)
    """
    if not isinstance(quality, Integral) or not 1 <= quality <= 100:
        raise SrlibError(f"quality: expected a whole number from 1 to 100, got {quality}")
    write_image_file(from_array(image), Path(path), quality=int(quality))
