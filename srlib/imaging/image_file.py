"""Image files of every usual format: read them for upscaling, and write the result with the metadata they came with.

In memory, color is RGB [height, width, 3] and alpha [height, width], both uint8 or both uint16, upright. Metadata is
kept and adapted to the result; a note names what the format cannot hold.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from srlib.arrays import Pixels
from srlib.errors import SrlibError, one_line
from srlib.files import write_bytes
from srlib.formats import exif as exif_data
from srlib.formats import xmp as xmp_data
from srlib.formats.decode import opened
from srlib.formats.encoders import FORMATS, Format
from srlib.formats.inks import gray_to_rgb, to_8_bits
from srlib.formats.metadata import Metadata
from srlib.imaging.read import over_white, upright

QUALITY = 95
"""Default quality of JPEG and WebP."""


@dataclass(frozen=True)
class ImageFile:
    """A decoded image file.

    Attributes:
        rgb: uint8 or uint16 [height, width, 3]; for a gray image three equal channels.
        alpha: None, or [height, width] of the same type; 0 is transparent. Color is not multiplied by it.
        gray: Whether the file holds gray.
        format: A key of `FORMATS`, or `bmp` or `gif`, which are read only.
        metadata: Metadata as read, without references to what is not kept.
        notes: What a user should know, one line each.
    """

    rgb: Pixels
    alpha: Pixels | None = None
    gray: bool = False
    format: str = "png"
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def read_image_file(path: Path, content: bytes | None = None) -> ImageFile:
    """Read a PNG, JPEG, TIFF, WebP, BMP or GIF of 1 to 16 bits: gray, palette, RGB, CMYK or Lab, with or without alpha.

    The orientation is applied. CMYK and Lab become sRGB, through the color profile if there is one. The first of
    several frames or pages is read.

    Args:
        path: The file, or the name of what `content` holds.
        content: The file's bytes, if they have been read already.

    Raises:
        SrlibError: The file is missing, not an image, of an unsupported kind, damaged, or too large.
    """
    with opened(Path(path), content) as header:
        color, alpha = header.decode()
        metadata, notes = header.metadata, header.notes
        if metadata.xmp:
            xmp, lost = xmp_data.without_pointers(metadata.xmp)
            metadata = replace(metadata, xmp=xmp)
            notes += (f"not kept: {', '.join(lost)}",) if lost else ()
        gray = color.shape[2] == 1
        if gray:
            color = gray_to_rgb(color)
        color = np.ascontiguousarray(upright(color, header.orientation))
        if alpha is not None:
            alpha = np.ascontiguousarray(upright(alpha, header.orientation))
    return ImageFile(color, alpha, gray, header.format, metadata, notes)


def write_image_file(
    image: ImageFile, path: Path, *, format: str | None = None, quality: int = QUALITY
) -> tuple[str, ...]:
    """Write an image, whole or not at all; see `encode_image_file`.

    Args:
        image: Image to write.
        path: File to write; its ending gives the format unless `format` is set.
        format: A key of `FORMATS`.
        quality: 1 to 100, for JPEG and WebP.

    Returns:
        What the format cannot hold, one line each.
    """
    content, notes = encode_image_file(image, format or format_of(path), quality=quality, name=str(path))
    write_bytes(path, content)
    return notes


def encode_image_file(
    image: ImageFile, format: str, *, quality: int = QUALITY, name: str = ""
) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image with its metadata; the same image gives the same bytes.

    Gray stays gray and 16 bits stay 16 bits where the format has them. For JPEG, which has no alpha, the image is
    composited onto white.

    Args:
        image: Image to write; its metadata is adapted to its size.
        format: A key of `FORMATS`.
        quality: 1 to 100, for JPEG and WebP; 100 is lossless in WebP.
        name: Name for error messages.

    Returns:
        The file's bytes, and what the format cannot hold, one line each.

    Raises:
        SrlibError: The image is too large for the format.
    """
    kind = FORMATS[format]
    height, width = image.rgb.shape[:2]
    check_size(height, width, format, name)
    pixels, notes = _stored(image, kind)
    metadata, more = _fitting(image, pixels, kind)
    try:
        content = kind.encode(pixels, metadata, quality)
    except (ValueError, OSError) as error:
        raise SrlibError(f"{name}: cannot be written as {kind.name} ({one_line(error)}); try --format png") from error
    return content, notes + more


def format_of(path: Path) -> str:
    """Return the key of `FORMATS` that a name's ending means.

    Raises:
        SrlibError: The ending belongs to none of them.
    """
    for name, kind in FORMATS.items():
        if path.suffix.lower() in kind.suffixes:
            return name
    endings = ", ".join(kind.suffixes[0] for kind in FORMATS.values())
    raise SrlibError(f"{path}: expected a name that ends in {endings}; the ending selects the format")


def check_size(height: int, width: int, format: str, name: str) -> None:
    """Raise an SrlibError where a format cannot hold an image of this size, and say which can."""
    kind = FORMATS[format]
    if max(height, width) > kind.longest:
        raise SrlibError(
            f"{name}: {width}×{height} pixels are too many for {kind.name} (at most {kind.longest:,} per side); "
            "use --format png or tiff, or a smaller --scale"
        )


def _stored(image: ImageFile, kind: Format) -> tuple[Pixels, tuple[str, ...]]:
    """Return [H, W, channels] as the format holds it, and what it cannot hold."""
    color, alpha = image.rgb, image.alpha
    notes: tuple[str, ...] = ()
    if color.dtype == np.uint16 and not kind.deep:
        color, alpha = to_8_bits(color), None if alpha is None else to_8_bits(alpha)
        notes += (f"{kind.name} has 8 bits per channel: 16 were rounded",)
    if alpha is not None and not kind.alpha:
        color, alpha = over_white(color, alpha), None
        notes += (f"{kind.name} has no transparency: composited onto white",)
    if image.gray and kind.gray and not _deep_gray_alpha_as_rgb(image, kind):
        color = color[..., :1]
    return color if alpha is None else np.concatenate([color, alpha[..., None]], axis=2), notes


def _deep_gray_alpha_as_rgb(image: ImageFile, kind: Format) -> bool:
    """Return whether to store RGB although the image is gray.

    Many programs, Pillow among them, do not read a TIFF of 16-bit gray with alpha. A gray profile requires gray.
    """
    deep = image.alpha is not None and image.rgb.dtype == np.uint16
    return kind.name == "TIFF" and deep and _space(image.metadata.icc) != b"GRAY"


def _space(profile: bytes | None) -> bytes:
    """Return the color space that a profile is for: `RGB`, `GRAY`, `CMYK` … (ICC.1, table 17)."""
    return (profile or b"")[16:20].strip()


def _fitting(image: ImageFile, pixels: Pixels, kind: Format) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata of an upright image of another size as the format holds it, and what it cannot hold."""
    metadata = image.metadata
    height, width, channels = pixels.shape
    notes: tuple[str, ...] = ()
    exif = metadata.exif and exif_data.adapted(metadata.exif, width, height)
    if metadata.exif and not exif:
        notes += ("EXIF data that cannot be read is left out",)
    if exif and len(exif) > kind.largest_exif:
        notes += (f"EXIF data of {len(exif):,} bytes is left out: {kind.name} holds {kind.largest_exif:,}",)
        exif = None
    if exif and (kind.name == "TIFF" or image.format == "tiff") and exif_data.has_maker_note(exif):
        notes += ("the camera's maker note is moved within the file: programs may not read all of it",)
    icc = metadata.icc
    if icc and int.from_bytes(icc[:4], "big") > len(icc):  # it begins with its length (ICC.1, table 17)
        notes += ("a truncated color profile is left out",)
        icc = None
    elif icc and _space(icc) != (b"GRAY" if channels < 3 else b"RGB"):
        notes += ("a color profile that does not fit the channels is left out",)
        icc = None
    elif icc and len(icc) > kind.largest_profile:
        notes += (f"a color profile of {len(icc):,} bytes is left out: {kind.name} holds {kind.largest_profile:,}",)
        icc = None
    chunks = metadata.chunks
    if chunks and kind.name != "PNG":
        names = ", ".join(sorted({kind.decode("latin-1") for kind, _ in chunks}))
        notes += (f"left out what only a PNG can hold: {names}",)
        chunks = ()
    xmp = metadata.xmp and xmp_data.resized(metadata.xmp, width, height)
    return Metadata(icc, exif or None, xmp, metadata.dpi, chunks), notes
