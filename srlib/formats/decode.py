"""Open image files of every format by their first bytes; every error becomes one line that names the file."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from srlib.errors import SrlibError, one_line, printable
from srlib.files import read_regular
from srlib.formats.header import DamagedError, Header, TooLargeError, UnsupportedError
from srlib.formats.jpeg import open_jpeg
from srlib.formats.png import SIGNATURE, open_png
from srlib.formats.simple import open_simple
from srlib.formats.suffixes import OTHER_SUFFIXES, READABLE, suffix_of
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
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftypcrx ", "Canon CR3"),
    (4, b"ftyp", "a film"),
    (0, b"\x1aE\xdf\xa3", "a film"),
    (8, b"AVI ", "a film"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xffO\xffQ", "JPEG 2000"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"%PDF", "PDF"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "DDS"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"<svg", "SVG"),
    *((0, b"P%d%c" % (kind, space), "PNM (PBM, PGM, PPM)") for kind in range(1, 8) for space in b" \t\r\n"),
)
# What stands in for an image where a download or a checkout failed: first bytes, what to say.
_INSTEAD = (
    (b"version https://git-lfs.github.com", "a pointer of Git LFS instead of the image; run `git lfs pull`"),
    (b"<!doctype html", "a web page instead of an image"),
    (b"<html", "a web page instead of an image"),
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
    name = printable(path)
    if suffix_of(path) in OTHER_SUFFIXES:
        raise SrlibError(f"{name}: this image format is not supported; convert it to {READABLE}")
    try:
        yield _open(read_regular(path, limit=LARGEST_FILE) if content is None else content)
    except (SrlibError, MemoryError, ImportError):
        raise
    except FileNotFoundError as error:
        raise SrlibError(f"{name}: no such file") from error
    except UnsupportedError as error:
        raise SrlibError(f"{name}: {error} is not supported; convert it to 8 or 16 bits of gray or RGB") from error
    except _ForeignError as error:
        raise SrlibError(f"{name}: {error} is not supported; convert it to {READABLE}") from error
    except TooLargeError as error:
        raise SrlibError(f"{name}: refused, {error}; cut it into smaller images") from error
    except PermissionError as error:
        raise SrlibError(f"{name}: cannot be opened ({one_line(error.strerror or error)})") from error
    except _NotAnImageError as error:
        raise SrlibError(f"{name}: not an image; expected {READABLE}") from error
    except UnidentifiedImageError as error:  # its message is an address in memory
        raise SrlibError(f"{name}: truncated or damaged (its head is wrong); copy it again from its source") from error
    except Exception as error:  # whatever a decoder raises on damaged content
        reason = one_line(error)
        raise SrlibError(f"{name}: truncated or damaged ({reason}); copy it again from its source") from error


def begins_as_image(path: Path) -> bool:
    """Return whether a file begins as an image that can be read does, whatever its name is."""
    if not path.is_file():  # opening a pipe would block
        return False
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    if head.startswith(b"RIFF"):
        return head[8:] == b"WEBP"
    return head[:2] != b"BM" and any(head.startswith(mark) for mark, _ in _OPENERS)  # texts begin with BM, too


class _ForeignError(Exception):
    """The file is of another format; the message names it."""


class _NotAnImageError(Exception):
    """The first bytes are those of no format that is known here."""


def _open(content: bytes) -> Header:
    for place, mark, name in _FOREIGN:
        if content[place : place + len(mark)] == mark:
            raise _ForeignError(name)
    for mark, what in _INSTEAD:
        if content[: len(mark)].lower() == mark:
            raise DamagedError(what)
    if not content:
        raise DamagedError("no bytes")
    for mark, opener in _OPENERS:
        if content.startswith(mark):
            return opener(content)
    raise _NotAnImageError
