"""ImageFile files of every usual kind, read for enlarging and written again with all that they tell.

In memory color is RGB [height, width, 3] and alpha [height, width], both uint8 or both uint16, upright. What the file
told besides (color profile, EXIF, XMP, dots per inch, a PNG's color and text chunks) goes along and is made to fit.
"""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from srlib.errors import SrlibError, one_line
from srlib.files import write_bytes
from srlib.imaging import exif as exif_data
from srlib.imaging.encoders import FORMATS, Chunks, Format, Metadata, png_chunks
from srlib.imaging.read import decode, opened, orientation_of, upright

QUALITY = 95
"""Of JPEG and WebP unless told otherwise."""

_KEPT_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"})
_ONE_PICTURE = frozenset({"JPEG", "MPO"})  # a phone's second picture, such as a depth map, belongs to the first


@dataclass(frozen=True)
class ImageFile:
    """A picture with what its file told.

    Attributes:
        rgb: uint8 or uint16 [height, width, 3]; of a gray picture three equal channels.
        alpha: None, or [height, width] of the same type; 0 is transparent. Color is not multiplied by it.
        gray: Whether the file holds gray.
        format: A key of `FORMATS`, or `bmp` or `gif`, which are read only.
        metadata: As read.
        notes: What a user should know, a line each.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    format: str = "png"
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()


def read_image_file(path: Path, content: bytes | None = None) -> ImageFile:
    """Reads PNG, JPEG, TIFF, WebP, BMP or GIF of 1 to 16 bits: gray, palette, RGB, CMYK or Lab, with or without alpha.

    EXIF orientation is applied. CMYK and Lab become sRGB, through the color profile where there is one. Of an
    animation or of several pages the first is taken, which `notes` tells.

    Args:
        path: The file, or the name of what `content` holds.
        content: The file's bytes, where they are at hand.

    Raises:
        SrlibError: It is missing, no picture, damaged, or has more than `srlib.imaging.read.MAX_PIXELS` pixels.
    """
    with opened(path, content) as file:
        orientation = orientation_of(file)
        name = "jpeg" if file.format in _ONE_PICTURE else str(file.format).lower()
        notes = _notes(file)
        metadata = _metadata(file, path.read_bytes() if content is None else content)
        gray = _is_gray(file)
        if file.mode in ("CMYK", "LAB"):
            pixels, metadata = _as_srgb(file, metadata)
        else:
            pixels = decode(file, path if content is None else content)
        if pixels.ndim == 2:
            key = file.info.get("transparency")
            alpha = np.where(pixels == key, 0, 65535).astype(np.uint16) if isinstance(key, int) else None
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        else:
            alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    alpha = None if alpha is None else np.ascontiguousarray(upright(alpha, orientation))
    rgb = np.ascontiguousarray(upright(pixels[..., :3], orientation))
    return ImageFile(rgb, alpha, gray, name, metadata, notes)


def write_image_file(
    picture: ImageFile, path: Path, *, format: str | None = None, quality: int = QUALITY
) -> tuple[str, ...]:
    """Writes a picture, whole or not at all, in the format that the name's ending says; see `encode_image_file`."""
    content, notes = encode_image_file(picture, format or format_of(path), quality=quality, name=str(path))
    write_bytes(path, content)
    return notes


def encode_image_file(
    picture: ImageFile, format: str, *, quality: int = QUALITY, name: str = ""
) -> tuple[bytes, tuple[str, ...]]:
    """The picture as a file's bytes, and what the format could not hold, a line each.

    Gray stays gray and 16 bits stay 16 bits where the format has them. JPEG has no alpha: the picture is laid over
    white.

    Args:
        picture: What to write; its metadata are made to fit its size.
        format: A key of `FORMATS`.
        quality: 1 to 100, of JPEG and WebP; WebP's 100 is lossless.
        name: For messages.

    Raises:
        SrlibError: The picture is too large for the format.
    """
    kind = FORMATS[format]
    height, width = picture.rgb.shape[:2]
    check_size(height, width, format, name)
    pixels, notes = _stored(picture, kind)
    try:
        content = kind.encode(pixels, _fitting(picture.metadata, width, height, format), quality)
    except (ValueError, OSError) as error:
        raise SrlibError(f"{name}: cannot be written as {kind.name} ({one_line(error)}); try --format png") from error
    return content, notes


def format_of(path: Path) -> str:
    """The key of `FORMATS` that a name's ending means.

    Raises:
        SrlibError: None of them.
    """
    for name, kind in FORMATS.items():
        if path.suffix.lower() in kind.suffixes:
            return name
    endings = ", ".join(kind.suffixes[0] for kind in FORMATS.values())
    raise SrlibError(f"{path}: expected a name that ends in {endings}; the ending says the format")


def check_size(height: int, width: int, format: str, name: str) -> None:
    """Raises an SrlibError where a format cannot hold a picture of this size, and says which can."""
    kind = FORMATS[format]
    if max(height, width) > kind.longest:
        raise SrlibError(
            f"{name}: {width}×{height} pixels are too many for {kind.name} (at most {kind.longest:,} per side); "
            "use --format png or tiff, or a smaller --scale"
        )


def _stored(picture: ImageFile, kind: Format) -> tuple[np.ndarray, tuple[str, ...]]:
    """The channels and depth that a format holds, and what it cannot."""
    rgb, alpha = picture.rgb, picture.alpha
    notes: tuple[str, ...] = ()
    if rgb.dtype == np.uint16 and not kind.deep:
        rgb, alpha = _to_8_bits(rgb), None if alpha is None else _to_8_bits(alpha)
        notes += (f"{kind.name} has 8 bits per channel: 16 were rounded",)
    if alpha is not None and not kind.alpha:
        rgb, alpha = _over_white(rgb, alpha), None
        notes += (f"{kind.name} has no transparency: laid over white",)
    if picture.gray:
        rgb = rgb[..., :1]
    return rgb if alpha is None else np.concatenate([rgb, alpha[..., None]], axis=2), notes


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    top = int(np.iinfo(rgb.dtype).max)
    weight = alpha[..., None].astype(np.uint32)
    return ((rgb * weight + top * (top - weight) + top // 2) // top).astype(rgb.dtype)


def _notes(file: Any) -> tuple[str, ...]:
    pages = 1 if file.format in _ONE_PICTURE else getattr(file, "n_frames", 1)
    kind = "pages" if file.format == "TIFF" else "frames"
    return (f"the first of {pages} {kind} is used",) if pages > 1 else ()


def _is_gray(file: Any) -> bool:
    raw = str(file.tile[0].args if file.tile else "")
    return file.mode in ("1", "L", "LA", "La", "I") or file.mode.startswith("I;16") or "LA;16" in raw


def _as_srgb(file: Any, metadata: Metadata) -> tuple[np.ndarray, Metadata]:
    """CMYK or Lab as sRGB, uint8 [h, w, 3]: through its profile; CMYK without one as inks that only darken."""
    srgb = ImageCms.createProfile("sRGB")
    try:
        profile = ImageCms.createProfile("LAB") if file.mode == "LAB" else io.BytesIO(metadata.icc or b"")
        converted = ImageCms.profileToProfile(file, profile, srgb, outputMode="RGB") if profile else None
    except ImageCms.PyCMSError:
        converted = None
    pixels = np.asarray(converted or file.convert("RGB"))
    return pixels, Metadata(None, metadata.exif, metadata.xmp, metadata.dpi)


def _metadata(file: Any, content: bytes) -> Metadata:
    exif = exif_data.from_tiff(content) if file.format == "TIFF" else file.info.get("exif")
    if exif is None and "Raw profile type exif" in file.info and (found := Image.Image.getexif(file)):
        exif = found.tobytes()
    xmp = file.info.get("xmp")
    dpi = file.info.get("dpi")
    usable = dpi and all(0 < value < 1e6 for value in dpi) and not (file.format == "TIFF" and _unitless(file))
    chunks: Chunks = ()
    if file.format == "PNG":
        chunks = tuple(c for c in png_chunks(content) if c[0] in _KEPT_CHUNKS and not _is_repeated(c[1]))
    return Metadata(
        file.info.get("icc_profile") or None,
        exif.removeprefix(b"Exif\0\0") if exif else None,
        xmp.encode() if isinstance(xmp, str) else xmp,
        (float(dpi[0]), float(dpi[1])) if usable else None,
        chunks,
    )


def _unitless(tiff: Any) -> bool:
    return bool(tiff.tag_v2.get(296, 2) == 1)


def _is_repeated(text: bytes) -> bool:
    """A text chunk that holds metadata which are kept by themselves."""
    return text.startswith((b"XML:com.adobe.xmp\0", b"Raw profile type "))


def _fitting(metadata: Metadata, width: int, height: int, format: str) -> Metadata:
    """Metadata of an upright picture of another size."""
    exif = metadata.exif and exif_data.adapted(metadata.exif, width, height)
    xmp = metadata.xmp
    for name, value in (
        (rb"tiff:Orientation", 1), (rb"(?:tiff:ImageWidth|exif:PixelXDimension)", width),
        (rb"(?:tiff:ImageLength|exif:PixelYDimension)", height),
    ):  # fmt: skip
        xmp = xmp and re.sub(rb"(" + name + rb"(?:\s*=\s*[\"']|>))\d+", rb"\g<1>%d" % value, xmp)
    chunks = metadata.chunks if format == "png" else ()
    return Metadata(metadata.icc, exif or None, xmp, metadata.dpi, chunks)
