"""Unpack zip and tar archives of images safely: only wanted names, nothing outside the folder, limited sizes.

An archive's names are read and checked before anything is written. If writing fails, the caller removes the folder.
"""

import bz2
import contextlib
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from srlib.data.patterns import match
from srlib.errors import SrlibError, one_line
from srlib.progress import progress

LARGEST_MEMBER = 64 << 20  # bytes of one image; the largest of DIV2K has 8.7 MB
LARGEST_TOTAL = 8 << 30  # bytes of all images of a published archive; the training set of DIV2K has 3.5 GB
LARGEST_OWN_MEMBER = 1 << 30  # bytes of one image of any other archive
LARGEST_OWN_TOTAL = 1 << 40  # bytes of all images of any other archive
MOST_MEMBERS = 5_000_000  # names of any archive
MOST_FOLDERS = 100  # folders inside each other
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1  # bit of a member's flags
_COMPRESSED: dict[bytes, type[gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
# What zipfile, tarfile and the decompressors raise for damaged or unsupported archives.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        name: Its name there.
        size: Unpacked size in bytes.
        is_link: Whether it is a link or a device instead of a file.
        is_unsupported: Whether it is encrypted, sparse, or compressed in another way than zip's usual one.
        entry: Its entry, as the library describes it.
    """

    name: str
    size: int
    is_link: bool
    is_unsupported: bool
    entry: zipfile.ZipInfo | tarfile.TarInfo


Open = Callable[[Member], IO[bytes]]


def unpack(archive: Path, members: Iterable[str], folder: Path) -> None:
    """Unpack an archive that contains exactly `members` into `folder`, each under the last part of its name.

    The CRC-32 of every member of a zip file is verified. Folder entries are ignored.

    Args:
        archive: The zip or tar file.
        members: Expected names in the archive.
        folder: Folder to create.

    Raises:
        SrlibError: The archive is damaged, or contains an unexpected or duplicate name, a link, an encrypted member,
            an unsupported compression, or too many bytes. Sizes are checked before anything is written.
    """
    folder.mkdir(parents=True)
    with _opened(archive) as (inside, opened):
        names = [member.name for member in inside]
        expected = set(members)
        if odd := sorted(expected ^ set(names)) or _duplicates(names):
            raise SrlibError(
                f"{archive}: expected {len(expected)} images, each once; missing, duplicate or unexpected: {_few(odd)}"
            )
        _check(archive, inside, folder, LARGEST_MEMBER, LARGEST_TOTAL)
        _write(archive, opened, [(member, folder / member.name.rsplit("/", 1)[-1]) for member in inside])


def unpack_matching(archive: Path, patterns: Mapping[str, str], folder: Path, *, flat: bool = False) -> None:
    """Unpack the images of any archive whose names match a pattern, as `srlib.data.patterns.match` chooses them.

    Args:
        archive: The zip or tar file, the latter plain or compressed by gzip, bzip2 or xz.
        patterns: Folder below `folder` → pattern of the images that go there.
        folder: Folder to write to.
        flat: Keep only the last part of each name.

    Raises:
        SrlibError: As `unpack`; or a pattern matches no image or a name that leads out of the folder, or an image has
            two places, or a file is already there.
    """
    with _opened(archive) as (inside, opened):
        by_name = {member.name: member for member in inside}
        places = _places(archive, inside, patterns, flat)
        chosen = [(by_name[name], folder / target) for name, target in places.items()]
        _check(archive, [member for member, _ in chosen], folder, LARGEST_OWN_MEMBER, LARGEST_OWN_TOTAL)
        _write(archive, opened, chosen)


def check_archive(archive: Path, patterns: Mapping[str, str], *, flat: bool = False) -> None:
    """Check that every pattern matches images of an archive, without unpacking it.

    Raises:
        SrlibError: As `unpack_matching`, for what the names show.
    """
    with _opened(archive) as (inside, _):
        _places(archive, inside, patterns, flat)


def _places(archive: Path, members: list[Member], patterns: Mapping[str, str], flat: bool) -> dict[str, str]:
    """Return the names that match a pattern, with their paths, none of them below too many folders."""
    places = match(str(archive), [member.name for member in members], patterns, flat=flat)
    if deep := [name for name, path in places.items() if path.count("/") > MOST_FOLDERS]:
        raise SrlibError(
            f"{archive}: expected at most {MOST_FOLDERS} folders inside each other, got more: {one_line(deep[0], 60)}"
        )
    return places


def _check(archive: Path, members: list[Member], folder: Path, largest_member: int, largest_total: int) -> None:
    """Check what is to be unpacked into `folder`: kinds of files, sizes, free disk space.

    Raises:
        SrlibError: One of them is not allowed.
    """
    if links := [member.name for member in members if member.is_link]:
        raise SrlibError(f"{archive}: expected images, got links: {_few(links)}")
    if packed := [member.name for member in members if member.is_unsupported]:
        raise SrlibError(f"{archive}: expected stored or deflated members, got others: {_few(packed)}")
    # Neither library reads more of a member than its stated size.
    if large := [member.name for member in members if member.size > largest_member]:
        raise SrlibError(f"{archive}: images larger than the limit of {largest_member >> 20} MiB: {_few(large)}")
    total = sum(member.size for member in members)
    if total > largest_total:
        raise SrlibError(
            f"{archive}: its images have {total / 1e9:.1f} GB, more than the limit of {largest_total / 1e9:.1f} GB"
        )
    if total > (free := shutil.disk_usage(folder).free):
        raise SrlibError(f"{archive}: unpacking needs {total / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free")


def _write(archive: Path, opened: Open, places: list[tuple[Member, Path]]) -> None:
    """Write members to their places, which must not exist."""
    with progress(len(places), f"unpacking {archive.name.split('-', 1)[-1]}", "images") as advance:
        for member, path in places:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("xb")
            except FileExistsError:
                raise SrlibError(
                    f"{archive}: {member.name} would replace another image of the same name; give the archives "
                    "different names of sets"
                ) from None
            with file, opened(member) as packed:
                while block := packed.read(1 << 20):
                    file.write(block)
            advance()


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[Member], Open]]:
    """Yield the files of an archive and a function that opens one; turn damage into one line."""
    try:
        with archive.open("rb") as file:
            head = file.read(512)
        decompress = next((make for magic, make in _COMPRESSED.items() if head.startswith(magic)), None)
        if decompress is None and head[257:262] != b"ustar":
            with zipfile.ZipFile(archive) as package:
                yield _zip_members(package), lambda member: package.open(cast(zipfile.ZipInfo, member.entry))
            return
        with decompress(archive) if decompress else archive.open("rb") as stream:
            limited = cast(BinaryIO, _LimitedReads(cast(IO[bytes], stream)))
            with tarfile.open(fileobj=limited, mode="r:") as tape:
                yield _tar_members(archive, tape), lambda member: _extracted(tape, member)
    except OSError as error:
        if error.errno is not None:  # a failing disk, not a damaged archive
            raise
        raise _damaged(archive, error) from None
    except _DAMAGED as error:
        raise _damaged(archive, error) from None


def _damaged(archive: Path, error: Exception) -> SrlibError:
    return SrlibError(
        f"{archive}: damaged or unsupported archive ({one_line(error)}); expected zip, tar, tar.gz, tar.bz2 or tar.xz; "
        "if srlib has fetched it, delete it to fetch it again"
    )


class _LimitedReads:
    """A stream that refuses to read more than an image at once, as a tar header of a damaged archive may ask for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        if size > LARGEST_OWN_MEMBER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _zip_members(package: zipfile.ZipFile) -> list[Member]:
    inside = [info for info in package.infolist() if not info.is_dir()]
    if any(info.header_offset < 0 for info in inside):
        raise zipfile.BadZipFile("the beginning is missing")
    return [
        Member(
            info.filename,
            info.file_size,
            is_link=stat.S_ISLNK(info.external_attr >> 16),
            is_unsupported=bool(info.flag_bits & ENCRYPTED) or info.compress_type not in KINDS,
            entry=info,
        )
        for info in inside
    ]


def _tar_members(archive: Path, package: tarfile.TarFile) -> list[Member]:
    """List the files of a tar archive; the sizes count while they are read, since a compressed one may never end."""
    members: list[Member] = []
    total = 0
    for info in package:
        total += info.size
        if total > LARGEST_OWN_TOTAL or len(members) >= MOST_MEMBERS:
            raise SrlibError(
                f"{archive}: expected at most {LARGEST_OWN_TOTAL / 1e9:.0f} GB and {MOST_MEMBERS:,} files, got more"
            )
        if not info.isdir():
            members.append(Member(info.name, info.size, not info.isreg(), info.issparse(), info))
    return members


def _extracted(package: tarfile.TarFile, member: Member) -> IO[bytes]:
    file = package.extractfile(cast(tarfile.TarInfo, member.entry))
    assert file is not None, "links and folders are refused before"
    return file


def _duplicates(names: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
