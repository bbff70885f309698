"""The download stage: public data, each file checked against its checksum, whatever the network does.

Finished and partial files live in a store that is named by checksum and outlives DVC's clearing of outputs, so nothing
is fetched twice and a broken transfer goes on where it stopped. A mirror (a folder, or an address) may stand in for the
network; its files are checked the same way.
"""

import contextlib
import fcntl
import os
import queue
import random
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from srlib.data.archive import unpack
from srlib.data.sources import Item, Source, local_path, plan
from srlib.data.transfer import CHUNK, Moved, RefusedError, UnfinishedError, transfer
from srlib.errors import SrlibError, one_line
from srlib.files import atomic_path, file_hash, remove, write_json
from srlib.params import Download
from srlib.progress import progress

PARALLEL = 4  # files at once
PATIENCE = (0.5, 1, 2, 4, 8, 16)  # seconds before each further try, at most; half of that at least
ADVANCE = 1 << 20  # bytes that a try must gain for the patience to begin anew
REFETCHES = 3  # whole files fetched with a wrong checksum before giving up
GRACE = 0.5  # seconds for the other transfers to stop; one that waits for the network is left behind
POLL = 0.1  # seconds between two looks at another process's lock


def download(
    role: str, out: Path, params: Download, *, scale: int, store: Path, mirror: str | None = None
) -> list[Item]:
    """Makes the folder of one role of the recipe: `train`, `test` or `features`.

    `train` gets HR/ (and LR/ where the source has LR pictures), `test` one <Set>/HR/ per set, `features` a weights
    file. Each also gets SOURCES.json, which says what it is made of.

    Args:
        role: Which part of the section.
        out: The folder to make; whole or not at all.
        params: The section of the recipe.
        scale: The factor of enlargement.
        store: The folder of finished and partial downloads.
        mirror: A folder or a base address that holds the files under `Source.mirror`.

    Returns:
        What the folder is made of.

    Raises:
        SrlibError: A file cannot be had, named with its address, or the disk is too small.
        ValueError: The recipe asks for what does not exist (see `sources.plan`).
    """
    items = plan(role, params, scale)
    paths = {item.source: local_path(item.source) for item in items if item.source.mirror is None}
    paths |= fetch([item.source for item in items if item.source.mirror], store, mirror, out)
    with atomic_path(out) as folder:
        folder.mkdir()
        for item in items:
            target = folder / item.target
            if item.members:
                unpack(paths[item.source], item.members, target)
            else:  # a copy, not a link: what happens to an output must not reach the store
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(paths[item.source], target)
        facts = [
            {"path": item.target, "address": s.address, s.algorithm: s.digest, "terms": s.terms}
            for item in items
            for s in [item.source]
        ]
        write_json(folder / "SOURCES.json", {role: params.model_dump(mode="json")[role], "files": facts})
    return items


def fetch(
    wanted: Iterable[Source], store: Path, mirror: str | None = None, out: Path | None = None
) -> dict[Source, Path]:
    """Makes sure that files are whole in the store, several at once, and says where.

    Args:
        wanted: Files of the network.
        store: The folder of finished and partial downloads.
        mirror: Where to fetch from instead.
        out: Where they will be copied or unpacked to; there must be space for that too.

    Raises:
        SrlibError: One of them cannot be had. The others stop; partial files stay for the next time.
    """
    found = {source: store / f"{source.digest}-{source.name}" for source in wanted}
    missing = [source for source, path in found.items() if not _is_whole(path, source)]
    _need_space(missing, found, store, out)
    if missing and mirror is not None:
        _check_mirror(mirror)
    # first the small ones, whose sizes are not known beforehand
    for sized in (False, True):
        if part := {source: found[source] for source in missing if bool(source.size) is sized}:
            _fetch_all(part, mirror, sized)
    return found


def _fetch_all(missing: dict[Source, Path], mirror: str | None, sized: bool) -> None:
    """Fetches files in threads; their sizes are all known or all unknown. The first error ends it."""
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
                except BaseException as error:  # raised again below, in the thread that waits
                    stop.set()
                    ended.put(error)
                else:
                    ended.put(None)

        # Daemons, so that Ctrl-C need not wait for a server that stalls.
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
    """Brings one file into the store; a process that does the same at this moment is waited for."""
    with _alone(_partial(path), stop) as file, _named(file.name):
        if _is_whole(path, source):  # another process was faster
            return
        if mirror is not None and not _is_address(mirror):
            _copy(source, file, mirror, moved, stop)
        else:
            _transfer(source, file, _partial(path), mirror, moved, stop)
        os.fsync(file.fileno())
        remove(_note(_partial(path)))
        _partial(path).replace(path)


def _transfer(
    source: Source, file: BinaryIO, partial: Path, mirror: str | None, moved: Moved, stop: threading.Event
) -> None:
    """Transfers until the checksum is right, with growing pauses after those that break off."""
    tries = wrong = furthest = 0
    ended = False
    while not _is_whole(partial, source):
        if ended:
            wrong += 1
            file.truncate(0)
            moved(0)
            if wrong == REFETCHES:
                raise _failure(source, mirror, f"{wrong} times the wrong {source.algorithm}, expected {source.digest}")
        try:
            transfer(_address(source, mirror), file, _note(partial), size=source.size, moved=moved, stop=stop)
            ended = True
        except RefusedError as error:
            raise _failure(source, mirror, str(error)) from None
        except UnfinishedError as error:
            ended = False
            if _size(partial) >= furthest + ADVANCE:
                furthest, tries = _size(partial), 0
            if tries == len(PATIENCE):
                raise _failure(source, mirror, str(error)) from None
            # not in step with everybody else whom the server cut off
            pause = max(PATIENCE[tries] * random.uniform(0.5, 1), error.after)
            if not stop.is_set():
                print(f"{source.name}: {one_line(error)}; going on in {pause:.2g} s", file=sys.stderr)
            if stop.wait(pause):
                raise _failure(source, mirror, str(error)) from None
            tries += 1


def _copy(source: Source, file: BinaryIO, mirror: str, moved: Moved, stop: threading.Event) -> None:
    """Copies a file out of a mirror that is a folder."""
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
    """Lets a full disk say which file it was about: `write` alone does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None


@contextlib.contextmanager
def _alone(partial: Path, stop: threading.Event) -> Iterator[BinaryIO]:
    """The partial file, opened to append, for one process and thread; an empty one is removed at the end.

    The lock is on the file itself, so that a killed process leaves no lock behind. Whoever gets it after the file was
    renamed or removed opens the path again.
    """
    while True:
        with partial.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if stop.wait(POLL):
                    raise SrlibError(f"{partial}: stopped while another process fetches it") from None
                continue
            if not partial.exists() or not os.path.samestat(os.fstat(file.fileno()), partial.stat()):
                continue
            try:
                yield file
            finally:
                if os.fstat(file.fileno()).st_size == 0:
                    remove(_note(partial))
                    remove(partial)
            return


def _is_whole(path: Path, source: Source) -> bool:
    if not path.is_file() or source.size not in (None, _size(path)):
        return False
    return file_hash(path, source.algorithm) == source.digest


def _need_space(missing: list[Source], found: dict[Source, Path], store: Path, out: Path | None) -> None:
    """Compares free space with what is still to be fetched and, for `out`, with the size of all that goes there."""
    needs = [(store, sum(max(0, (s.size or 0) - _size(_partial(found[s]))) for s in missing))]
    if out is not None:  # DIV2K's archives hold PNG and are as large as what they hold
        needs.append((out.parent, sum(source.size or 0 for source in found)))
    disks: dict[int, int] = {}
    for folder, size in needs:
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder.stat().st_dev
        disks[disk] = disks.get(disk, 0) + size
        free = shutil.disk_usage(folder).free
        if disks[disk] > free:
            raise SrlibError(
                f"{folder}: fetching and unpacking needs {disks[disk] / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are "
                "free; make room, or leave out sets under `download` in params.yaml"
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
        f"{source.name}: could not be fetched from {_address(source, mirror)}: {reason}; run it again to go on where "
        f"it stopped, or set SRLIB_MIRROR to a folder or an address that holds {source.mirror}"
    )


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _note(partial: Path) -> Path:
    """The file that remembers which version of the remote file a partial one is of."""
    return partial.with_name(f"{partial.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
