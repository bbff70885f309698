"""Write a file or a folder so that a reader never sees a partial one, whatever ends the process."""

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from srlib.errors import SrlibError

LONGEST_NAME = 255
"""Bytes of a file name that usual file systems allow."""

_TEMPORARY = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,9})-(?P<process>[0-9a-f]{8})-\d+(?P<old>\.old)?\.tmp")
"""How the name of a temporary file or folder ends."""

_LONGEST_ENDING = len(f".{'0' * 8}-{10**8}-{'0' * 8}-{10**9}.old.tmp")

_ABANDONED = 7 * 24 * 3600
"""Seconds without a change after which what a process of another host has begun is removed."""

_PROCESS = os.urandom(4).hex()
"""Tells this process from an earlier one with the same number, which in containers is usually 1."""

_NUMBERS = itertools.count()
"""Numbers of this process's temporary files, so that no two threads share one."""

_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Errors of renaming a folder onto a path where something else than an empty folder exists."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` on success, remove it on any failure.

    The block writes a file or creates a folder at the temporary path. The bytes are on disk before the rename. A folder
    replaces an existing one, which is moved aside for the moment of the rename. Threads, processes and hosts may write
    the same path at the same time; the last one wins. What a killed process left behind is removed by the next call on
    its host, which also puts back a folder that was only moved aside, or a week later by any other.

    Args:
        path: The file or folder to write; the folders above it are created.

    Yields:
        The temporary path.

    Raises:
        SrlibError: The path has no name, such as `/`, or is a pipe, a device or a link to nowhere.
        OSError: That of the block or of the rename, with `path` in place of the temporary path.
    """
    path = Path(path)
    if not path.name:
        raise SrlibError(f"{path}: expected the name of a file or folder to write")
    if _is_irregular(path):
        raise SrlibError(f"{path}: is a pipe or device, which a file would replace; name another file")
    if mistake := link_mistake(path):
        raise SrlibError(mistake)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = _temporary_stem(path.name)
    _clear_leftovers(path, stem)
    temporary = path.with_name(f"{stem}.{_host()}-{os.getpid()}-{_PROCESS}-{next(_NUMBERS)}.tmp")
    try:
        yield temporary
        if temporary.is_dir():
            _sync_tree(temporary)
            _replace_folder(temporary, path)
        else:
            _sync_file(temporary)
            temporary.replace(path)
    except OSError as error:
        if error.errno is None or (name := _name_for_users(error.filename, temporary, path)) == error.filename:
            raise
        raise OSError(error.errno, error.strerror, name) from error  # PyAV's errors have no setter
    finally:
        remove(temporary)


def _name_for_users(name: object, temporary: Path, path: Path) -> object:
    """Return the file name of an error with `path` where it has none, or in place of the temporary path."""
    if name is None:  # `write` on a full disk
        return str(path)
    if isinstance(name, str) and temporary.name in name:
        return f"{path}{name.partition(temporary.name)[2]}"
    return name


def link_mistake(path: Path) -> str | None:
    """Return the line for an output that is a link to nowhere, which a file would replace; None for any other path."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    return f"{path}: is a link to {os.readlink(path)}, which does not exist; remove the link, or name another file"


def _is_irregular(path: Path) -> bool:
    """Return whether a path is something else than a file or a folder; one look, since another process may write it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _temporary_stem(name: str) -> str:
    """Return a hidden name derived from `name` that leaves space for the ending of a temporary file."""
    stem = f".{name}"
    if len(os.fsencode(stem)) > LONGEST_NAME - _LONGEST_ENDING:
        return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}"
    return stem


@functools.cache
def _host() -> str:
    """Return a short name of this host; a container with process numbers of its own counts as another one."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbers = ""
    return hashlib.sha256(os.fsencode(f"{os.uname().nodename} {numbers}")).hexdigest()[:8]


def _clear_leftovers(path: Path, stem: str) -> None:
    """Remove what dead processes of this host left beside `path`; put back a folder that they had moved aside."""
    try:
        names = os.listdir(path.parent)
    except PermissionError:  # files can be created in it all the same
        return
    for name in names:
        match = _TEMPORARY.fullmatch(name, len(stem)) if name.startswith(stem) else None
        if match is None:
            continue
        with contextlib.suppress(OSError):  # another process does the same, or it is another user's
            if not _is_left_by_the_dead(match, path.with_name(name)):
                continue
            if match["old"]:
                _put_back(path.with_name(name), path)
            else:
                remove(path.with_name(name))


def _is_left_by_the_dead(name: re.Match[str], path: Path) -> bool:
    """Return whether a temporary name is that of a process of this host that has exited, or long abandoned.

    Processes of another host cannot be seen, and a container that was killed never comes back under its name.
    """
    pid = int(name["pid"])
    if name["host"] != _host():
        return not name["old"] and time.time() - _last_change(path) > _ABANDONED
    if pid == os.getpid():
        return name["process"] != _PROCESS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _last_change(path: Path) -> float:
    """Return when a file, or a folder or something directly in it, was changed last."""
    parts = [path, *path.iterdir()] if path.is_dir() and not path.is_symlink() else [path]
    return max(part.lstat().st_mtime for part in parts)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Rename a folder onto `path`. What exists there is moved aside first and deleted last: a kill loses neither."""
    aside = temporary.with_suffix(".old.tmp")
    try:
        while True:
            try:
                temporary.replace(path)
                break
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
            remove(aside)  # another process was faster in the turn before
            with contextlib.suppress(FileNotFoundError):  # another process has moved it aside
                path.replace(aside)
    except BaseException:
        with contextlib.suppress(OSError):  # nothing was moved aside, or another process has written the path
            _put_back(aside, path)
        raise
    _sync_folder(path.parent)
    remove(aside)


def _put_back(aside: Path, path: Path) -> None:
    """Undo moving a folder aside; remove it instead where `path` exists again."""
    if os.path.lexists(path):
        remove(aside)
    else:
        aside.replace(path)


def _sync_tree(folder: Path) -> None:
    """Wait until all files and folders below a folder are on disk."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_dir():
            _sync_folder(path)
        elif path.is_file():
            _sync_file(path)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk, where the file system can say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
