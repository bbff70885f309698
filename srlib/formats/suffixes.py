"""Endings of the names of image and film files."""

import os
from pathlib import Path

READABLE = "PNG, JPEG, TIFF, WebP, BMP or GIF"
READ_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
OTHER_SUFFIXES = frozenset(
    {
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jxr", ".psd", ".xcf"),
        *(".svg", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".qoi", ".tga", ".exr"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    }
)
"""Formats that srlib does not read. They are listed nevertheless, so that an error can name them."""

FILM_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})
"""Films that are read and written; see `srlib.films.containers`."""


def suffix_of(name: str | Path) -> str:
    """Return the ending of a name in lower case; a space behind it, which is hard to see, does not count.

    Example:
        >>> suffix_of("a.JPG ")
        '.jpg'
    """
    return os.path.splitext(os.fspath(name).rstrip())[1].lower()
