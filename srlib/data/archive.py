"""Unpack a zip archive of images safely: exactly the expected names, nothing outside the folder, limited sizes."""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from srlib.errors import SrlibError
from srlib.progress import progress

LARGEST_MEMBER = 64 << 20  # bytes of one image; the largest of DIV2K has 8.7 MB
LARGEST_TOTAL = 8 << 30  # bytes of all images; the training set of DIV2K has 3.5 GB
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # bit of a member's flags
# What zipfile raises for damaged or unsupported archives.
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)


def unpack(archive: Path, members: Iterable[str], folder: Path) -> None:
    """Unpack an archive that contains exactly `members` into `folder`, each under the last part of its name.

    The CRC-32 of every member is verified. Folder entries are ignored. If this fails, the caller removes `folder`.

    Args:
        archive: The zip file.
        members: Expected names in the archive.
        folder: Folder to create.

    Raises:
        SrlibError: The archive is damaged, or contains an unexpected or duplicate name, a link, an encrypted member,
            an unsupported compression, or too many bytes. Sizes are checked before anything is written.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [info for info in opened.infolist() if not info.is_dir()]
            _check(archive, inside, set(members), folder)
            with progress(len(inside), f"unpacking {archive.name.split('-', 1)[-1]}", "images") as advance:
                for info in inside:
                    with opened.open(info) as packed, (folder / info.filename.rsplit("/", 1)[-1]).open("xb") as file:
                        shutil.copyfileobj(packed, file, 1 << 20)
                    advance()
    except _DAMAGED as error:
        raise SrlibError(f"{archive}: damaged or unsupported archive ({error}); delete it to fetch it again") from None


def _check(archive: Path, inside: list[zipfile.ZipInfo], members: set[str], folder: Path) -> None:
    if any(info.header_offset < 0 for info in inside):
        raise zipfile.BadZipFile("the beginning is missing")
    names = [info.filename for info in inside]
    odd = sorted(members ^ set(names)) or sorted({name for name in names if names.count(name) > 1})
    if odd:
        raise SrlibError(
            f"{archive}: expected {len(members)} images, each once; missing, duplicate or unexpected: {_few(odd)}"
        )
    if links := [info.filename for info in inside if stat.S_ISLNK(info.external_attr >> 16)]:
        raise SrlibError(f"{archive}: expected images, got links: {_few(links)}")
    if packed := [info.filename for info in inside if info.flag_bits & ENCRYPTED or info.compress_type not in KINDS]:
        raise SrlibError(f"{archive}: expected stored or deflated members, got others: {_few(packed)}")
    # zipfile never reads more of a member than its stated size.
    if large := [info.filename for info in inside if info.file_size > LARGEST_MEMBER]:
        raise SrlibError(f"{archive}: images larger than the limit of {LARGEST_MEMBER >> 20} MiB: {_few(large)}")
    total = sum(info.file_size for info in inside)
    if total > LARGEST_TOTAL:
        raise SrlibError(
            f"{archive}: its images have {total / 1e9:.1f} GB, more than the limit of {LARGEST_TOTAL / 1e9:.1f} GB"
        )
    if total > (free := shutil.disk_usage(folder).free):
        raise SrlibError(f"{archive}: unpacking needs {total / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free")


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
