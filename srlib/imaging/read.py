"""Reading pictures of every usual kind as uint8 RGB [height, width, 3], and writing PNG.

What training and scoring need is decided here once: grayscale becomes RGB by repeating the channel; alpha is
composited over white, since the colors stored under transparent pixels are arbitrary; 16 bits are rounded to 8; CMYK
is converted; EXIF orientation is applied; of an animation the first frame is taken. Color profiles are not applied:
the values stay as stored, as in every published result.

Pillow decodes; where kornia-rs is installed, it takes over plain 8-bit RGB PNG (2.5 times as fast, docs/data.md). The
checksums of PNG files are verified, which Pillow does not do.
"""

import contextlib
import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from srlib.errors import SrlibError, one_line
from srlib.imaging.folders import OTHER_SUFFIXES, READABLE

try:
    from kornia_rs import io as kornia
except ModuleNotFoundError:  # enlarging pictures does without
    kornia = None  # type: ignore[assignment]

MAX_PIXELS = 2**28
"""A picture with more pixels (268 million, 800 MB in memory) is refused before it is decoded."""

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_ORIENTATION = 0x0112
# What Pillow's decoders raise on damaged content.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)
# EXIF orientation -> (transposed, flipped top to bottom, flipped left to right)
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS  # beyond ours, so that Pillow does not warn of what is refused here
# Remarks on odd TIFF tags would tear the progress line; what matters is raised.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


def read_image(path: Path) -> np.ndarray:
    """Reads a picture as uint8 RGB [height, width, 3].

    Raises:
        SrlibError: The file is missing, is no picture, is truncated or damaged, or has more than MAX_PIXELS pixels.
    """
    with opened(Path(path)) as picture:
        orientation = orientation_of(picture)
        pixels = decode(picture, Path(path))
    return np.ascontiguousarray(upright(_to_rgb8(pixels), orientation))


def image_size(path: Path, *, verify: bool = False) -> tuple[int, int]:
    """The (height, width) that `read_image` would give; raises as it does, as far as the head of the file shows.

    Args:
        path: The file.
        verify: Whether all of the file is checked: every kind but PNG is decoded. A PNG is checked by its checksums in
            any case, in a tenth of the time.
    """
    with opened(Path(path)) as picture:
        orientation = orientation_of(picture)
        if verify and picture.format != "PNG":
            _decode_with_pillow(picture)
        width, height = picture.size
        return (width, height) if _UPRIGHT.get(orientation, (False,))[0] else (height, width)


@contextlib.contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[ImageFile.ImageFile]:
    """The picture, its head read; whatever goes wrong inside becomes one line that names the file.

    Args:
        path: The file, or the name of what `content` holds.
        content: The file's bytes, where they are at hand.

    Raises:
        SrlibError: As `read_image`.
    """
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise SrlibError(f"{path}: this kind of picture cannot be read; convert it to {READABLE}")
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{width}×{height} pixels")
            if picture.format == "PNG" and (exif := _verify_png(path.read_bytes() if content is None else content)):
                picture.info["exif"] = exif
            yield picture
    except FileNotFoundError:
        raise SrlibError(f"{path}: no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SrlibError(f"{path}: cannot be opened ({error.strerror})") from None
    except Image.DecompressionBombError as error:
        text = f"{path}: refused, more than {MAX_PIXELS} pixels ({error}); cut it into smaller pictures"
        raise SrlibError(text) from None
    except UnidentifiedImageError:
        raise SrlibError(f"{path}: not a picture; expected {READABLE}") from None
    except _DAMAGED as error:
        raise SrlibError(f"{path}: truncated or damaged ({one_line(error)}); copy it again from its source") from error


def _verify_png(file: bytes) -> bytes:
    """Checks that a PNG is whole and each needed chunk has its checksum (PNG, 3rd edition, 5.3); returns its EXIF data.

    Raises:
        ValueError: A checksum is wrong, or the file ends before the closing chunk.
    """
    content = memoryview(file)
    start, exif = 8, b""
    while start + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        end = start + 8 + size
        if end + 4 > len(content):
            break
        needed = kind[:1].isupper()
        if needed and zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of the {kind.decode('latin-1')} chunk at byte {start}")
        if kind == b"eXIf":
            exif = bytes(content[start + 8 : end])
        if kind == b"IEND":
            return exif
        start = end + 4
    raise ValueError(f"ends after {len(content)} bytes without the closing chunk")


def decode(picture: ImageFile.ImageFile, source: Path | bytes) -> np.ndarray:
    """The pixels of an opened picture as stored, not turned: gray [H, W], RGB or RGBA [H, W, C], uint8 or uint16.

    Args:
        picture: What `opened` gave; call this inside its block.
        source: The same file, or its bytes.
    """
    tile = picture.tile[0] if picture.tile else None
    raw = "" if tile is None else tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])
    if raw.startswith(("RGB;16", "RGBA;16", "LA;16")):
        return _decode_deep(source, raw)
    if kornia and picture.format == "PNG" and raw == "RGB" and "transparency" not in picture.info:
        return _decode_with_kornia(source, picture.size)
    return _decode_with_pillow(picture)


def _decode_with_kornia(source: Path | bytes, size: tuple[int, int]) -> np.ndarray:
    """Decodes an RGB PNG of 8 bits and this (width, height)."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    try:
        return np.asarray(kornia.decode_image_png_u8(content, size[::-1], "rgb"))
    except Exception as error:  # it raises nothing finer
        raise ValueError(f"its compressed data is broken: {error}") from None


def _decode_deep(source: Path | bytes, raw: str) -> np.ndarray:
    """Decodes 16-bit color to uint16 RGB or RGBA, in two passes: Pillow keeps one byte of each value at a time.

    Told that the values are big-endian it takes the first byte of each, told little-endian the second.
    """
    kind = raw.partition(";")[0]
    modes = ("RGBA",) if kind == "LA" else (f"{kind};16B", f"{kind};16L")
    halves = []
    for mode in modes:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as picture:
            if kind == "LA":
                picture._mode = mode  # two bytes of gray and two of alpha, as four channels of one
            picture.tile = [_retold(tile, mode) for tile in picture.tile]
            halves.append(np.asarray(picture))
            key = picture.info.get("transparency")
    big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    if kind == "LA":
        halves = [halves[0][..., [0, 0, 0, 2]], halves[0][..., [1, 1, 1, 3]]]
    first, second = halves if big else reversed(halves)
    pixels = first.astype(np.uint16) << 8 | second
    if isinstance(key, tuple) and kind == "RGB":
        alpha = np.where((pixels == np.array(key, np.uint16)).all(axis=2, keepdims=True), 0, 65535)
        pixels = np.concatenate([pixels, alpha.astype(np.uint16)], axis=2)
    return np.asarray(pixels)


def _retold(tile: Any, mode: str) -> Any:
    """A tile of a picture whose raw pixels are said to be of another mode."""
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))


def _decode_with_pillow(picture: ImageFile.ImageFile) -> np.ndarray:
    """Decodes the first frame to uint8 RGB or RGBA, or uint16 gray."""
    raw = str(picture.tile[0].args) if picture.tile else ""
    picture.load()
    if picture.mode.startswith("I;16") and "I;12" not in raw:
        return np.asarray(picture)
    if picture.mode.startswith(("I", "F")):
        raise ValueError("expected 8 or 16 bits without sign, found another depth")
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _to_rgb8(pixels: np.ndarray) -> np.ndarray:
    """Gray [H, W], RGB or RGBA [H, W, C], uint8 or uint16 -> uint8 RGB over white."""
    top = 255 if pixels.dtype == np.uint8 else 65535
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        # top² + top // 2 fits into 32 bits even for 16-bit pixels.
        alpha = pixels[..., 3:].astype(np.uint32)
        pixels = (pixels[..., :3] * alpha + top * (top - alpha) + top // 2) // top
    if top == 65535:
        pixels = (pixels.astype(np.uint32) + 128) // 257
    return pixels.astype(np.uint8, copy=False)


def orientation_of(picture: ImageFile.ImageFile) -> int:
    """The EXIF orientation that is still to be applied."""
    # Both decoders turn a TIFF upright by themselves; Pillow's getexif of a PNG would decode the whole picture first.
    return 1 if picture.format == "TIFF" else int(Image.Image.getexif(picture).get(_ORIENTATION, 1))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turns [H, W, …] as its EXIF orientation (1 to 8) says."""
    transposed, top_bottom, left_right = _UPRIGHT.get(orientation, (False, False, False))
    if transposed:
        image = image.swapaxes(0, 1)
    return image[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
