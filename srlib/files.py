"""Read files of others within limits, check where results go, write small files whole, and hash files."""

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

from srlib.atomic import LONGEST_NAME, atomic_path, link_mistake
from srlib.errors import SrlibError, one_line


def read_regular(path: Path, *, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    A pipe, a device or a larger file is refused before anything is read, so that untrusted paths can neither block the
    process nor fill its memory.

    Args:
        path: The file. Links are followed.
        limit: Largest accepted size in bytes.

    Returns:
        The content.

    Raises:
        SrlibError: Not a regular file, or larger than `limit`.
        OSError: Missing or unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SrlibError(f"{path}: expected a regular file, got a folder, pipe or device")
        if status.st_size > limit:
            raise SrlibError(f"{path}: expected at most {limit:,} bytes, got {status.st_size:,}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)  # a larger number would be allocated
    finally:
        os.close(descriptor)


def check_output(path: Path, *, suffix: str = "", force: bool = True) -> None:
    """Raise an SrlibError if no file can be written at `path`; call it before long work whose result goes there.

    Args:
        path: File to be written; its folders may be missing.
        suffix: Ending that its name must have, such as `.png` (default: any).
        force: Whether a regular file may exist there, which will be replaced.
    """
    path = Path(path)
    # os.path instead of pathlib: no exception for a path that may not be looked at.
    if not path.name or os.path.isdir(path):
        raise SrlibError(f"{path}: is a folder; expected the name of a file to write")
    if os.path.exists(path) and not os.path.isfile(path):
        raise SrlibError(f"{path}: is a pipe or device; expected the name of a file to write")
    if mistake := link_mistake(path):
        raise SrlibError(mistake)
    if not path.name.lower().endswith(suffix):
        raise SrlibError(f"{path}: expected a name that ends in {suffix}")
    if os.path.exists(path) and not force:
        raise SrlibError(f"{path}: exists; use --force to overwrite")
    _check_place(path, path.absolute())


def check_output_folder(path: Path) -> None:
    """Raise an SrlibError if no files can be written below `path`; call it before long work whose results go there.

    Args:
        path: Folder to be written to; it may be missing, as may the folders above it.
    """
    path = Path(path)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise SrlibError(f"{path}: expected a folder, got a file, pipe, device or a link to nowhere")
    _check_place(path, path.absolute() / "file")


def _check_place(path: Path, file: Path) -> None:
    """Check that `file` could be created, by creating a temporary file in the nearest folder. Messages name `path`."""
    size = max(len(os.fsencode(part)) for part in file.parts)
    if size > LONGEST_NAME:
        raise SrlibError(f"{path}: cannot be written; a name has {size} bytes, more than {LONGEST_NAME}")
    folder = next(parent for parent in file.parents if os.path.lexists(parent))
    if not os.path.isdir(folder):
        raise SrlibError(f"{path}: cannot be written; {folder} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SrlibError(f"{path}: cannot be written; {folder}: {error.strerror or one_line(error)}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8 with plain newlines, completely or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with sorted keys: the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content (`sha256`, or `md5` where a source gives only that)."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sampled_hash(path: Path, pattern: str = "*") -> str:
    """Return a SHA-256 of the names, the sizes and 64 blocks of 4 kB of each file, quickly also for large files.

    Args:
        path: A file or a folder.
        pattern: Which files below a folder count.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob(pattern) if p.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\n".encode())
        with file.open("rb") as content:
            for block in range(min(64, -(-size // 4096))):
                content.seek(block * size // 64 if size > 64 * 4096 else block * 4096)
                digest.update(content.read(4096))
    return digest.hexdigest()


def tree_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the relative names and contents of all files below a folder."""
    path = Path(path)
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()
