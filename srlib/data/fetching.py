"""Fetch files from the network into a store and verify the checksum of every file.

Finished and partial files are kept in the store under their checksums. DVC does not clear the store, so no file is
fetched twice and an interrupted transfer continues where it stopped. A mirror (a folder or an address) can replace the
network; its files are verified in the same way.
"""

import contextlib
import os
import queue
import random
import shutil
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from srlib.atomic import remove
from srlib.data.sources import Source
from srlib.data.transfer import CHUNK, Moved, RefusedError, UnfinishedError, offered_size, transfer
from srlib.errors import SrlibError, one_line
from srlib.files import file_hash
from srlib.progress import progress

PARALLEL = 4  # files fetched at once
PATIENCE = (0.5, 1, 2, 4, 8, 16)  # largest pause before each retry in seconds; the smallest is half of it
ADVANCE = 1 << 20  # a retry that gains this many bytes resets the sequence of pauses
REFETCHES = 3  # complete files with a wrong checksum before giving up
GRACE = 0.5  # seconds that other transfers get to stop; one that waits for the network is abandoned
POLL = 0.1  # seconds between attempts to take another process's lock
LOCKS = ".locks"  # folder of lock files in the store


def fetch(
    sources: Iterable[Source], store: Path, mirror: str | None = None, out: Path | None = None
) -> dict[Source, Path]:
    """Fetch files into the store, several at once, and return the path of each.

    Args:
        sources: Files from the network.
        store: Folder of finished and partial downloads.
        mirror: Folder or base address to fetch from instead.
        out: Folder that the files will be copied or unpacked to; its disk space is checked too.

    Raises:
        SrlibError: A file is unavailable. The other transfers stop; partial files remain for the next run.
    """
    paths = {source: source.stored(store) for source in sources}
    missing = [source for source, path in paths.items() if not _is_complete(path, source)]
    if missing and mirror is not None:
        _check_mirror(mirror)
    places = {_sized(source, mirror): paths[source] for source in missing}
    whole = sum(source.size or 0 for source in places) + sum(_size(paths[s]) for s in paths if s not in missing)
    _need_space(places, whole, store, out)
    # Small files of unknown size come first.
    for sized in (False, True):
        if part := {source: path for source, path in places.items() if bool(source.size) is sized}:
            _fetch_all(part, mirror, sized)
    return paths


def _sized(source: Source, mirror: str | None) -> Source:
    """Return a source with the size that its server or the mirror's folder states, where it may be large."""
    if source.size is not None or source.limit is None:
        return source
    address = _address(source, mirror)
    if not _is_address(address):
        path = Path(address)
        return replace(source, size=path.stat().st_size) if path.is_file() else source
    size = offered_size(address)
    return replace(source, size=size) if size is not None and size <= source.limit else source


def _fetch_all(missing: dict[Source, Path], mirror: str | None, sized: bool) -> None:
    """Fetch files in threads; their sizes are all known or all unknown. The first error stops all of them."""
    at = {source: min(_size(_partial(path)), source.size or 0) for source, path in missing.items()}
    total = sum(source.size or 0 for source in missing) if sized else len(missing)
    label = f"download from {mirror or urlsplit(next(iter(missing)).address).hostname}"
    stop = threading.Event()
    todo: queue.SimpleQueue[Source] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for source in missing:
        todo.put(source)

    with progress(total, label, "B" if sized else "files", start=sum(at.values())) as advance:

        def one(source: Source) -> None:
            def moved(position: int) -> None:
                if sized and not stop.is_set():
                    advance(position - at[source])
                    at[source] = position

            _fetch_one(source, missing[source], mirror, moved, stop)
            moved(source.size or 0)
            if not sized:
                advance(1)

        def work() -> None:
            while not stop.is_set():
                try:
                    source = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    one(source)
                except BaseException as error:  # raised again below, in the waiting thread
                    stop.set()
                    ended.put(error)
                else:
                    ended.put(None)

        # Daemon threads, so that Ctrl-C does not wait for a stalled server.
        workers = [threading.Thread(target=work, daemon=True) for _ in range(min(PARALLEL, len(missing)))]
        for worker in workers:
            worker.start()
        try:
            for _ in missing:
                if error := ended.get():
                    raise error
        finally:
            stop.set()
            for worker in workers:
                worker.join(GRACE)


def _fetch_one(source: Source, path: Path, mirror: str | None, moved: Moved, stop: threading.Event) -> None:
    """Fetch one file into the store; wait if another process is fetching it."""
    partial = _partial(path)
    with _locked(partial, stop), partial.open("ab") as file, _named(file.name):
        if _is_complete(path, source):  # another process has fetched it
            remove(partial)
            return
        if mirror is not None and not _is_address(mirror):
            _copy(source, file, mirror, moved, stop)
        else:
            _transfer(source, file, partial, mirror, moved, stop)
        os.fsync(file.fileno())
        remove(_note(partial))
        partial.replace(path)


def _transfer(
    source: Source, file: BinaryIO, partial: Path, mirror: str | None, moved: Moved, stop: threading.Event
) -> None:
    """Transfer until the checksum is right, with growing pauses after interruptions."""
    tries = wrong = furthest = 0
    ended = whole = False
    while not _is_complete(partial, source):
        if ended:
            wrong += 1
            # A checksum that a user wrote is wrong more often than a complete transfer.
            if wrong == REFETCHES or (whole and source.limit is not None):
                got = file_hash(partial, source.algorithm)
                file.truncate(0)
                often = f" {wrong} times" if wrong > 1 else ""
                reason = f"wrong {source.algorithm}{often}, expected {source.digest}, got {got}"
                raise _failure(source, mirror, reason)
            file.truncate(0)
            moved(0)
        try:
            whole = _size(partial) == 0
            address = _address(source, mirror)
            transfer(address, file, _note(partial), size=source.size, limit=source.limit, moved=moved, stop=stop)
            ended = True
        except RefusedError as error:
            raise _failure(source, mirror, str(error)) from None
        except UnfinishedError as error:
            ended = False
            if _size(partial) >= furthest + ADVANCE:
                furthest, tries = _size(partial), 0
            if tries == len(PATIENCE):
                raise _failure(source, mirror, str(error)) from None
            # Random, so that clients cut off together do not return together.
            pause = max(PATIENCE[tries] * random.uniform(0.5, 1), error.after)
            if not stop.is_set():
                print(f"{source.name}: {one_line(error)}; retrying in {pause:.2g} s", file=sys.stderr)
            if stop.wait(pause):
                raise _failure(source, mirror, str(error)) from None
            tries += 1


def _copy(source: Source, file: BinaryIO, mirror: str, moved: Moved, stop: threading.Event) -> None:
    """Copy a file from a mirror folder."""
    original = Path(_address(source, mirror))
    if not original.is_file():
        raise _failure(source, mirror, "no such file in the mirror")
    file.truncate(0)
    if source.size not in (None, size := original.stat().st_size):
        raise _failure(source, mirror, f"the mirror's file has {size} bytes instead of {source.size}")
    with original.open("rb") as opened:
        while block := opened.read(CHUNK):
            if stop.is_set():
                raise _failure(source, mirror, "stopped")
            file.write(block)
            file.flush()
            moved(_size(Path(file.name)))
    if (got := file_hash(Path(file.name), source.algorithm)) != source.digest:
        file.truncate(0)
        raise _failure(source, mirror, f"the mirror's file has the {source.algorithm} {got} instead of {source.digest}")


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Add the file name to an OSError: `write` on a full disk does not name it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None


@contextlib.contextmanager
def _locked(partial: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of a partial file; remove the file at the end if it is empty.

    The lock is released by the operating system when its process dies.
    """
    if _is_irregular(partial):
        raise SrlibError(f"{partial}: expected a regular file; delete it and run the stage again")
    locks = partial.parent / LOCKS
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / partial.name)
    while True:
        try:
            lock.acquire(timeout=POLL, poll_interval=POLL / 2)
            break
        except Timeout:
            if stop.is_set():
                raise SrlibError(f"{partial}: stopped while another process fetches it") from None
    try:
        yield
    finally:
        if partial.exists() and _size(partial) == 0:
            remove(_note(partial))
            remove(partial)
        lock.release()


def _is_complete(path: Path, source: Source) -> bool:
    if not path.is_file() or source.size not in (None, _size(path)):
        return False
    return file_hash(path, source.algorithm) == source.digest


def _need_space(missing: Mapping[Source, Path], whole: int, store: Path, out: Path | None) -> None:
    """Compare the free space with the bytes still to be fetched and, for `out`, with the bytes to be unpacked."""
    needs = [(store, sum(max(0, (s.size or 0) - _size(_partial(path))) for s, path in missing.items()))]
    if out is not None:  # archives of image files are as large as their contents
        needs.append((out.parent, whole))
    disks: dict[int, int] = {}
    for folder, size in needs:
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder.stat().st_dev
        disks[disk] = disks.get(disk, 0) + size
        free = shutil.disk_usage(folder).free
        if disks[disk] > free:
            raise SrlibError(
                f"{folder}: fetching and unpacking needs {disks[disk] / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are "
                "free; free some space, or ask for fewer sets under `download` in params.yaml"
            )


def _check_mirror(mirror: str) -> None:
    if "://" not in mirror:
        if not Path(mirror).expanduser().is_dir():
            raise SrlibError(f"SRLIB_MIRROR: {mirror}: no such folder; an address begins with https://")
        return
    try:
        parts = urlsplit(mirror)
        good = _is_address(mirror) and parts.hostname and parts.username is None and not parts.query
    except ValueError:
        good = False
    if not good:
        raise SrlibError(
            "SRLIB_MIRROR: expected a folder or an address such as https://host/folder, without a password"
        )


def _is_address(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def _address(source: Source, mirror: str | None) -> str:
    if mirror is None:
        return source.address
    base = mirror if _is_address(mirror) else str(Path(mirror).expanduser())
    return f"{base.rstrip('/')}/{source.mirror}"


def _failure(source: Source, mirror: str | None, reason: str) -> SrlibError:
    reason = one_line(reason)
    return SrlibError(
        f"{source.name}: could not be fetched from {_address(source, mirror)}: {reason}; run it again to continue, or "
        f"set SRLIB_MIRROR to {'a' if mirror is None else 'another'} folder or address that holds {source.mirror}"
        + (f"; or {source.alternatives}" if source.alternatives else "")
    )


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _note(partial: Path) -> Path:
    """Return the file that records which version of the remote file a partial file belongs to."""
    return partial.with_name(f"{partial.name}.json")


def _is_irregular(path: Path) -> bool:
    """Return True for a folder, a pipe or a device; another process may move a file into the store at any moment."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    """Return a file's size, 0 without one; another process may move it at any moment, as above."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
