"""From stored samples to RGB: palettes; CMYK and CIELab, through the color profile where there is one."""

import io

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

from srlib.arrays import Image, Pixels


def from_palette(indices: Image, colors: Image) -> Image:
    """Look colors up, as fast as Pillow does it.

    Args:
        indices: uint8 [H, W].
        colors: uint8 RGB [N, 3], N ≤ 256; an index beyond is black, as in libpng.
    """
    image = Pillow.fromarray(indices, "L")
    image.putpalette(colors.tobytes().ljust(768, b"\0"))
    return np.asarray(image.convert("RGB"))


def gray_to_rgb(gray: Pixels) -> Pixels:
    """Repeat gray [H, W, 1] as three channels, four times as fast as numpy.repeat."""
    rgb = np.empty((*gray.shape[:2], 3), gray.dtype)
    for channel in range(3):
        rgb[..., channel] = gray[..., 0]
    return rgb


def cmyk_to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    """Convert CMYK to sRGB.

    Without a usable profile, inks are taken as ideal: R = (1 - C)(1 - K), and G and B alike.

    Args:
        pixels: uint8 or uint16 [H, W, 4]; 0 is no ink.
        profile: Color profile of the file.

    Returns:
        RGB [H, W, 3], of 8 bits wherever a profile is used.
    """
    if profile:
        converted = _through(Pillow.fromarray(to_8_bits(pixels), "CMYK"), io.BytesIO(profile))
        if converted is not None:
            return converted
    if pixels.dtype == np.uint8:
        return np.asarray(Pillow.fromarray(pixels, "CMYK").convert("RGB"))
    top = np.uint32(np.iinfo(np.uint16).max)
    inks = pixels.astype(np.uint32)
    return (((top - inks[..., :3]) * (top - inks[..., 3:]) + top // 2) // top).astype(np.uint16)


def lab_to_srgb(pixels: Image) -> Image:
    """Convert CIELab as TIFF stores it, uint8 [H, W, 3] with a and b as signed bytes, to sRGB [H, W, 3]."""
    image = Pillow.frombytes("LAB", pixels.shape[1::-1], pixels.tobytes(), "raw", "LAB")
    converted = _through(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if converted is None:
        raise ValueError("CIELab could not be converted to sRGB")
    return converted


def _through(image: Pillow.Image, profile: io.BytesIO | ImageCms.ImageCmsProfile) -> Image | None:
    """Convert to sRGB through a profile; None where the profile cannot be used."""
    try:
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:
        return None
    return None if converted is None else np.asarray(converted, np.uint8)


def to_8_bits(pixels: Pixels) -> Image:
    """Round 16-bit samples to 8 bits; 8-bit samples stay."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
