"""The work folder of a film: finished segments, from which a run that was interrupted continues.

It lies beside the result, hidden, and is removed once the result is complete.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from srlib.atomic import atomic_path, remove
from srlib.errors import DISK_FULL, SrlibError
from srlib.files import read_regular, write_json

_IDENTITY, _LOCK = "identity.json", "lock"
_LARGEST_RECORD = 2**20
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        path: Its file.
        times: (tick, duration) of each frame, in the order of time.
    """

    path: Path
    times: list[tuple[int, int]]


@dataclass(frozen=True)
class WorkFolder:
    """A work folder that this process holds the lock of. Made by `open_work_folder`.

    Attributes:
        path: The folder.
    """

    path: Path

    def finished(self) -> list[Segment]:
        """Return the finished segments up to the first that is missing or incomplete."""
        segments: list[Segment] = []
        while (segment := self._read(len(segments))) is not None:
            segments.append(segment)
        return segments

    def _read(self, number: int) -> Segment | None:
        file, record = self._file(number), self._record(number)
        try:
            content = json.loads(read_regular(record, limit=_LARGEST_RECORD))
            times = [(int(tick), int(duration)) for tick, duration in content["times"]]
            is_whole = file.stat().st_size == content["bytes"] and bool(times)
        except (OSError, ValueError, KeyError, TypeError, SrlibError):
            return None
        return Segment(file, times) if is_whole else None

    @contextlib.contextmanager
    def writing(self, number: int) -> Iterator[Path]:
        """Yield the path at which to write the segment of this number; it appears as a whole."""
        self._record(number).unlink(missing_ok=True)
        with atomic_path(self._file(number)) as temporary:
            yield temporary

    def finish(self, number: int, times: list[tuple[int, int]]) -> Segment:
        """Record a written segment as finished."""
        file = self._file(number)
        write_json(self._record(number), {"bytes": file.stat().st_size, "times": times})
        return Segment(file, times)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06}.segment"

    def _record(self, number: int) -> Path:
        return self.path / f"{number:06}.json"


def work_folder_of(target: Path) -> Path:
    """Return the path of the work folder of a result."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.work")


@contextlib.contextmanager
def open_work_folder(target: Path, identity: Mapping[str, str]) -> Iterator[WorkFolder]:
    """Open the work folder of a result, and lock it.

    Args:
        target: The result.
        identity: Everything that decides the frames of the result. Segments of another identity are removed, and what
            differs is reported.

    Yields:
        The folder. The caller removes it after the result has been written.

    Raises:
        SrlibError: Another process works on this result.
        OSError: The disk is full; names the result.
    """
    path = work_folder_of(target)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SrlibError(f"{target}: another run is working on it") from None
            _begin(path, target, identity)
            yield WorkFolder(path)
    except OSError as error:
        if error.errno in DISK_FULL:  # whichever file was next: the user knows the result only
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def _begin(path: Path, target: Path, identity: Mapping[str, str]) -> None:
    """Empty a work folder of another identity, and write this one."""
    before = _identity(path)
    if before == dict(identity):
        return
    if before is not None:
        keys = sorted(key for key in {*before, *identity} if before.get(key) != identity.get(key))
        print(f"{target}: starts afresh; the interrupted run differs in {', '.join(keys)}", file=sys.stderr)
    for entry in path.iterdir():
        if entry.name != _LOCK:
            remove(entry)
    write_json(path / _IDENTITY, dict(identity))


def _identity(path: Path) -> dict[str, str] | None:
    """Return the identity of the segments in a folder, None where there is none."""
    try:
        content = json.loads(read_regular(path / _IDENTITY, limit=_LARGEST_RECORD))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SrlibError):
        return {}
    return content if isinstance(content, dict) else {}
