"""Open image files of every format by their first bytes; every error becomes one line that names the file."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image as Pillow

from srlib.errors import SrlibError, one_line
from srlib.files import read_regular
from srlib.formats.header import Header, TooLargeError, UnsupportedError
from srlib.formats.jpeg import open_jpeg
from srlib.formats.png import SIGNATURE, open_png
from srlib.formats.simple import open_simple
from srlib.formats.suffixes import OTHER_SUFFIXES, READABLE
from srlib.formats.tiff import open_tiff

LARGEST_FILE = 2**32
"""Largest size of a file that is read, in bytes."""

# Sizes are checked here before anything is decoded; Pillow would count the bytes of deep samples as pixels.
Pillow.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")  # warnings would break the progress line; real faults raise

_OPENERS: tuple[tuple[bytes, Callable[[bytes], Header]], ...] = (
    (SIGNATURE, open_png),
    (b"\xff\xd8\xff", open_jpeg),
    (b"II*\0", open_tiff),
    (b"MM\0*", open_tiff),
    (b"II+\0", open_tiff),
    (b"MM\0+", open_tiff),
    (b"GIF8", partial(open_simple, format="gif")),
    (b"BM", partial(open_simple, format="bmp")),
    (b"RIFF", partial(open_simple, format="webp")),
)
# Formats that are recognized only to name them in an error: offset, bytes at that offset, name.
_FOREIGN = (
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xffO\xffQ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"%PDF", "PDF"),
    (0, b"v/1\x01", "OpenEXR"),
)


@contextlib.contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[Header]:
    """Open an image; every error inside the block becomes one line that names the file.

    Args:
        path: The file, or the name of what `content` holds.
        content: The file's bytes, if they have been read already.

    Yields:
        The head of the file. Decode the pixels inside the block.

    Raises:
        SrlibError: The file is missing, not a regular file, not an image, not supported, damaged, or too large.
    """
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise SrlibError(f"{path}: this image format is not supported; convert it to {READABLE}")
    try:
        yield _open(read_regular(path, limit=LARGEST_FILE) if content is None else content)
    except (SrlibError, MemoryError, ImportError):
        raise
    except FileNotFoundError as error:
        raise SrlibError(f"{path}: no such file") from error
    except UnsupportedError as error:
        raise SrlibError(f"{path}: {error} is not supported; convert it to 8 or 16 bits of gray or RGB") from error
    except TooLargeError as error:
        raise SrlibError(f"{path}: refused, {error}; cut it into smaller images") from error
    except PermissionError as error:
        raise SrlibError(f"{path}: cannot be opened ({one_line(error.strerror or error)})") from error
    except _NotAnImageError as error:
        raise SrlibError(f"{path}: not an image; expected {READABLE}") from error
    except Exception as error:  # whatever a decoder raises on damaged content
        reason = one_line(error)
        raise SrlibError(f"{path}: truncated or damaged ({reason}); copy it again from its source") from error


class _NotAnImageError(Exception):
    """The first bytes are those of no format that is known here."""


def _open(content: bytes) -> Header:
    for place, mark, name in _FOREIGN:
        if content[place : place + len(mark)] == mark:
            raise UnsupportedError(name)
    for mark, opener in _OPENERS:
        if content.startswith(mark):
            return opener(content)
    raise _NotAnImageError
