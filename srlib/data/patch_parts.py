"""Write patch files on a cluster: each file by one worker.

Hosts that write neighboring rows of one file on a network disk may overwrite each other's bytes, since such disks
transfer whole pages. So a task cuts all patches of one HR file, and keeps their LR patches in a file beside it. Other
tasks then put these together to the LR files, which hold the patches of several HR files. The bytes are those of a
single process.
"""

import functools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from srlib.atomic import remove
from srlib.cluster import Cluster
from srlib.data.patch_files import PatchFiles
from srlib.data.patch_plan import Job, Split

Files: TypeAlias = Mapping[tuple[Split, str], PatchFiles]
"""The files of each split and kind, `lr` or `hr`."""

_SCRATCH = "scratch"
_CHUNK = 2**20  # bytes of LR patches per read


@dataclass(frozen=True)
class _Piece:
    """The rows from `start` to `stop` of a split, which one HR file holds, and the jobs that cut them."""

    split: Split
    start: int
    stop: int
    jobs: tuple[Job, ...]

    @property
    def lr_name(self) -> str:
        return f"{self.split}-{self.start}.npy"


@dataclass(frozen=True)
class _LrFile:
    """An LR file of a split, by its number, and the pieces that it is put together from."""

    split: Split
    number: int
    pieces: tuple[_Piece, ...]


def write_on_cluster(
    plan: Sequence[Job], files: Files, cut: Callable[..., str | None], folder: Path, cluster: Cluster
) -> dict[str, str]:
    """Write all patch files; return one line, by image name, for each image that could not be decoded.

    Args:
        plan: The images with the corners of their patches.
        files: The files to write.
        cut: Function that writes the patches of a job, `cut(job, rows=files)`; it returns a line where it cannot.
        folder: The patch folder, on a disk that all workers share.
        cluster: The cluster.
    """
    scratch = folder / _SCRATCH
    scratch.mkdir()
    pieces = []
    for split in ("validation", "train"):  # the validation patches are one file: the longest task comes first
        pieces += list(_pieces([job for job in plan if job.split == split], split, files[split, "hr"]))
        for kind in ("lr", "hr"):
            if not files[split, kind].count:
                files[split, kind].create()
    write = functools.partial(_write_piece, files=files, cut=cut, scratch=scratch)
    mistakes = cluster.for_each(write, pieces, label="cutting patches", unit="files", task=1)
    if not any(mistakes):
        join = functools.partial(_join_lr, files=files, scratch=scratch)
        cluster.for_each(join, list(_lr_files(pieces, files)), label="joining LR patches", unit="files", task=1)
    remove(scratch)
    return {name: line for lines in mistakes for name, line in lines.items()}


def _pieces(jobs: Sequence[Job], split: Split, hr: PatchFiles) -> Iterator[_Piece]:
    """Yield the pieces of a split whose jobs are in the order of their rows."""
    first = 0
    for start in range(0, hr.count, hr.part):
        stop = min(start + hr.part, hr.count)
        while jobs[first].row + len(jobs[first].corners) <= start:
            first += 1
        own = []
        for job in jobs[first:]:
            if job.row >= stop:
                break
            corners = job.corners[max(start - job.row, 0) : stop - job.row]
            own.append(replace(job, corners=corners, row=max(job.row, start)))
        yield _Piece(split, start, stop, tuple(own))


def _write_piece(piece: _Piece, *, files: Files, cut: Callable[..., str | None], scratch: Path) -> dict[str, str]:
    """Write an HR file, and its LR patches to a file of their own, each under its name only when it is complete."""
    hr, lr = files[piece.split, "hr"], files[piece.split, "lr"]
    # A name of its own for each attempt: a worker that is believed to be dead may still write.
    work = scratch / secrets.token_hex(8)
    work.mkdir()
    count = piece.stop - piece.start
    rows = {
        (piece.split, kind): PatchFiles(work / f"{kind}.npy", count, whole.side, count, first=piece.start)
        for kind, whole in (("lr", lr), ("hr", hr))
    }
    for file in rows.values():
        file.create()
    mistakes = {job.pair.name: line for job in piece.jobs if (line := cut(job, rows=rows))}
    rows[piece.split, "lr"].path.replace(scratch / piece.lr_name)
    rows[piece.split, "hr"].path.replace(hr.file(piece.start // hr.part))
    work.rmdir()
    return mistakes


def _lr_files(pieces: Sequence[_Piece], files: Files) -> Iterator[_LrFile]:
    for split in ("validation", "train"):
        lr = files[split, "lr"]
        for start in range(0, lr.count, lr.part):
            own = [p for p in pieces if p.split == split and p.start < start + lr.part and p.stop > start]
            yield _LrFile(split, start // lr.part, tuple(replace(piece, jobs=()) for piece in own))


def _join_lr(target: _LrFile, *, files: Files, scratch: Path) -> None:
    """Write an LR file from the LR patches of its pieces."""
    lr = files[target.split, "lr"]
    start = target.number * lr.part
    stop = min(start + lr.part, lr.count)
    work = scratch / secrets.token_hex(8)
    work.mkdir()
    file = PatchFiles(work / "lr.npy", stop - start, lr.side, stop - start, first=start)
    file.create()
    step = max(_CHUNK // (3 * lr.side**2), 1)
    for piece in target.pieces:
        patches = np.load(scratch / piece.lr_name, mmap_mode="r")
        end = min(piece.stop, stop)
        for row in range(max(piece.start, start), end, step):
            file.write(row, patches[row - piece.start : min(row + step, end) - piece.start])
    file.path.replace(lr.file(target.number))
    work.rmdir()
