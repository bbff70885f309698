"""Unpacking a zip archive of pictures: exactly the expected names, nothing outside the folder, no more than allowed."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from srlib.errors import SrlibError
from srlib.progress import progress

LARGEST_MEMBER = 64 << 20  # bytes of one picture; DIV2K's largest has 8.7 MB
LARGEST_TOTAL = 8 << 30  # bytes of all pictures; DIV2K's training set has 3.5 GB
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # bit of a member's flags


def unpack(archive: Path, members: Iterable[str], folder: Path) -> None:
    """Unpacks an archive that holds exactly `members` into `folder`, each under the last part of its name.

    Every member's checksum (CRC-32) is compared. Entries of folders are passed over. The caller removes `folder` when
    this fails.

    Raises:
        SrlibError: The archive is damaged or holds anything else: another name, one twice, a link, an encrypted member,
            one of another compression, or more bytes than pictures have. Sizes are checked before anything is written.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [info for info in opened.infolist() if not info.is_dir()]
            _check(archive, inside, set(members), folder)
            with progress(len(inside), f"unpacking {archive.name.split('-', 1)[-1]}", "pictures") as advance:
                for info in inside:
                    with opened.open(info) as packed, (folder / info.filename.rsplit("/", 1)[-1]).open("xb") as file:
                        shutil.copyfileobj(packed, file, 1 << 20)
                    advance()
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise SrlibError(f"{archive}: not a whole archive ({error}); delete it, and it is fetched again") from None


def _check(archive: Path, inside: list[zipfile.ZipInfo], members: set[str], folder: Path) -> None:
    if any(info.header_offset < 0 for info in inside):
        raise zipfile.BadZipFile("its beginning is missing")
    names = [info.filename for info in inside]
    odd = sorted(members ^ set(names)) or sorted({name for name in names if names.count(name) > 1})
    if odd:
        raise SrlibError(f"{archive}: expected {len(members)} pictures, each once, but these differ: {_few(odd)}")
    if links := [info.filename for info in inside if stat.S_ISLNK(info.external_attr >> 16)]:
        raise SrlibError(f"{archive}: expected pictures, but these are links: {_few(links)}")
    if packed := [info.filename for info in inside if info.flag_bits & ENCRYPTED or info.compress_type not in KINDS]:
        raise SrlibError(f"{archive}: expected plain or deflated members, but these are not: {_few(packed)}")
    # zipfile reads no more of a member than the size that it states
    if large := [info.filename for info in inside if info.file_size > LARGEST_MEMBER]:
        raise SrlibError(f"{archive}: larger than a picture may be ({LARGEST_MEMBER >> 20} MiB): {_few(large)}")
    total = sum(info.file_size for info in inside)
    if total > LARGEST_TOTAL:
        raise SrlibError(f"{archive}: its pictures have {total / 1e9:.1f} GB, at most {LARGEST_TOTAL / 1e9:.1f} may be")
    if total > (free := shutil.disk_usage(folder).free):
        raise SrlibError(f"{archive}: unpacking needs {total / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free")


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
