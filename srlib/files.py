"""Write files so that a reader never sees a partial one, and hash them."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from srlib.errors import SrlibError, one_line

_LONGEST_NAME = 255
"""Bytes of a file name that usual file systems allow."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` on success, remove it on any failure.

    The block writes a file or creates a folder at the temporary path. The bytes are on disk before the rename. A folder
    replaces an existing one. What a killed process left behind is removed by the next call.

    Args:
        path: The file or folder to write; the folders above it are created.

    Yields:
        The temporary path.

    Raises:
        SrlibError: The path has no name, such as `/`, or is a pipe, a device or a link to nowhere.
    """
    path = Path(path)
    if not path.name:
        raise SrlibError(f"{path}: expected the name of a file or folder to write")
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise SrlibError(f"{path}: is a pipe or device, which a file would replace; name another file")
    if mistake := link_mistake(path):
        raise SrlibError(mistake)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = _temporary_stem(path.name)
    for stale in path.parent.glob(f"{glob.escape(stem)}.*.tmp"):
        if not _is_alive(stale.name.split(".")[-2]):
            remove(stale)
    temporary = path.with_name(f"{stem}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)
        else:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # `write` on a full disk does not name the file
            error.filename = str(path)
        raise
    finally:
        remove(temporary)


def _temporary_stem(name: str) -> str:
    """Return a hidden name derived from `name` that leaves space for a process number and `.tmp`."""
    stem = f".{name}"
    if len(os.fsencode(stem)) > _LONGEST_NAME - len(f".{2**32}.tmp"):
        return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}"
    return stem


def _is_alive(process: str) -> bool:
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def check_output(path: Path) -> None:
    """Raise an SrlibError if no file can be written at `path`; call it before long work whose result goes there.

    Args:
        path: File to be written; a regular file may exist there, and its folders may be missing.
    """
    path = Path(path)
    # os.path instead of pathlib: no exception for a path that may not be looked at.
    if not path.name or os.path.isdir(path):
        raise SrlibError(f"{path}: is a folder; expected the name of a file to write")
    if os.path.exists(path) and not os.path.isfile(path):
        raise SrlibError(f"{path}: is a pipe or device; expected the name of a file to write")
    if mistake := link_mistake(path):
        raise SrlibError(mistake)
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


def link_mistake(path: Path) -> str | None:
    """Return the line for an output that is a link to nowhere, which a file would replace; None for any other path."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    return f"{path}: is a link to {os.readlink(path)}, which does not exist; remove the link, or name another file"


def _check_place(path: Path, file: Path) -> None:
    """Check that `file` could be created, by creating a temporary file in the nearest folder. Messages name `path`."""
    size = max(len(os.fsencode(part)) for part in file.parts)
    if size > _LONGEST_NAME:
        raise SrlibError(f"{path}: cannot be written; a name has {size} bytes, more than {_LONGEST_NAME}")
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
