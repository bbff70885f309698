"""Read TIFF by its declared layout: what its samples mean, and the metadata beside them (TIFF 6.0, BigTIFF)."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.formats import exif as exif_data
from srlib.formats.header import Header, Raster, check_pixels
from srlib.formats.inks import cmyk_to_srgb, from_palette, lab_to_srgb, to_8_bits
from srlib.formats.metadata import Metadata, plausible_dpi
from srlib.formats.tiff_layout import ASSOCIATED, COLORS, UNASSOCIATED, Directory, Layout, Photometric, Tag, read_layout
from srlib.formats.tiff_samples import decode_samples

_LOST = {
    "IPTC and Photoshop data": {Tag.IPTC, Tag.PHOTOSHOP, 37724},
    "the georeference, which `srlib raster` keeps": {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113},
    "further images inside": {330},
}
"""What is not kept → its tags."""

_NAMED_TAGS = 8
_SHAPE = re.compile(rb'\{"shape": \[[\d, ]*\]\}\0*')  # all that tifffile says of most images

# Threshold, cells, free space, extreme values, halftones, positions, page numbers, extreme samples, reference black:
# how the pixels of this file are stored or printed.
_STRUCTURE = {255, 263, 264, 265, 280, 281, 286, 287, 288, 289, 290, 291, 297, 321, 336, 340, 341, 529, 531, 532}
_KEPT = {*exif_data.DESCRIPTIVE, exif_data.Tag.EXIF, exif_data.Tag.GPS}
_TAKEN = {*Tag, *_KEPT, *_STRUCTURE, *(tag for tags in _LOST.values() for tag in tags)}


def open_tiff(content: bytes) -> Header:
    """Read the first directory of a TIFF.

    Raises:
        DamagedError: The directory is wrong, or points beyond the end of the file.
        TooLargeError: Too many pixels.
        UnsupportedError: A kind of samples or compression that is not read.
    """
    directory = Directory(content)
    width, height = directory.number(Tag.WIDTH), directory.number(Tag.HEIGHT)
    check_pixels(width, height)
    layout = read_layout(content, directory, width, height)
    notes: list[str] = []
    if directory.more_pages:
        is_reduced = directory.number(Tag.SUBFILE, 0) & 1
        smaller = "; the file calls it a smaller version of another" if is_reduced else ""
        notes.append(f"only the first of several pages is used{smaller}")
    alpha, associated, ignored = _alpha_channel(layout)
    if ignored:
        notes.append("a channel whose meaning the TIFF does not declare is left out")
    metadata, lost = _metadata(content, directory)
    profile = metadata.icc
    if layout.photometric in (Photometric.CMYK, Photometric.CIELAB):
        notes.append(f"{'CMYK' if layout.photometric == Photometric.CMYK else 'CIELab'} is converted to sRGB")
        metadata = replace(metadata, icc=None)
    notes += [f"not kept: {', '.join(lost)}"] if lost else []
    orientation = directory.number(Tag.ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    decode = partial(_decode, layout, alpha, associated, profile)
    return Header("tiff", width, height, orientation, metadata, decode, tuple(notes))


def _alpha_channel(layout: Layout) -> tuple[int | None, bool, bool]:
    """Return the index of the alpha channel, whether color is multiplied by it, and whether others are left out."""
    colors = COLORS[layout.photometric]
    count = layout.samples - colors
    kinds = (*layout.extra[:count], *(0,) * count)[:count]
    if count and not layout.extra and layout.photometric == Photometric.RGB and layout.samples == 4:
        return colors, False, False  # other programs take an undeclared fourth channel of RGB for alpha
    alphas = [index for index, kind in enumerate(kinds) if kind in (ASSOCIATED, UNASSOCIATED)]
    if not alphas:
        return None, False, count > 0
    return colors + alphas[0], kinds[alphas[0]] == ASSOCIATED, count > 1


def _metadata(content: bytes, directory: Directory) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata, and the names of the parts that are not kept."""
    x, y = directory.ratio(Tag.X_RESOLUTION), directory.ratio(Tag.Y_RESOLUTION)
    unit = directory.number(Tag.RESOLUTION_UNIT, 2) if directory.data(Tag.RESOLUTION_UNIT) is None else 2
    factor = {2: 1.0, 3: 2.54}.get(unit, 0.0)
    exif = exif_data.from_tiff(content)
    lost = []
    if exif is None and any(tag in directory for tag in (exif_data.Tag.EXIF, exif_data.Tag.GPS)):
        lost.append("EXIF data of a BigTIFF" if directory.big else "unreadable EXIF data")
    description = directory.data(exif_data.Tag.IMAGE_DESCRIPTION) or b""
    if exif_data.describes_pixels(description) and not _SHAPE.fullmatch(description):
        lost.append("the description of the pixels by ImageJ, OME or tifffile")
    lost += [name for name, tags in _LOST.items() if any(tag in directory for tag in tags)]
    if others := sorted(directory.tags - _TAKEN):
        more = f" and {len(others) - _NAMED_TAGS} more" if len(others) > _NAMED_TAGS else ""
        lost.append(f"TIFF tag{'s' if len(others) > 1 else ''} {', '.join(map(str, others[:_NAMED_TAGS]))}{more}")
    icc, xmp = directory.data(Tag.ICC), directory.data(Tag.XMP)
    return Metadata(icc, exif, xmp, plausible_dpi(x * factor, y * factor)), tuple(lost)


def _decode(layout: Layout, alpha: int | None, associated: bool, profile: bytes | None) -> Raster:
    """Decode the samples and give them their meaning."""
    samples = decode_samples(layout)
    colors = COLORS[layout.photometric]
    color = samples[..., :colors]
    if layout.photometric == Photometric.PALETTE:
        color = from_palette(np.asarray(color[..., 0], np.uint8), _colors(layout))
    elif layout.photometric == Photometric.WHITE_IS_ZERO:
        color = ((1 << layout.bits) - 1) - color
    color = color if layout.photometric == Photometric.PALETTE else _full_range(color, layout.bits)
    transparency = None if alpha is None else _full_range(samples[..., alpha], layout.bits)
    if transparency is not None and associated:
        color = _unassociated(color, transparency)
    if layout.photometric == Photometric.CMYK:
        color = cmyk_to_srgb(np.ascontiguousarray(color), profile)
    elif layout.photometric == Photometric.CIELAB:
        color = lab_to_srgb(np.ascontiguousarray(color).astype(np.uint8))
    if transparency is not None and transparency.dtype != color.dtype:  # a profile or a palette gives 8 bits
        transparency = to_8_bits(transparency)
    return Raster(color, transparency)


def _full_range(values: Pixels, bits: int) -> Pixels:
    """Scale samples of 1 to 16 bits to the whole range of 8 or 16 bits, rounded."""
    if bits in (8, 16):
        return values
    levels, top = (1 << bits) - 1, 255 if bits < 8 else 65535
    scaled = (values.astype(np.uint32) * top + levels // 2) // levels
    return scaled.astype(np.uint8 if bits < 8 else np.uint16)


def _unassociated(color: Pixels, alpha: Pixels) -> Pixels:
    """Divide color by the alpha that it was multiplied with, rounded; black where it is transparent."""
    top = int(np.iinfo(color.dtype).max)
    divisor = np.maximum(alpha[..., None].astype(np.uint64), 1)
    values = (color.astype(np.uint64) * top + divisor // 2) // divisor
    values[alpha == 0] = 0
    return np.asarray(np.minimum(values, top), color.dtype)


def _colors(layout: Layout) -> npt.NDArray[np.uint8]:
    """Return the colors [N, 3] of the map of 16-bit levels: the upper bytes; some programs write 8 bits only."""
    colors = np.array(layout.color_map[: 3 * 2**layout.bits], np.uint32).reshape(3, -1).T
    shift = 8 if colors.max() > 255 else 0
    return (colors >> shift).astype(np.uint8)
