"""Read images as uint8 RGB [height, width, 3], as training and scoring need them.

Gray becomes RGB by repeating the channel. Transparency is composited onto white, since the colors stored under
transparent pixels are arbitrary. 16 bits are rounded to 8. CMYK is converted to sRGB. The orientation is applied. The
first frame of an animation is read. Color profiles of gray and RGB are not applied: the levels stay as stored, as in
every published result.
"""

from pathlib import Path

import numpy as np

from srlib.arrays import Image, Pixels
from srlib.formats.decode import opened
from srlib.formats.header import MAX_PIXELS, Header
from srlib.formats.inks import gray_to_rgb, to_8_bits

# EXIF orientation → (transposed, flipped top to bottom, flipped left to right)
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_image(path: str | Path) -> Image:
    """Read an image as uint8 RGB.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP or GIF file.

    Returns:
        uint8 RGB [height, width, 3], upright.

    Raises:
        SrlibError: The file is missing, not an image, of an unsupported kind, damaged, or has more than `MAX_PIXELS`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = f"{tempfile.mkdtemp()}/gray.png"
        >>> Image.new("L", (6, 4), 200).save(path)
        >>> read_image(path)[0, 0].tolist()
        [200, 200, 200]
    """
    with opened(Path(path)) as header:
        color, alpha = header.decode()
        if alpha is not None:
            color = over_white(color, alpha)
        color = to_8_bits(color)
        if color.shape[2] == 1:
            color = gray_to_rgb(color)
        return np.ascontiguousarray(upright(color, header.orientation), np.uint8)


def image_size(path: Path, *, verify: bool = False) -> tuple[int, int]:
    """Return the (height, width) that `read_image` would give.

    Args:
        path: The file.
        verify: Check all of the file: every format but PNG is decoded. A PNG is checked by its checksums in any case,
            which takes a tenth of the time.

    Raises:
        SrlibError: As `read_image`, as far as the head of the file shows.
    """
    with opened(Path(path)) as header:
        if verify and header.format != "png":
            header.decode()
        return upright_size(header)


def upright_size(header: Header) -> tuple[int, int]:
    """Return the (height, width) after the orientation is applied."""
    transposed = _UPRIGHT.get(header.orientation, (False,))[0]
    return (header.width, header.height) if transposed else (header.height, header.width)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return a view of [H, W, …] flipped and rotated as its EXIF orientation (1 to 8) says (EXIF 2.3, table 6)."""
    transposed, top_bottom, left_right = _UPRIGHT.get(orientation, (False, False, False))
    if transposed:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if top_bottom else 1, :: -1 if left_right else 1]


def over_white(color: Pixels, alpha: Pixels) -> Pixels:
    """Composite color [H, W, C] onto white by alpha [H, W] of the same type, rounded."""
    top = int(np.iinfo(color.dtype).max)
    weight = alpha[..., None].astype(np.uint32)  # top² + top // 2 fits into 32 bits even for 16-bit samples
    return ((color * weight + top * (top - weight) + top // 2) // top).astype(color.dtype)


__all__ = ["MAX_PIXELS", "image_size", "over_white", "read_image", "upright", "upright_size"]
