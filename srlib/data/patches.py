"""Cutting pictures into aligned LR/HR patches: a few large files, the same bytes with any number of workers.

The LR picture is made from the whole HR picture and cut afterwards, so that no patch has edges of its own. Patches go
straight to their place in the files: memory holds one picture per worker.
"""

import contextlib
import csv
import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from srlib.data.images import read_image
from srlib.data.parallel import for_each
from srlib.data.pictures import Picture, check_picture, find_pictures, validation_part
from srlib.data.resize import crop_to_multiple, downscale
from srlib.errors import SrlibError
from srlib.files import atomic_path, remove, write_bytes
from srlib.params import Prepare

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
INDEX_COLUMNS = ("split", "row", "picture", "y", "x")
_CHUNK = 2**20  # bytes of HR patches per write
_PART = 2**28  # bytes of training patches per file, so that DVC hashes and sends several at once
_SPARE = 2**26  # bytes to be left on the disk


@dataclass(frozen=True)
class Summary:
    """What was prepared: counts, bytes on disk, and one line for each picture that was left out."""

    pictures: int
    train: int
    validation: int
    flat: int
    bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """A picture, its patches' top-left corners in LR pixels, and where they go: rows from `row` of a split's files."""

    picture: Picture
    corners: tuple[tuple[int, int], ...]
    flat: int = 0
    split: Split = "train"
    row: int = 0


def prepare_patches(
    pictures: Path, out: Path, params: Prepare, *, scale: int, seed: int, workers: int | None = None
) -> Summary:
    """Makes the patch folder `out` from a folder of pictures.

    It holds `{train,validation}_lr.npy`, uint8 RGB [N, p, p, 3], `{train,validation}_hr.npy`, uint8 RGB
    [N, s·p, s·p, 3], and `index.csv`: split, row in its files, picture, and the corner y, x in LR pixels. Training
    patches beyond 1 GiB go on in `train_hr.1.npy` and so forth (`train_lr.1.npy`), each with as many as the first.

    Args:
        pictures: Pictures at any depth, or folders `HR` and `LR` (see srlib.data.pictures).
        out: Replaced as a whole once everything is there.
        params: The `prepare` section.
        scale: HR over LR size.
        seed: Of the split and of the noise.
        workers: Pictures worked on at once; as many as there are cores by default. Does not change the bytes.

    Raises:
        SrlibError: Pictures that cannot be used (all in one message, before any work, unless `params.unusable` is
            `skip`), too few of them, or not enough space on the disk.
    """
    found, mistakes = find_pictures(pictures, given_lr=params.lr == "given", scale=scale)
    total = len(found) + len(mistakes)

    def survey(picture: Picture) -> _Job | str:
        try:
            return _survey(picture, params, scale)
        except SrlibError as error:
            return str(error)

    surveyed = for_each(survey, found, label="checking pictures", unit="pictures", workers=workers)
    mistakes += [mistake for mistake in surveyed if isinstance(mistake, str)]
    jobs = [job for job in surveyed if isinstance(job, _Job)]
    with atomic_path(Path(out)) as folder:
        while True:
            if mistakes and params.unusable == "stop":
                raise SrlibError(_unusable(mistakes, total))
            if not jobs:
                raise SrlibError("\n".join(["none of the pictures can be used (prepare.pictures):", *mistakes]))
            plan = _plan(jobs, params, seed)
            failed = _write(plan, folder, params, scale=scale, seed=seed, workers=workers)
            if not failed:
                break
            # Whole by their checksums, yet not to be decoded: plan again without them.
            mistakes += failed.values()
            jobs = [job for job in jobs if job.picture.name not in failed]
        size = sum(path.stat().st_size for path in folder.iterdir())
    train, validation = (sum(len(job.corners) for job in plan if job.split == split) for split in SPLITS)
    return Summary(len(plan), train, validation, sum(job.flat for job in plan), size, tuple(mistakes))


def _unusable(mistakes: Sequence[str], total: int) -> str:
    head = (
        f"{len(mistakes)} of {total} pictures cannot be used; mend or remove them, or set prepare.unusable to `skip`:"
    )
    return "\n".join([head, *mistakes])


def _survey(picture: Picture, params: Prepare, scale: int) -> _Job:
    """Checks a picture and finds its patches; raises SrlibError where it cannot be used."""
    height, width = check_picture(picture, scale=scale, patch=params.patch)
    corners = tuple(
        (y, x)
        for y in range(0, height - params.patch + 1, params.stride)
        for x in range(0, width - params.patch + 1, params.stride)
    )
    if not params.flat:
        return _Job(picture, corners)
    gray = cv2.cvtColor(read_image(picture.hr), cv2.COLOR_RGB2GRAY)
    side = params.patch * scale
    kept = tuple(
        (y, x)
        for y, x in corners
        if cv2.meanStdDev(gray[y * scale : y * scale + side, x * scale : x * scale + side])[1].item() >= params.flat
    )
    return _Job(picture, kept, flat=len(corners) - len(kept))


def _plan(jobs: Sequence[_Job], params: Prepare, seed: int) -> list[_Job]:
    """The jobs that have patches, each with its split and its first row there."""
    jobs = [job for job in jobs if job.corners]
    held_out = validation_part([job.picture for job in jobs], params.validation, seed)
    rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    plan = []
    for job in jobs:
        split: Split = "validation" if job.picture.name in held_out else "train"
        plan.append(replace(job, split=split, row=rows[split]))
        rows[split] += len(job.corners)
    return plan


def _write(
    plan: Sequence[_Job], folder: Path, params: Prepare, *, scale: int, seed: int, workers: int | None
) -> dict[str, str]:
    """Writes the patch folder; returns what was wrong with each picture that could not be decoded, by name."""
    remove(folder)
    folder.mkdir()
    needed = sum(len(job.corners) for job in plan) * 3 * params.patch**2 * (1 + scale**2) + _SPARE
    if (free := shutil.disk_usage(folder).free) < needed:
        raise SrlibError(f"{folder.parent}: the patches need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free")
    with contextlib.ExitStack() as stack:
        files = {}
        for split in SPLITS:
            count = sum(len(job.corners) for job in plan if job.split == split)
            for kind, side in (("lr", params.patch), ("hr", params.patch * scale)):
                part = max(_PART // (3 * side**2), 1) if split == "train" else count
                rows = _Rows(folder / f"{split}_{kind}.npy", count, side, part)
                files[split, kind] = stack.enter_context(contextlib.closing(rows))

        chunk = max(_CHUNK // (3 * (params.patch * scale) ** 2), 1)

        def cut(job: _Job) -> str | None:
            try:
                lr, hr = _read_pair(job.picture, params, scale, seed)
            except SrlibError as error:
                return str(error)
            for start in range(0, len(job.corners), chunk):
                corners = job.corners[start : start + chunk]
                files[job.split, "lr"].write(job.row + start, _patches(lr, corners, params.patch, 1))
                files[job.split, "hr"].write(job.row + start, _patches(hr, corners, params.patch, scale))
            return None

        mistakes = for_each(cut, plan, label="cutting patches", unit="pictures", workers=workers)
    # A name that is not UTF-8 goes in as the bytes it has.
    write_bytes(folder / "index.csv", _index(plan).encode("utf-8", "surrogateescape"))
    return {job.picture.name: mistake for job, mistake in zip(plan, mistakes, strict=True) if mistake}


def _read_pair(picture: Picture, params: Prepare, scale: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    hr = crop_to_multiple(read_image(picture.hr), scale)
    lr = read_image(picture.lr) if picture.lr else degrade(hr, scale, params, f"{seed}/{picture.name}")
    return lr, hr


def degrade(hr: np.ndarray, scale: int, params: Prepare, key: str) -> np.ndarray:
    """The LR picture, uint8 [H // scale, W // scale, 3]: MATLAB's bicubic, then noise and JPEG if asked for.

    Args:
        hr: uint8 RGB [H, W, 3].
        scale: HR over LR size.
        params: `edges`, `noise` (the standard deviation of Gaussian noise, in levels of 255) and `jpeg` (its quality).
        key: What the noise depends on, besides the size of the picture.
    """
    lr = downscale(hr, scale, params.edges)
    if params.noise:
        words = np.frombuffer(hashlib.sha256(os.fsencode(key)).digest()[:16], np.uint64)
        noise = np.random.Generator(np.random.Philox(key=words)).standard_normal(lr.shape, np.float32)
        lr = np.clip(np.floor(lr + params.noise * noise + 0.5), 0, 255).astype(np.uint8)
    if params.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, params.jpeg]
        _, content = cv2.imencode(".jpg", cv2.cvtColor(lr, cv2.COLOR_RGB2BGR), quality)
        lr = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))
    return lr


def _patches(image: np.ndarray, corners: Sequence[tuple[int, int]], patch: int, scale: int) -> np.ndarray:
    """Patches uint8 [n, s·patch, s·patch, 3] of a picture, at corners in LR pixels."""
    side = patch * scale
    return np.stack([image[y * scale : y * scale + side, x * scale : x * scale + side] for y, x in corners])


def _index(plan: Sequence[_Job]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    for split in SPLITS:
        for job in plan:
            if job.split == split:
                writer.writerows((split, job.row + i, job.picture.name, y, x) for i, (y, x) in enumerate(job.corners))
    return text.getvalue()


class _Rows:
    """Patches uint8 [count, side, side, 3] in .npy files of `part` each, written in any order by several threads."""

    def __init__(self, path: Path, count: int, side: int, part: int) -> None:
        self._part, self._row_bytes = max(part, 1), side * side * 3
        self._paths: list[Path] = []
        self._files: list[int] = []
        self._starts: list[int] = []
        for number, first in enumerate(range(0, max(count, 1), self._part)):
            self._paths.append(path.with_name(f"{path.stem}.{number}.npy") if number else path)
            self._files.append(os.open(self._paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            rows = min(count - first, self._part)
            head = io.BytesIO()
            shape = (rows, side, side, 3)
            np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
            self._starts.append(head.tell())
            self._write(number, 0, head.getvalue())
            os.truncate(self._files[-1], head.tell() + rows * self._row_bytes)

    def write(self, row: int, patches: np.ndarray) -> None:
        """Writes contiguous uint8 patches [n, side, side, 3] as the rows from `row`."""
        while len(patches):
            number, inside = divmod(row, self._part)
            here = patches[: self._part - inside]
            self._write(number, self._starts[number] + inside * self._row_bytes, here.reshape(-1).data)
            row, patches = row + len(here), patches[len(here) :]

    def _write(self, number: int, place: int, content: bytes | memoryview) -> None:
        try:
            while len(content):
                written = os.pwrite(self._files[number], content, place)
                place, content = place + written, content[written:]
        except OSError as error:
            raise SrlibError(f"{self._paths[number]}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        for file in self._files:
            os.close(file)
